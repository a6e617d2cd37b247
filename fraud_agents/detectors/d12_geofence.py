"""D12, geofence: a bet from outside the place where its licence allows one.

Key: brand and player. Where the law goes by the position (New Jersey, Ontario), a bet needs a
location inside, at most `age` old at the time of the bet; without one it is refused and reported.
Bets and locations are joined by event time, whichever came first.

False-positive traps: residence-based jurisdictions (no position is asked for), a location that is
delivered after its bet, cells at a border and networks that are homed abroad (the next location
inside ends it: each bet is compared with the latest before it).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding
from fraud_agents.detectors.signal_base import Scope, SignalDetector
from fraud_agents.facts import PlayerFact
from fraud_agents.rules import Limit, make_rule
from fraud_agents.signals import Signal
from schemas.events import Kind
from schemas.topics import PLAYER_EVENTS, TRANSACTIONS

_DAY_MS: Final = 86_400_000

RULE: Final = make_rule(
    "D12",
    "block",
    1,
    "bets",
    60_000,
    title="Geofence",
    cooldown_ms=_DAY_MS,
    limits={"age": Limit(300_000, "ms", "our default for how old a location may be", "above")},
    words={"regions": ["CA-ON", "US-NJ"]},
    reason=(
        "Ontario's Standard 3.02 asks for dynamic monitoring in the province at the wager, New "
        "Jersey for the position in the state. No location is as bad as one outside."
    ),
)


class LocationState(msgspec.Struct, array_like=True):
    """Latest location of one player."""

    at_ms: int = 0
    jurisdiction: str = ""


class Geofence(SignalDetector[LocationState]):
    """D12 over the log and the player events of one partition."""

    scope: ClassVar[Scope] = Scope.PLAYER
    topics: ClassVar[tuple[str, ...]] = (PLAYER_EVENTS, TRANSACTIONS)
    signals: ClassVar[frozenset[str]] = frozenset({Kind.BET.value, PlayerFact.LOCATED.value})
    state_type = LocationState

    def key_of(self, event: Signal) -> str | None:
        """Return the player; None for a bet where no position is asked for."""
        if event.kind == Kind.BET and event.region not in self.rule.words["regions"]:
            return None
        return super().key_of(event)

    def find(self, state: LocationState, event: Signal, offset: int) -> Iterator[Finding]:
        """Remember a location, or compare a bet with the latest."""
        del offset
        if event.kind == PlayerFact.LOCATED:
            state.at_ms = event.at_ms
            state.jurisdiction = event.attributes.get("jurisdiction", "")
            return
        age_ms = event.at_ms - state.at_ms
        if not state.at_ms:
            reason = "NO_LOCATION"
        elif age_ms > self.rule.limit("age"):
            reason = "OLD_LOCATION"
        elif state.jurisdiction != event.region:
            reason = "OUTSIDE"
        else:
            return
        yield Finding(
            reason=reason,
            severity=self.rule.severity,
            title=f"Bet under {event.region}: {reason.lower().replace('_', ' ')}",
            player_id=event.player_id,
            at_ms=event.at_ms,
            window=(state.at_ms or event.at_ms, event.at_ms),
            observed=1,
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            places=[event.place],
            event_ids=[event.event_id],
            evidence={
                "region": event.region,
                "located_in": state.jurisdiction,
                "location_age_ms": str(age_ms) if state.at_ms else "none",
            },
            exposed_minor=event.minor,
            currency=event.currency,
            adds=True,
        )
