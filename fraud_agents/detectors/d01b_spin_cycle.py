"""D01B, spin cycle: rounds of a slot that begin sooner after each other than the law allows.

Key: brand and player. Two rounds of one player in one slot game, in a region with a least cycle,
begin closer together than it, less 200 ms for the jitter of clocks and queues. It is the provider's
breach and not the player's, so it stops no player.

False-positive traps: a slot that reports every line as a bet (one round), a second game beside it,
a round sent again, a back-fill whose times the normaliser had to move, free rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, KeyedDetector
from fraud_agents.detectors.observation import has_clamped_time
from fraud_agents.features import sum_legs
from fraud_agents.rules import Limit, make_rule
from schemas.events import Kind, WalletTransaction

_HOUR_MS: Final = 3_600_000
GAMES_MAX: Final = 16
"""Games of a player that are remembered."""

RULE: Final = make_rule(
    "D01B",
    "review",
    1,
    "rounds",
    60_000,
    title="Spin cycle",
    stops_player=False,
    cooldown_ms=24 * _HOUR_MS,
    regions={
        "GB": {
            "cycle": Limit(
                2_300, "ms", "2.5 s: UKGC RTS, since 2021-10-31; less 200 ms of ours", "below"
            )
        },
        "DE": {"cycle": Limit(4_800, "ms", "5 s: GlueStV 22a; less 200 ms of ours", "below")},
    },
    words={"slots": ["slot"]},
    reason=(
        "A far tighter ceiling than 500 bets a minute: 24 rounds in Great Britain, 12 in Germany. "
        "One alert a day and player, with the number of rounds that came too soon."
    ),
)


class RoundStart(msgspec.Struct, frozen=True, array_like=True):
    """The latest round of a game."""

    at_ms: int
    round_id: str
    offset: int
    event_id: str


class CycleState(msgspec.Struct, array_like=True):
    """Latest round of each game of one player."""

    games: dict[str, RoundStart] = {}


class SpinCycle(KeyedDetector[CycleState]):
    """D01B over one partition of the log."""

    kinds: ClassVar[frozenset[str] | None] = frozenset({Kind.BET.value})
    state_type = CycleState

    def key_of(self, event: WalletTransaction) -> str | None:
        """Return brand and player of a bet on a slot in a region with a least cycle."""
        if event.region not in self.rule.regions or event.round_id is None:
            return None
        game = event.game_id or ""
        is_slot = any(game.startswith(name) for name in self.rule.words["slots"])
        return super().key_of(event) if is_slot and not has_clamped_time(event) else None

    def find(self, state: CycleState, event: WalletTransaction, offset: int) -> Iterator[Finding]:
        """Compare the start of a round with that of the game's round before."""
        minor, currency = sum_legs(event, Kind.BET)
        if currency is None or event.round_id is None:
            return  # a free round
        name = f"{event.provider} {event.game_id}"
        before = state.games.pop(name, None)
        own = RoundStart(event.occurred_at, event.round_id, offset, event.event_id)
        is_same = before is not None and before.round_id == own.round_id
        state.games[name] = before if before is not None and is_same else own
        if len(state.games) > GAMES_MAX:
            del state.games[next(iter(state.games))]
        if before is None or is_same:
            return
        gap_ms, least_ms = abs(own.at_ms - before.at_ms), self.rule.limit("cycle", event.region)
        if gap_ms < least_ms:
            yield Finding(
                reason="CYCLE",
                severity=self.rule.severity,
                title=f"{event.provider} began rounds of {event.game_id} {gap_ms} ms apart",
                player_id=event.player_id,
                at_ms=event.occurred_at,
                window=(before.at_ms, own.at_ms),
                observed=1,
                threshold=self.rule.threshold,
                unit=self.rule.unit,
                offsets=[before.offset, offset],
                event_ids=[before.event_id, event.event_id],
                evidence={"gap_ms": str(gap_ms), "least_ms": str(least_ms), "region": event.region},
                exposed_minor=minor,
                currency=currency,
                adds=True,
            )
