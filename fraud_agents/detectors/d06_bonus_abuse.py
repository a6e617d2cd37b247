"""D06, bonus abuse: bonuses taken more often, or worked off with less risk, than they are meant.

Key: brand and player. Four conditions: a second welcome bonus; a bonus released after more than
`low_edge` of its stakes went to games with a house edge under 2 %; bonuses of more than `ratio` of
the deposits of 30 days, from the third bonus on; and where the law allows one bonus at the first
play only, a bonus after the first bet.

False-positive traps: one welcome bonus that doubles the first deposit (100 % of it, by itself),
free spins of a provider's campaign (free bets are no stakes), a reactivation of an old player (the
30 days), a bonus before the first bet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, KeyedDetector
from fraud_agents.features import (
    count_events,
    exceeds_percent,
    percent_of,
    sum_legs,
    sum_reference,
    sum_values,
)
from fraud_agents.rules import Limit, Severity, make_rule
from fraud_agents.windows import Arrival, EventWindow, ExactSpec, WindowEntry
from schemas.events import Kind, WalletTransaction

_DAY_MS: Final = 86_400_000

RUNNING_MAX: Final = 256
"""Bonuses of a player that run at a time; some are never released or forfeited."""

RULE: Final = make_rule(
    "D06",
    "review",
    2,
    "bonuses",
    30 * _DAY_MS,
    title="Bonus abuse",
    stops_player=False,
    limits={
        "low_edge": Limit(90, "% of the stakes", "our default", "above"),
        "ratio": Limit(80, "% of the deposits", "our default", "above"),
        "ratio_bonuses": Limit(3, "bonuses", "ours: one or two are a welcome"),
    },
    words={
        "welcome": ["welcome"],
        "low_edge_games": ["blackjack", "baccarat", "roulette-even"],
        "one_bonus_regions": ["SE"],
    },
    reason=(
        "Sweden allows a bonus at the first play only (Spellagen 14:9), so a later one is a breach "
        "of the operator's. The other numbers are ours, to be set by back-test."
    ),
)


class RunningBonus(msgspec.Struct, array_like=True):
    """Stakes under one bonus, in reference cents."""

    granted_ms: int
    staked: int = 0
    low_edge_staked: int = 0


class BonusState(msgspec.Struct, array_like=True):
    """Bonuses of one player."""

    first_bet_ms: int | None = None
    welcomes: int = 0
    running: dict[str, RunningBonus] = {}
    grants: EventWindow = msgspec.field(default_factory=EventWindow)
    deposits: EventWindow = msgspec.field(default_factory=EventWindow)


class BonusAbuse(KeyedDetector[BonusState]):
    """D06 over one partition of the log."""

    kinds: ClassVar[frozenset[str] | None] = frozenset(
        kind.value
        for kind in (
            Kind.BET,
            Kind.DEPOSIT,
            Kind.BONUS_GRANT,
            Kind.BONUS_RELEASE,
            Kind.BONUS_FORFEIT,
        )
    )
    state_type = BonusState

    def find(self, state: BonusState, event: WalletTransaction, offset: int) -> Iterator[Finding]:
        """Follow a player's bonuses, stakes and deposits."""
        spec = ExactSpec(self.rule.grace_ms, self.rule.dedup_horizon_ms)
        for leg in event.legs:
            if leg.kind == Kind.BET and not leg.is_free:
                self._add_stake(state, event)
            elif leg.kind == Kind.DEPOSIT:
                amount = sum_reference(event, Kind.DEPOSIT)
                entry = WindowEntry(event.occurred_at, offset, event.event_id, amount)
                state.deposits.add(entry, spec)
            elif leg.kind == Kind.BONUS_GRANT:
                amount = sum_reference(event, Kind.BONUS_GRANT)
                campaign = leg.campaign_id or ""
                entry = WindowEntry(event.occurred_at, offset, event.event_id, amount, campaign)
                if state.grants.add(entry, spec) is Arrival.COUNTED:
                    state.running[campaign] = RunningBonus(event.occurred_at)
                    if len(state.running) > RUNNING_MAX:
                        del state.running[next(iter(state.running))]
                    yield from self._check_grant(state, event, entry)
            elif leg.kind in {Kind.BONUS_RELEASE, Kind.BONUS_FORFEIT}:
                bonus = state.running.pop(leg.campaign_id or "", None)
                if bonus is not None and leg.kind == Kind.BONUS_RELEASE:
                    yield from self._check_release(bonus, event, offset)

    def retain(self, state: BonusState) -> bool:
        """Return whether the player had a welcome bonus, or a first bet that matters."""
        state.running, state.grants, state.deposits = {}, EventWindow(), EventWindow()
        return state.welcomes > 0 or state.first_bet_ms is not None

    def _add_stake(self, state: BonusState, event: WalletTransaction) -> None:
        is_earlier = state.first_bet_ms is None or event.occurred_at < state.first_bet_ms
        if is_earlier and event.region in self.rule.words["one_bonus_regions"]:
            state.first_bet_ms = event.occurred_at
        stake = sum_reference(event, Kind.BET)
        game = event.game_id or ""
        is_low_edge = any(game.startswith(name) for name in self.rule.words["low_edge_games"])
        for bonus in state.running.values():
            if event.occurred_at >= bonus.granted_ms:
                bonus.staked += stake
                bonus.low_edge_staked += stake if is_low_edge else 0

    def _check_grant(
        self, state: BonusState, event: WalletTransaction, entry: WindowEntry
    ) -> Iterator[Finding]:
        if any(entry.label.startswith(name) for name in self.rule.words["welcome"]):
            state.welcomes += 1
            if state.welcomes >= self.rule.threshold:
                yield self._finding(event, entry.offset, "SECOND_WELCOME", state.welcomes)
        run = state.grants.ending(event.occurred_at, self.rule.window_ms)
        deposited = sum_values(state.deposits.ending(event.occurred_at, self.rule.window_ms))
        share = percent_of(sum_values(run), deposited)
        is_many = count_events(run) >= self.rule.limit("ratio_bonuses")
        if is_many and exceeds_percent(sum_values(run), deposited, self.rule.limit("ratio")):
            yield self._finding(event, entry.offset, "RATIO", count_events(run), str(share))
        first_bet_ms = state.first_bet_ms
        if (
            event.region in self.rule.words["one_bonus_regions"]
            and first_bet_ms is not None
            and first_bet_ms < event.occurred_at
        ):
            yield self._finding(event, entry.offset, "AFTER_FIRST_PLAY", 1, severity="hold")

    def _check_release(
        self, bonus: RunningBonus, event: WalletTransaction, offset: int
    ) -> Iterator[Finding]:
        share = percent_of(bonus.low_edge_staked, bonus.staked)
        if exceeds_percent(bonus.low_edge_staked, bonus.staked, self.rule.limit("low_edge")):
            yield self._finding(event, offset, "LOW_EDGE", 1, str(share))

    def _finding(
        self,
        event: WalletTransaction,
        offset: int,
        reason: str,
        observed: int,
        percent: str = "",
        severity: Severity | None = None,
    ) -> Finding:
        kind = Kind.BONUS_RELEASE if reason == "LOW_EDGE" else Kind.BONUS_GRANT
        minor, currency = sum_legs(event, kind)
        return Finding(
            reason=reason,
            severity=severity or self.rule.severity,
            title=f"Bonus abuse: {reason}",
            player_id=event.player_id,
            at_ms=event.occurred_at,
            window=(event.occurred_at - self.rule.window_ms, event.occurred_at),
            observed=observed,
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            offsets=[offset],
            event_ids=[event.event_id],
            evidence={"percent": percent} if percent else {},
            exposed_minor=minor,
            currency=currency,
        )
