"""D16, a win without a bet: money from a round in which nothing was staked.

Key: brand, player and round. A WIN is an orphan when its round has no bet `orphan` after it, in
event time: providers send out of order. A withdrawal that is asked for while a player has an orphan
raises the alert to a hold.

False-positive traps: free rounds (the leg is free or names a campaign), prizes (PROMO_WIN) and
jackpots (JACKPOT_WIN), goodwill (an ADJUSTMENT has two people), a win of a player whose memory of
rounds has been cut (none is raised), a win of zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import (
    Finding,
    KeyedDetector,
    escape_key,
    has_kind,
    player_of,
)
from fraud_agents.features import leg_minor
from fraud_agents.rules import Limit, Severity, make_rule
from schemas.events import Kind, WalletTransaction

_DAY_MS: Final = 86_400_000

ROUNDS_MAX: Final = 4_096
"""Rounds remembered for each player."""
REPORTED_MAX: Final = 256
"""Reported wins of one player that a withdrawal makes graver, the latest."""

RULE: Final = make_rule(
    "D16",
    "review",
    1,
    "wins",
    60_000,
    title="Win without bet",
    grace_ms=10_000,
    cooldown_ms=_DAY_MS,
    idle_ms=7 * _DAY_MS,
    limits={
        "orphan": Limit(60_000, "ms", "our default: records of one round arrive within seconds"),
    },
    reason=(
        "An invariant of every game: a payout follows a stake. A minute is for the order of "
        "arrival. A week of rounds, since bets on sports settle days later."
    ),
)


class OrphanWin(msgspec.Struct, frozen=True, array_like=True):
    """A win whose bet has not been seen."""

    at_ms: int
    offset: int
    event_id: str
    minor: int
    currency: str
    round_name: str


class RoundState(msgspec.Struct, array_like=True):
    """Rounds of one player with a bet, oldest first, and wins without one."""

    staked: dict[str, int] = {}
    waiting: dict[str, OrphanWin] = {}
    reported: dict[str, OrphanWin] = {}
    is_cut: bool = False
    withdrawal_ms: int = 0


class WinWithoutBet(KeyedDetector[RoundState]):
    """D16 over one partition of the log."""

    kinds: ClassVar[frozenset[str] | None] = frozenset(
        {Kind.BET.value, Kind.WIN.value, Kind.WITHDRAWAL.value}
    )
    state_type = RoundState

    def find(self, state: RoundState, event: WalletTransaction, offset: int) -> Iterator[Finding]:
        """Note bets, keep wins without one, and raise reported ones at a withdrawal."""
        if event.round_id is not None:
            round_name = escape_key(event.provider, event.round_id)
            if has_kind(event, Kind.BET):
                self._note_bet(state, round_name, event.occurred_at)
            elif round_name not in state.staked and not state.is_cut:
                self._keep_orphan(state, event, offset, round_name)
        if has_kind(event, Kind.WITHDRAWAL) and event.operation == "withdrawal.requested":
            state.withdrawal_ms = event.occurred_at
            for orphan in state.reported.values():
                yield self._finding(orphan, "hold", player_of(self.key))
            state.reported.clear()

    def _note_bet(self, state: RoundState, round_name: str, at_ms: int) -> None:
        state.staked.pop(round_name, None)
        state.staked[round_name] = at_ms
        for event_id, orphan in list(state.waiting.items()):
            until_ms = orphan.at_ms + self.rule.limit("orphan")
            if orphan.round_name == round_name and at_ms <= until_ms:
                del state.waiting[event_id]
        if len(state.staked) > ROUNDS_MAX:
            del state.staked[next(iter(state.staked))]
            state.is_cut = True

    def _keep_orphan(
        self, state: RoundState, event: WalletTransaction, offset: int, round_name: str
    ) -> None:
        for leg in event.legs:
            if leg.kind != Kind.WIN or leg.is_free or leg.campaign_id is not None:
                continue
            minor = leg_minor(leg)
            known = event.event_id in state.waiting or event.event_id in state.reported
            if minor and leg.currency and not known:
                state.waiting[event.event_id] = OrphanWin(
                    event.occurred_at, offset, event.event_id, minor, leg.currency, round_name
                )
                due_ms = event.occurred_at + self.rule.limit("orphan") + self.rule.grace_ms
                self.schedule(self.key, event.event_id, due_ms)

    def find_due(self, key: str, state: RoundState, tag: str, due_ms: int) -> Iterator[Finding]:
        """Report a win whose bet has not turned up in time."""
        del due_ms
        orphan = state.waiting.pop(tag, None)
        if orphan is not None:
            if state.withdrawal_ms >= orphan.at_ms:
                yield self._finding(orphan, "hold", player_of(key))
                return
            state.reported[tag] = orphan
            if len(state.reported) > REPORTED_MAX:
                del state.reported[next(iter(state.reported))]
            yield self._finding(orphan, self.rule.severity, player_of(key))

    def _finding(self, orphan: OrphanWin, severity: Severity, player_id: str) -> Finding:
        return Finding(
            reason="ORPHAN",
            severity=severity,
            title=f"Win in round {orphan.round_name} without a bet",
            player_id=player_id,
            at_ms=orphan.at_ms,
            window=(orphan.at_ms, orphan.at_ms + self.rule.limit("orphan")),
            observed=1,
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            offsets=[orphan.offset],
            event_ids=[orphan.event_id],
            evidence={"round": orphan.round_name},
            exposed_minor=orphan.minor,
            currency=orphan.currency,
            key_suffix=orphan.event_id,
        )
