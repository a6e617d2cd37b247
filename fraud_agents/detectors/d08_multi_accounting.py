"""D08, multi-accounting: one person behind several accounts.

Key: the thing that they share. A payment instrument, or the hash of a government id, of two
accounts is a hard sign; a device needs three accounts within 30 days. In Germany a payment may come
from an account in the player's own name only, so a shared instrument there holds the money.

False-positive traps: a shared address or network (never a sign by itself: households, students,
carriers' address translation), two people at one device, a device that is sold (the 30 days), a
thing that very many share (`hub`: an internet cafe or a test card; it is dropped), one player who
adds the same card again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, escape_key
from fraud_agents.detectors.signal_base import Scope, SignalDetector
from fraud_agents.facts import PlayerFact
from fraud_agents.rules import Limit, Severity, make_rule
from fraud_agents.signals import Signal
from schemas.topics import PLAYER_EVENTS

_DAY_MS: Final = 86_400_000
HUB: Final = 50
"""Players beyond which a thing says nothing about a person."""
_SHARED: Final = {
    PlayerFact.INSTRUMENT_ADDED.value: "instrument",
    PlayerFact.REGISTERED.value: "government_id",
    PlayerFact.LOGIN.value: "device",
}

RULE: Final = make_rule(
    "D08",
    "review",
    2,
    "accounts",
    30 * _DAY_MS,
    title="Multi-accounting",
    limits={
        "device_accounts": Limit(3, "accounts", "our default"),
        "device_window": Limit(30 * _DAY_MS, "ms", "our default", "not above"),
    },
    idle_ms=370 * _DAY_MS,
    words={"own_name_regions": ["DE"]},
    reason=(
        "One account for each player is a rule in New Jersey (13:69O-1.3(c)) and of operators "
        "elsewhere; own payment accounts are GlueStV 6b(4). Instruments are remembered for a year."
    ),
)


class SharingState(msgspec.Struct, array_like=True):
    """Players who used one thing: the latest use of each, with its place and event."""

    players: dict[str, tuple[int, tuple[str, int, int], str]] = {}
    is_hub: bool = False


class MultiAccounting(SignalDetector[SharingState]):
    """D08 over the player events of every partition."""

    scope: ClassVar[Scope] = Scope.ALL
    topics: ClassVar[tuple[str, ...]] = (PLAYER_EVENTS,)
    signals: ClassVar[frozenset[str]] = frozenset(_SHARED)
    state_type = SharingState

    def key_of(self, event: Signal) -> str | None:
        """Return the thing that a signal names; None where it names none."""
        name = _SHARED[event.kind]
        value = event.attributes.get(name, "")
        return escape_key(event.brand, name, value) if value else None

    def find(self, state: SharingState, event: Signal, offset: int) -> Iterator[Finding]:
        """Count the players who share a thing."""
        del offset
        if state.is_hub:
            return
        is_known = event.player_id in state.players
        state.players.pop(event.player_id, None)
        state.players[event.player_id] = (event.at_ms, event.place, event.event_id)
        if len(state.players) > HUB:
            state.is_hub, state.players = True, {}
            return
        name, players, threshold = _SHARED[event.kind], state.players, self.rule.threshold
        if name == "device":
            threshold = self.rule.limit("device_accounts")
            horizon_ms = event.at_ms - self.rule.limit("device_window")
            players = {who: use for who, use in players.items() if use[0] >= horizon_ms}
        if is_known or len(players) < threshold:
            return
        is_breach = name == "instrument" and event.region in self.rule.words["own_name_regions"]
        severity: Severity = "hold" if is_breach else self.rule.severity
        yield Finding(
            reason=name.upper(),
            severity=severity,
            title=f"{len(players)} accounts share one {name.replace('_', ' ')}",
            player_id=event.player_id,
            at_ms=event.at_ms,
            window=(min(use[0] for use in players.values()), event.at_ms),
            observed=len(players),
            threshold=threshold,
            unit=self.rule.unit,
            places=[use[1] for use in players.values()],
            event_ids=[use[2] for use in players.values()],
            evidence={"players": " ".join(players), "region": event.region},
        )
