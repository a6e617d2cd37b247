"""D10, opposite bets: accounts that belong together take both sides, so that nothing is at risk.

Key: brand, provider and game; the alert names the pair. Two players are linked when they share a
payment instrument, a device or an address; what a player shares is known until they were not seen
for a year. A round counts when the two bet on outcomes that
complete each other, with stakes that differ by less than `difference`; from `rounds` within 24
hours on a person looks. It is for washing bonuses, for an affiliate's turnover, or for laundering.

False-positive traps: strangers on both sides of one table (not linked), a couple who bet on the
same side, stakes that differ, one evening with a few such rounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, escape_key
from fraud_agents.detectors.player_memory import PlayerMemory
from fraud_agents.detectors.signal_base import Scope, SignalDetector
from fraud_agents.facts import PlayerFact
from fraud_agents.rules import Limit, Rule, make_rule
from fraud_agents.signals import RESULT, Signal
from schemas.events import FraudAlert
from schemas.topics import GAME_RESULTS, PLAYER_EVENTS

_DAY_MS: Final = 86_400_000
ROUNDS_MAX: Final = 256
ROUND_MS: Final = 3_600_000
"""Rounds of a game that are remembered to be completed by another player's result, and how long."""
BETS_MAX: Final = 64
"""Bets of one player in one round."""
COVERED_MAX: Final = 1_024
"""Covered rounds of a pair that are counted in a window."""
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


class TableRound(msgspec.Struct, array_like=True):
    """Bets of one round by brand and player, each with its number in the round."""

    first_ms: int
    count: int = 0
    bets: dict[str, list[tuple[int, TableBet]]] = {}


class TableState(msgspec.Struct, array_like=True):
    """Recent rounds of one game, oldest first, and the covered rounds of each pair."""

    rounds: dict[str, TableRound] = {}
    covered: dict[str, list[tuple[int, int, tuple[str, int, int], str]]] = {}
    covered_ms: int = 0
    """When pairs that are out of date were dropped last."""


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
        self._things: PlayerMemory[list[str]] = PlayerMemory()
        self._sharers: dict[str, str | set[str]] = {}
        """Who has a thing: one player, or several."""

    def key_of(self, event: Signal) -> str | None:
        """Return the game of a result; note what a player event shares."""
        own = event.attributes
        if event.kind == RESULT:
            return escape_key(event.brand, own["provider"], own["game"])
        self._learn(event)
        return None

    def _learn(self, event: Signal) -> None:
        player, own, at_ms = self._name_of(event), event.attributes, self.watermark_ms
        things = self._things.get(player, at_ms)
        if things is None:
            self._drop_sharer(player, self._things.pop(player) or ())
            things = []
        for name in _SHARED:
            thing = escape_key(event.brand, name, own[name]) if own.get(name) else ""
            if thing and thing not in things:
                things.append(thing)
                self._add_sharer(player, thing)
        self._drop_sharer(player, things[:-SHARED_MAX])
        del things[:-SHARED_MAX]
        self._things.put(player, at_ms, things)

    def _name_of(self, event: Signal) -> str:
        return escape_key(event.brand, event.player_id)

    def _add_sharer(self, player: str, thing: str) -> None:
        sharers = self._sharers.setdefault(thing, player)
        if isinstance(sharers, set):
            sharers.add(player)
        elif sharers != player:
            self._sharers[thing] = {sharers, player}

    def _drop_sharer(self, player: str, things: Iterable[str]) -> None:
        for thing in things:
            sharers = self._sharers[thing]
            if isinstance(sharers, set) and len(sharers) > 1:
                sharers.discard(player)
            else:
                del self._sharers[thing]

    def find(self, state: TableState, event: Signal, offset: int) -> Iterator[Finding]:
        """Compare a bet with those of linked players in its round."""
        del offset
        own = event.attributes
        bet = TableBet(event.player_id, own["selection"], event.minor, event.place, event.event_id)
        self._drop_rounds(state, event.at_ms)
        played = state.rounds.get(own["round"])
        if played is None:
            played = state.rounds[own["round"]] = TableRound(event.at_ms)
        for other in self._linked_bets(played, event):
            if self._covers(bet, other):
                yield from self._count(state, event, bet, other)
        bets = played.bets.setdefault(self._name_of(event), [])
        bets.append((played.count, bet))
        del bets[:-BETS_MAX]
        played.count += 1

    def _drop_rounds(self, state: TableState, at_ms: int) -> None:
        while state.rounds:
            oldest = next(iter(state.rounds))
            is_over = state.rounds[oldest].first_ms < at_ms - ROUND_MS
            if not is_over and len(state.rounds) <= ROUNDS_MAX:
                break
            del state.rounds[oldest]

    def _linked_bets(self, played: TableRound, event: Signal) -> list[TableBet]:
        """Return the bets of others in a round who share a thing with a player, in their order."""
        player, at_ms = self._name_of(event), self.watermark_ms
        found: dict[int, TableBet] = {}
        for thing in self._things.see(player, at_ms) or ():
            sharers = self._sharers[thing]
            if isinstance(sharers, str):
                continue  # only this player has it
            fewer, more = sorted((sharers, played.bets), key=len)
            for other in fewer:
                is_linked = other != player and other in more
                if is_linked and self._things.get(other, at_ms) is not None:
                    found |= played.bets[other]
        return [found[number] for number in sorted(found)]

    def _covers(self, bet: TableBet, other: TableBet) -> bool:
        larger = max(bet.minor, other.minor)
        if frozenset((bet.selection, other.selection)) not in self._opposites:
            return False
        return 100 * abs(bet.minor - other.minor) < self.rule.limit("difference") * larger

    def _count(
        self, state: TableState, event: Signal, bet: TableBet, other: TableBet
    ) -> Iterator[Finding]:
        pair = " ".join(sorted((bet.player_id, other.player_id)))
        horizon_ms = event.at_ms - self.rule.window_ms
        self._drop_pairs(state, horizon_ms)
        rounds = [one for one in state.covered.get(pair, []) if one[0] > horizon_ms]
        rounds = rounds[-COVERED_MAX:]
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

    def _drop_pairs(self, state: TableState, horizon_ms: int) -> None:
        """Drop the pairs whose rounds are all out of date, once in each window."""
        if state.covered_ms > horizon_ms:
            return
        state.covered_ms = horizon_ms + self.rule.window_ms
        for pair in [pair for pair, own in state.covered.items() if own[-1][0] <= horizon_ms]:
            del state.covered[pair]

    def advance(self, watermark_ms: int) -> list[FraudAlert]:
        """Raise the watermark: fire what is due, and forget who was not seen for a year."""
        alerts = super().advance(watermark_ms)
        for player, things in self._things.forget(self.watermark_ms):
            self._drop_sharer(player, things)
        return alerts

    def state(self) -> bytes:
        """Return everything that future answers depend on."""
        return msgspec.msgpack.encode((super().state(), [*self._things.items()]))

    def restore(self, state: bytes) -> None:
        """Take over a snapshot. Raises ValueError for one of another format."""
        shape = tuple[bytes, list[tuple[str, int, list[str]]]]
        own, things = msgspec.msgpack.decode(state, type=shape)
        super().restore(own)
        self._things.restore(things)
        self._sharers = {}
        for player, _, known in things:
            for thing in known:
                self._add_sharer(player, thing)
