"""D11, chip dumping: a player loses to another on purpose.

Key: brand, provider and game; the alert names the ordered pair. A round between players is looked
at 5 seconds after its first result. A loss is ascribed to the winners by their winnings. Three
things together: at least `hands` hands of the two within 24 hours, more than `share` of the loser's
losses of these hours won by the other, and losses that deviate from the loser's own other hands by
more than `z` sigma.

False-positive traps: games for two (all losses go to one, so `z` against other hands is required),
a weak player (loses everywhere, so nothing deviates), variance (z and not an amount), a player
without other hands (`history`; nothing to compare with).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import RESULT, Finding, KeyedDetector, escape_key
from fraud_agents.features import exceeds_percent, z_thousandths
from fraud_agents.rules import Limit, make_rule
from schemas.events import GameResult
from schemas.topics import GAME_RESULTS

_DAY_MS: Final = 86_400_000
SETTLE_MS: Final = 5_000
HISTORY_MS: Final = 7 * _DAY_MS
HANDS_MAX: Final = 2_000
"""Hands of a player that are remembered."""

RULE: Final = make_rule(
    "D11",
    "hold",
    30,
    "hands",
    _DAY_MS,
    title="Chip dumping",
    idle_ms=8 * _DAY_MS,
    limits={
        "share": Limit(80, "% of the losses", "our default", "above"),
        "z": Limit(3_000, "thousandths of a sigma", "our default", "above"),
        "history": Limit(30, "other hands in 7 days", "ours: fewer give no sigma"),
    },
    reason=(
        "Great Britain's RTS 11 asks to limit collusion, New Jersey's 13:69O-1.4(c) to detect and "
        "report it. The numbers are ours."
    ),
)


class PlayedDeal(msgspec.Struct, frozen=True, array_like=True):
    """A hand of one player: the net result, and what of a loss each winner got."""

    at_ms: int
    net: int
    lost_to: dict[str, int]
    others: list[str]
    offset: int
    event_id: str


class PokerState(msgspec.Struct, array_like=True):
    """Open rounds of one game, and the hands of each player, oldest first."""

    rounds: dict[str, list[tuple[str, int, int, int, str]]] = {}
    hands: dict[str, list[PlayedDeal]] = {}
    currency: str | None = None
    swept_ms: int = 0


class ChipDumping(KeyedDetector[PokerState]):
    """D11 over one partition of the game results."""

    kinds: ClassVar[frozenset[str] | None] = frozenset({RESULT})
    topic: ClassVar[str] = GAME_RESULTS
    state_type = PokerState

    def key_of(self, event: GameResult) -> str | None:
        """Return the game; None for a result that names no player, stake or payout."""
        if event.player_id is None or event.stake_minor is None or event.payout_minor is None:
            return None
        return escape_key(event.brand, event.provider, event.game_id)

    def find(self, state: PokerState, event: GameResult, offset: int) -> Iterator[Finding]:
        """Add a player's result to its round."""
        if event.round_id not in state.rounds:
            due_ms = event.occurred_at + SETTLE_MS
            self.schedule(self.key, event.round_id, due_ms)
        net = (event.payout_minor or 0) - (event.stake_minor or 0)
        row = (event.player_id or "", net, event.occurred_at, offset, event.event_id)
        state.rounds.setdefault(event.round_id, []).append(row)
        state.currency = event.currency
        return iter(())

    def find_due(self, key: str, state: PokerState, tag: str, due_ms: int) -> Iterator[Finding]:
        """Ascribe the losses of a round, and compare each loser with each winner."""
        del key
        self._drop_players(state, due_ms)
        rows = state.rounds.pop(tag, [])
        if len(rows) < 2:
            return
        winnings = {player: net for player, net, *_ in rows if net > 0}
        total = sum(winnings.values())
        for player, net, at_ms, offset, event_id in rows:
            lost_to = {who: -net * own // total for who, own in winnings.items() if net < 0}
            others = [who for who, *_ in rows if who != player]
            hands = state.hands.setdefault(player, [])
            hands.append(PlayedDeal(at_ms, net, lost_to, others, offset, event_id))
            while hands[0].at_ms < at_ms - HISTORY_MS or len(hands) > HANDS_MAX:
                del hands[0]
            for winner in lost_to:
                yield from self._compare(state, player, winner, [row[3] for row in rows])

    def _drop_players(self, state: PokerState, due_ms: int) -> None:
        """Drop the players who have no hand in the history any more, once a day."""
        if due_ms < state.swept_ms + _DAY_MS:
            return
        state.swept_ms = due_ms
        gone = [who for who, own in state.hands.items() if own[-1].at_ms < due_ms - HISTORY_MS]
        for player in gone:
            del state.hands[player]

    def _compare(
        self, state: PokerState, loser: str, winner: str, last_offsets: list[int]
    ) -> Iterator[Finding]:
        hands = state.hands[loser]
        last = hands[-1]
        recent = [deal for deal in hands if deal.at_ms > last.at_ms - self.rule.window_ms]
        together = [deal for deal in recent if winner in deal.others]
        if len(together) < self.rule.threshold:
            return
        lost = sum(-deal.net for deal in recent if deal.net < 0)
        given = sum(deal.lost_to.get(winner, 0) for deal in recent)
        apart = [deal.net for deal in hands if winner not in deal.others]
        if len(apart) < self.rule.limit("history"):
            return
        z = _deviation(apart, [deal.net for deal in together])
        is_given = exceeds_percent(given, lost, self.rule.limit("share"))
        if not is_given or -z <= self.rule.limit("z"):
            return
        yield Finding(
            reason="",
            severity=self.rule.severity,
            title=f"{loser} loses to {winner}: {100 * given // lost} % of the losses",
            player_id=loser,
            at_ms=last.at_ms,
            window=(together[0].at_ms, last.at_ms),
            observed=len(together),
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            offsets=[*(deal.offset for deal in together), *last_offsets],
            event_ids=[deal.event_id for deal in together],
            evidence={"winner": winner, "z_thousandths": str(z), "lost_minor": str(lost)},
            exposed_minor=given,
            currency=state.currency,
            key_suffix=escape_key(loser, winner),
        )


def _deviation(apart: list[int], together: list[int]) -> int:
    """Return how far the sum of hands is from what others lead to expect, in thousandths."""
    count, other = len(together), len(apart)
    mean_times = sum(apart)
    spread = other * sum(net * net for net in apart) - mean_times * mean_times
    # Everything times the number of other hands, so that the mean is whole.
    return z_thousandths(other * sum(together), count * mean_times, count * spread)
