"""D07, velocity limits: more of one kind of act of a player than a person has a reason for.

Key: brand and player. Deposits opened are counted on the log; new instruments, failed deposits and
failed logins on the player events. Each count is a sliding window of its own.

False-positive traps: retries after an outage of the payment provider (the same reference is one
deposit), a forgotten password (a successful login sets the count back), a notice sent again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, KeyedDetector
from fraud_agents.facts import PlayerFact
from fraud_agents.features import count_events, sum_legs
from fraud_agents.rules import Limit, make_rule
from fraud_agents.windows import Arrival, EventWindow, ExactSpec, WindowEntry
from schemas.events import Kind, PlayerEvent, WalletTransaction
from schemas.topics import PLAYER_EVENTS

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS

RULE: Final = make_rule(
    "D07",
    "review",
    10,
    "deposits",
    24 * _HOUR_MS,
    title="Velocity limits",
    cooldown_ms=25 * _HOUR_MS,
    limits={
        "instruments": Limit(3, "new instruments in 24 h", "our default"),
        "failed_deposits": Limit(
            5, "failed deposits in 10 min", "New Jersey: N.J.A.C. 13:69O-1.3(e)"
        ),
        "failed_logins": Limit(
            3, "failed logins in a row within 1 h", "New Jersey: N.J.A.C. 13:69O-1.4"
        ),
    },
    reason="10 deposits an hour are ours, the counts of failures are New Jersey's.",
)


class Counts(msgspec.Struct, array_like=True):
    """Windows of one player, by what is counted."""

    windows: dict[str, EventWindow] = {}


class _Counting(KeyedDetector[Counts]):
    state_type = Counts

    def _count(
        self, state: Counts, name: str, entry: WindowEntry, size_ms: int, threshold: int
    ) -> Iterator[list[WindowEntry]]:
        spec = ExactSpec(self.rule.grace_ms, size_ms + self.rule.grace_ms)
        window = state.windows.setdefault(name, EventWindow())
        if window.add(entry, spec) is Arrival.COUNTED:
            fullest = max(window.runs(entry.at_ms, size_ms), key=count_events)
            if count_events(fullest) >= threshold:
                yield list(fullest)

    def _finding(
        self,
        run: list[WindowEntry],
        reason: str,
        threshold: int,
        unit: str,
        event: WalletTransaction | PlayerEvent,
        currency: str | None = None,
    ) -> Finding:
        return Finding(
            reason=reason,
            severity=self.rule.severity,
            title=f"{len(run)} {unit} by player {event.player_id}",
            player_id=event.player_id,
            at_ms=event.occurred_at,
            window=(run[0].at_ms, run[-1].at_ms),
            observed=count_events(run),
            threshold=threshold,
            unit=unit,
            offsets=[entry.offset for entry in run],
            event_ids=[entry.event_id for entry in run],
            evidence={"operator": ">="},
            exposed_minor=sum(entry.value for entry in run) if currency else None,
            currency=currency,
        )


class DepositVelocity(_Counting):
    """D07 over one partition of the log: deposits opened."""

    kinds: ClassVar[frozenset[str] | None] = frozenset({Kind.INFORMATIONAL.value})

    def find(self, state: Counts, event: WalletTransaction, offset: int) -> Iterator[Finding]:
        """Count a deposit that a player opened."""
        if event.operation != "deposit.opened":
            return
        minor, currency = sum_legs(event, Kind.INFORMATIONAL)
        entry = WindowEntry(event.occurred_at, offset, event.event_id, minor)
        threshold = self.rule.threshold
        for run in self._count(state, "deposits", entry, _HOUR_MS, threshold):
            yield self._finding(run, "DEPOSITS", threshold, "deposits", event, currency)


class PlayerVelocity(_Counting):
    """D07 over one partition of the player events: instruments and failures."""

    kinds: ClassVar[frozenset[str] | None] = frozenset(
        {
            PlayerFact.INSTRUMENT_ADDED.value,
            PlayerFact.DEPOSIT_FAILED.value,
            PlayerFact.LOGIN_FAILED.value,
            PlayerFact.LOGIN.value,
        }
    )
    topic: ClassVar[str] = PLAYER_EVENTS
    _COUNTED: ClassVar[dict[str, tuple[str, int]]] = {
        PlayerFact.INSTRUMENT_ADDED.value: ("instruments", 24 * _HOUR_MS),
        PlayerFact.DEPOSIT_FAILED.value: ("failed_deposits", 10 * _MINUTE_MS),
        PlayerFact.LOGIN_FAILED.value: ("failed_logins", _HOUR_MS),
    }

    def find(self, state: Counts, event: PlayerEvent, offset: int) -> Iterator[Finding]:
        """Count an act of a player; a login that succeeds begins the failed ones anew."""
        if event.type == PlayerFact.LOGIN:
            state.windows.pop("failed_logins", None)
            return
        name, size_ms = self._COUNTED[event.type]
        entry = WindowEntry(event.occurred_at, offset, event.event_id)
        threshold = self.rule.limit(name)
        for run in self._count(state, name, entry, size_ms, threshold):
            yield self._finding(run, name.upper(), threshold, name.replace("_", " "), event)
