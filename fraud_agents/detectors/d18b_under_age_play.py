"""D18B, play or deposit while under age: by the date of birth of the registration.

Key: brand and player. A registration that says when the player was born gives the moment at which
they come of age: local midnight of that birthday, in the zone of the region, else of the
registration, else UTC; who is born on a 29 February comes of age on 1 March. Bets and openings of
deposits before it, by their own event times, are breaches. Where the registration arrives after
what it forbids, it is found all the same. Only players who are under age are remembered, until they
come of age.

False-positive traps: a birthday at local midnight, a later registration that corrects the date (the
latest applies), a registration without a date or with one that cannot be read (nothing is known:
the identity check of D18 has to refuse), a bet of before that is settled after (wins are not looked
at).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding
from fraud_agents.detectors.signal_base import Scope, SignalDetector
from fraud_agents.facts import PlayerFact
from fraud_agents.features import of_age_ms
from fraud_agents.rules import Limit, Rule, make_rule
from fraud_agents.signals import DEPOSIT_OPENED, Signal
from schemas.events import Kind
from schemas.topics import PLAYER_EVENTS, TRANSACTIONS

_DAY_MS: Final = 86_400_000

RULE: Final = make_rule(
    "D18B",
    "block",
    1,
    "acts",
    60_000,
    title="Play while under age",
    cooldown_ms=_DAY_MS,
    idle_ms=_DAY_MS,
    limits={
        "legal_age": Limit(
            18, "years", "GlueStV 4(3); Great Britain, Malta, Spain and Sweden alike", "below"
        ),
    },
    regions={
        "CA-ON": {"legal_age": Limit(19, "years", "AGCO Standard 3.01", "below")},
        "US-NJ": {"legal_age": Limit(21, "years", "N.J.S.A. 5:12-119", "below")},
    },
    words={
        "zones": [
            *("DE Europe/Berlin", "ES Europe/Madrid", "GB Europe/London", "MT Europe/Malta"),
            *("SE Europe/Stockholm", "CA-ON America/Toronto", "US-NJ America/New_York"),
        ]
    },
    reason=(
        "Zero tolerance in every jurisdiction. The identity check comes first, and D18 finds play "
        "after it; this finds the account that was not checked, or let through."
    ),
)


class MinorState(msgspec.Struct, array_like=True):
    """When a player who is under age comes of age; 0 where that is not known."""

    of_age_ms: int = 0


class UnderAgePlay(SignalDetector[MinorState]):
    """D18B over the log and the player events of one partition."""

    scope: ClassVar[Scope] = Scope.PLAYER
    topics: ClassVar[tuple[str, ...]] = (PLAYER_EVENTS, TRANSACTIONS)
    signals: ClassVar[frozenset[str]] = frozenset(
        {Kind.BET.value, DEPOSIT_OPENED, PlayerFact.REGISTERED.value}
    )
    state_type = MinorState

    def __init__(self, rule: Rule, partition: int) -> None:
        super().__init__(rule, partition)
        self._zones = dict(line.split(" ", 1) for line in rule.words["zones"])

    def key_of(self, event: Signal) -> str | None:
        """Return the player of a registration, or of an act if they are under age."""
        is_registration = event.kind == PlayerFact.REGISTERED
        if not is_registration and not self._states:
            return None  # nearly always: no bet costs more than this
        key = super().key_of(event)
        return key if is_registration or key in self._states else None

    def find(self, state: MinorState, event: Signal, offset: int) -> Iterator[Finding]:
        """Take in a date of birth, or compare an act with it."""
        del offset
        if event.kind == PlayerFact.REGISTERED:
            self._register(state, event)
        elif event.at_ms < state.of_age_ms:
            yield self._finding(event)

    def _register(self, state: MinorState, event: Signal) -> None:
        born_on = event.attributes.get("born_on", "")
        zone = self._zones.get(event.region) or event.attributes.get("time_zone", "")
        years = self.rule.limit("legal_age", event.region)
        if born_on:
            state.of_age_ms = of_age_ms(born_on, years, zone) or 0
        if state.of_age_ms <= event.at_ms:
            del self._states[self.key]

    def retain(self, state: MinorState) -> bool:
        """Return whether a player is still under age; that is never forgotten."""
        return state.of_age_ms > self.watermark_ms

    def _finding(self, event: Signal) -> Finding:
        what = "bet" if event.kind == Kind.BET else "deposit"
        return Finding(
            reason="",
            severity=self.rule.severity,
            title=f"{what} by a player under age",
            player_id=event.player_id,
            at_ms=event.at_ms,
            window=(event.at_ms, event.at_ms),
            observed=1,
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            places=[event.place],
            event_ids=[event.event_id],
            # Not the date: an alert is read by more people than a registration.
            evidence={
                "legal_age": str(self.rule.limit("legal_age", event.region)),
                "region": event.region,
                "act": what,
            },
            exposed_minor=event.minor,
            currency=event.currency,
            adds=True,
        )
