"""D10, opposite bets: accounts that belong together take both sides, so that nothing is at risk.

Key: brand, provider and game; the alert names the pair. Two players are linked when they share a
payment instrument, a device or an address. A round counts when the two bet on outcomes that
complete each other, with stakes that differ by less than `difference`; from `rounds` within 24
hours on a person looks. It is for washing bonuses, for an affiliate's turnover, or for laundering.

False-positive traps: strangers on both sides of one table (not linked), a couple who bet on the
same side, stakes that differ, one evening with a few such rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, escape_key
from fraud_agents.detectors.signal_base import Scope, SignalDetector
from fraud_agents.facts import PlayerFact
from fraud_agents.rules import Limit, Rule, make_rule
from fraud_agents.signals import RESULT, Signal
from schemas.topics import GAME_RESULTS, PLAYER_EVENTS

_DAY_MS: Final = 86_400_000
ROUNDS_MAX: Final = 256
"""Rounds of a game that are remembered to be completed by another player's result."""
SHARED_MAX: Final = 16
_SHARED: Final = ("instrument", "device", "address")

RULE: Final = make_rule(
    "D10",
    "review",
    10,
    "rounds",
    _DAY_MS,
    title="Opposite bets",
    idle_ms=30 * _DAY_MS,
    limits={"difference": Limit(5, "% of the larger stake", "our default", "below")},
    words={"opposites": ["red black", "even odd", "low high", "player banker"]},
    reason="Ten rounds a day are ours: a couple at one table does that by accident now and then.",
)


class TableBet(msgspec.Struct, frozen=True, array_like=True):
    """A player's bet in a round."""

    player_id: str
    selection: str
    minor: int
    place: tuple[str, int, int]
    event_id: str


class TableState(msgspec.Struct, array_like=True):
    """Recent rounds of one game, oldest first, and the covered rounds of each pair."""

    rounds: dict[str, list[TableBet]] = {}
    covered: dict[str, list[tuple[int, int, tuple[str, int, int], str]]] = {}


class OppositeBets(SignalDetector[TableState]):
    """D10 over the player events and the game results of every partition."""

    scope: ClassVar[Scope] = Scope.ALL
    topics: ClassVar[tuple[str, ...]] = (PLAYER_EVENTS, GAME_RESULTS)
    signals: ClassVar[frozenset[str]] = frozenset(
        {
            RESULT,
            PlayerFact.REGISTERED.value,
            PlayerFact.LOGIN.value,
            PlayerFact.INSTRUMENT_ADDED.value,
        }
    )
    state_type = TableState

    def __init__(self, rule: Rule, partition: int) -> None:
        super().__init__(rule, partition)
        self._opposites = {frozenset(line.split(" ")) for line in rule.words["opposites"]}
        self._things: dict[str, list[str]] = {}

    def key_of(self, event: Signal) -> str | None:
        """Return the game of a result; note what a player event shares."""
        own = event.attributes
        if event.kind == RESULT:
            return escape_key(event.brand, own["provider"], own["game"])
        things = self._things.setdefault(escape_key(event.brand, event.player_id), [])
        for name in _SHARED:
            thing = f"{name} {own[name]}" if own.get(name) else ""
            if thing and thing not in things:
                things.append(thing)
                del things[:-SHARED_MAX]
        return None

    def find(self, state: TableState, event: Signal, offset: int) -> Iterator[Finding]:
        """Compare a bet with those of others in its round."""
        del offset
        own = event.attributes
        bet = TableBet(event.player_id, own["selection"], event.minor, event.place, event.event_id)
        bets = state.rounds.setdefault(own["round"], [])
        for other in bets:
            if self._covers(event.brand, bet, other):
                yield from self._count(state, event, bet, other)
        bets.append(bet)
        if len(state.rounds) > ROUNDS_MAX:
            del state.rounds[next(iter(state.rounds))]

    def _covers(self, brand: str, bet: TableBet, other: TableBet) -> bool:
        larger = max(bet.minor, other.minor)
        if frozenset((bet.selection, other.selection)) not in self._opposites:
            return False
        if 100 * abs(bet.minor - other.minor) >= self.rule.limit("difference") * larger:
            return False
        first, second = (
            self._things.get(escape_key(brand, one.player_id), []) for one in (bet, other)
        )
        return not set(first).isdisjoint(second)

    def _count(
        self, state: TableState, event: Signal, bet: TableBet, other: TableBet
    ) -> Iterator[Finding]:
        pair = " ".join(sorted((bet.player_id, other.player_id)))
        horizon_ms = event.at_ms - self.rule.window_ms
        rounds = [one for one in state.covered.get(pair, []) if one[0] > horizon_ms]
        rounds.append((event.at_ms, bet.minor + other.minor, event.place, event.event_id))
        state.covered[pair] = rounds
        if len(rounds) < self.rule.threshold:
            return
        yield Finding(
            reason="",
            severity=self.rule.severity,
            title=f"{len(rounds)} rounds in which two linked players took both sides",
            player_id=event.player_id,
            at_ms=event.at_ms,
            window=(rounds[0][0], event.at_ms),
            observed=len(rounds),
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            places=[one[2] for one in rounds],
            event_ids=[one[3] for one in rounds],
            evidence={"players": pair, "game": event.attributes["game"]},
            exposed_minor=sum(one[1] for one in rounds),
            currency=event.currency,
            key_suffix=escape_key(pair),
        )

    def state(self) -> bytes:
        """Return everything that future answers depend on."""
        return msgspec.msgpack.encode((super().state(), self._things))

    def restore(self, state: bytes) -> None:
        """Take over a snapshot. Raises ValueError for one of another format."""
        own, self._things = msgspec.msgpack.decode(state, type=tuple[bytes, dict[str, list[str]]])
        super().restore(own)
