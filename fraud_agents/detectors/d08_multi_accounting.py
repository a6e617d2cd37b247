"""D08, multi-accounting: one person behind several accounts.

Key: the thing that they share. A payment instrument, or the hash of a government id, of two
accounts is a hard sign; a device needs three accounts within 30 days. In Germany a payment may come
from an account in the player's own name only, so a shared instrument there holds the money.

False-positive traps: a shared address or network (never a sign by itself: households, students,
carriers' address translation), two people at one device, a device that is sold (the 30 days), a
thing that very many share (`hub`: an internet cafe or a test card; it is dropped), one player who
adds the same card again.

Of one player, so many things of each kind are remembered (`THINGS_MAX`), those that they used last:
a browser may show another device at each login. More cards or ids than that are no longer a slip.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from sys import intern
from types import MappingProxyType
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, escape_key
from fraud_agents.detectors.signal_base import Scope, SignalDetector
from fraud_agents.facts import PlayerFact
from fraud_agents.rules import Limit, Rule, Severity, make_rule
from fraud_agents.signals import Signal
from schemas.topics import PLAYER_EVENTS

_DAY_MS: Final = 86_400_000
HUB: Final = 50
"""Players beyond which a thing says nothing about a person."""
THINGS_MAX: Final[Mapping[str, int]] = MappingProxyType(
    {"instrument": 64, "government_id": 16, "device": 64}
)
"""Things of each kind that are remembered of one player."""
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
    """Players who used one thing: the latest use of each, with its place and event.

    Of a hub, the last one: it is forgotten when that player has used many others since.
    """

    players: dict[str, tuple[int, tuple[str, int, int], str]] = {}
    is_hub: bool = False


class MultiAccounting(SignalDetector[SharingState]):
    """D08 over the player events of every partition."""

    scope: ClassVar[Scope] = Scope.ALL
    topics: ClassVar[tuple[str, ...]] = (PLAYER_EVENTS,)
    signals: ClassVar[frozenset[str]] = frozenset(_SHARED)
    state_type = SharingState

    def __init__(self, rule: Rule, partition: int) -> None:
        super().__init__(rule, partition)
        self._used: dict[tuple[str, str], list[str]] = {}
        """By brand and kind, and player: the things whose states name the player, the one that was
        used last at the end. It says nothing that the states do not, so it is in no snapshot."""

    def key_of(self, event: Signal) -> str | None:
        """Return the thing that a signal names; None where it names none."""
        name = _SHARED[event.kind]
        value = event.attributes.get(name, "")
        return escape_key(event.brand, name, value) if value else None

    def find(self, state: SharingState, event: Signal, offset: int) -> Iterator[Finding]:
        """Count the players who share a thing."""
        del offset
        is_known = event.player_id in state.players
        self._use(state, event)
        if state.is_hub:
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

    def _use(self, state: SharingState, event: Signal) -> None:
        """Note that a player uses a thing, and forget the one that they used longest ago."""
        player = event.player_id
        state.players.pop(player, None)
        if state.is_hub or len(state.players) == HUB:
            state.is_hub = True
            self._drop_user(self.key, state.players)
            state.players.clear()
        state.players[player] = (event.at_ms, event.place, event.event_id)
        used = self._used.setdefault((_kind_of(self.key), player), [])
        if self.key in used:
            used.remove(self.key)
        used.append(self.key)
        most = THINGS_MAX[_SHARED[event.kind]]
        if len(used) > most:
            # What is idle counts no more, whether it was swept already or not.
            used[:] = [key for key in used if self._is_known(key)]
        for key in used[:-most]:
            other = self._states[key][1]
            del other.players[player]
            if not other.players:
                del self._states[key]
        del used[:-most]

    def _is_known(self, key: str) -> bool:
        return self._states[key][0] + self.rule.idle_ms >= self.watermark_ms

    def _drop_user(self, key: str, players: Iterable[str]) -> None:
        for player in players:
            name = (_kind_of(key), player)
            used = self._used.get(name, [])
            if key in used:
                used.remove(key)
            if not used:
                self._used.pop(name, None)

    def note_forgotten(self, key: str, state: SharingState) -> None:
        """Forget that the players of an idle thing have used it."""
        self._drop_user(key, state.players)

    def restore(self, state: bytes) -> None:
        """Take over a snapshot. Raises ValueError for one of another format."""
        super().restore(state)
        uses = [
            (at_ms, place, key, player)
            for key, (_, own) in self._states.items()
            for player, (at_ms, place, _) in own.players.items()
        ]
        self._used = {}
        for _, _, key, player in sorted(uses):
            self._used.setdefault((_kind_of(key), player), []).append(key)


def _kind_of(key: str) -> str:
    """Return the brand and the kind of a thing's key."""
    return intern(key.rpartition(":")[0])
