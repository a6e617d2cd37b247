"""D20, a limit exceeded: of the law, or of the player.

Key: brand and player. Single stakes are compared with the region's limit for slots and with the
player's own (`player.limited`), as of the event time of the bet. Deposits are summed in the
calendar periods of the region's own time zone. Limits that hold across operators need an answer of
a register, which the log does not have. Limits that a player sets on deposits, losses or time of
play are not compared: no event states them, and only that of a single stake is in the log.

False-positive traps: a stake exactly at the limit, a free bet, a bet placed before the limit was
set, a game that is not a slot, a day that ends at local midnight and is 23 or 25 hours long when
clocks change, a deposit that was opened and never paid (payments count).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import ClassVar, Final
from zoneinfo import ZoneInfo

import msgspec

from fraud_agents.detectors.base import Finding, KeyedDetector, has_kind
from fraud_agents.features import leg_minor, sum_legs
from fraud_agents.rules import Limit, Rule, Severity, make_rule
from schemas.events import Kind, WalletTransaction

_DAY_MS: Final = 86_400_000
_PERIODS: Final = ("day", "week", "month")

RULE: Final = make_rule(
    "D20",
    "block",
    1,
    "breaches",
    60_000,
    title="Limit breach",
    cooldown_ms=_DAY_MS,
    idle_ms=40 * _DAY_MS,
    regions={
        "GB": {
            "slot_stake": Limit(500, "minor units", "SI 2025/215 reg. 5(2), 25 and over", "above")
        },
        "DE": {
            "slot_stake": Limit(100, "minor units", "GlueStV 22a", "above"),
            "month": Limit(100_000, "minor units", "GlueStV 6c(1)", "above"),
        },
        "ES": {
            "day": Limit(60_000, "minor units", "Spain's limit per operator", "above"),
            "week": Limit(150_000, "minor units", "Spain's limit per operator", "above"),
            "month": Limit(300_000, "minor units", "Spain's limit per operator", "above"),
        },
    },
    words={
        "slots": ["slot"],
        "zones": ["DE Europe/Berlin", "ES Europe/Madrid", "GB Europe/London"],
        "currencies": ["DE EUR", "ES EUR", "GB GBP"],
    },
    reason=(
        "The law's own numbers; each limit is inclusive, so a breach is above it. 40 days hold a "
        "calendar month."
    ),
)


class OwnLimit(msgspec.Struct, frozen=True, array_like=True):
    """A player's limit on single bets from an event time on; None where it was lifted."""

    at_ms: int
    minor: int | None


class LimitState(msgspec.Struct, array_like=True):
    """A player's limits by currency, oldest first, and deposits by calendar period."""

    own: dict[str, list[OwnLimit]] = {}
    deposits: dict[str, int] = {}
    seen: dict[str, int] = {}


class LimitBreach(KeyedDetector[LimitState]):
    """D20 over one partition of the log."""

    kinds: ClassVar[frozenset[str] | None] = frozenset(
        {Kind.BET.value, Kind.DEPOSIT.value, Kind.PLAYER_STATE.value}
    )
    state_type = LimitState

    def __init__(self, rule: Rule, partition: int) -> None:
        super().__init__(rule, partition)
        self._zones = _pairs(self.rule.words["zones"])
        self._currencies = _pairs(self.rule.words["currencies"])

    def find(self, state: LimitState, event: WalletTransaction, offset: int) -> Iterator[Finding]:
        """Compare a bet or a deposit with the limits as of its event time."""
        if has_kind(event, Kind.PLAYER_STATE):
            _take_limit(state, event)
        elif has_kind(event, Kind.BET):
            yield from self._check_stake(state, event, offset)
        elif has_kind(event, Kind.DEPOSIT) and event.event_id not in state.seen:
            yield from self._check_deposit(state, event, offset)

    def _check_stake(
        self, state: LimitState, event: WalletTransaction, offset: int
    ) -> Iterator[Finding]:
        minor, currency = sum_legs(event, Kind.BET)
        if currency is None:
            return
        own = _limit_at(state.own.get(currency, []), event.occurred_at)
        if own is not None and minor > own:
            yield self._finding(event, offset, "OWN_STAKE", minor, own, currency)
        region, game = event.region, event.game_id or ""
        by_law = self.rule.regions.get(region, {}).get("slot_stake")
        is_slot = any(game.startswith(name) for name in self.rule.words["slots"])
        if by_law and is_slot and currency == self._currencies[region] and minor > by_law.value:
            yield self._finding(event, offset, "LEGAL_STAKE", minor, by_law.value, currency)

    def _check_deposit(
        self, state: LimitState, event: WalletTransaction, offset: int
    ) -> Iterator[Finding]:
        limits = self.rule.regions.get(event.region, {})
        minor, currency = sum_legs(event, Kind.DEPOSIT)
        if currency is None or currency != self._currencies.get(event.region):
            return
        self._forget(state)
        state.seen[event.event_id] = event.occurred_at
        for period in _PERIODS:
            if period not in limits:
                continue
            name = _period_of(event.occurred_at, self._zones[event.region], period)
            total = state.deposits[name] = state.deposits.get(name, 0) + minor
            if total > limits[period].value:
                reason = f"LEGAL_DEPOSIT_{period.upper()}"
                yield self._finding(event, offset, reason, total, limits[period].value, currency)

    def retain(self, state: LimitState) -> bool:
        """Return whether the player has set a limit; that is never forgotten."""
        state.deposits, state.seen = {}, {}
        state.own = {currency: limits[-1:] for currency, limits in state.own.items()}
        return bool(state.own)

    def _forget(self, state: LimitState) -> None:
        horizon_ms = self.watermark_ms - self.rule.idle_ms
        for event_id in [name for name, at_ms in state.seen.items() if at_ms < horizon_ms]:
            del state.seen[event_id]
        while len(state.deposits) > 64:
            del state.deposits[next(iter(state.deposits))]

    def _finding(
        self,
        event: WalletTransaction,
        offset: int,
        reason: str,
        observed: int,
        limit: int,
        currency: str,
        severity: Severity | None = None,
    ) -> Finding:
        return Finding(
            reason=reason,
            severity=severity or self.rule.severity,
            title=f"{reason}: {observed} minor units of {currency}, allowed {limit}",
            player_id=event.player_id,
            at_ms=event.occurred_at,
            window=(event.occurred_at, event.occurred_at),
            observed=observed,
            threshold=limit,
            unit=f"minor units of {currency}",
            offsets=[offset],
            event_ids=[event.event_id],
            evidence={"operator": ">", "region": event.region},
            exposed_minor=observed - limit,
            currency=currency,
        )


def _pairs(lines: list[str]) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in lines)


def _take_limit(state: LimitState, event: WalletTransaction) -> None:
    if event.operation not in {"player.limited", "player.unlimited"}:
        return
    [leg] = event.legs
    if leg.currency is None:
        return
    limits = state.own.setdefault(leg.currency, [])
    limits.append(OwnLimit(event.occurred_at, leg_minor(leg)))
    limits.sort(key=lambda limit: limit.at_ms)
    del limits[:-16]


def _limit_at(limits: list[OwnLimit], at_ms: int) -> int | None:
    place = bisect_right(limits, at_ms, key=lambda limit: limit.at_ms)
    return limits[place - 1].minor if place else None


def _period_of(at_ms: int, zone: str, period: str) -> str:
    """Return the calendar period of an event time in a zone: `day 2026-11-30`."""
    local = datetime.fromtimestamp(at_ms // 1_000, UTC).astimezone(ZoneInfo(zone))
    if period == "week":
        year, week, _ = local.isocalendar()
        return f"week {year}-{week:02}"
    return f"day {local:%Y-%m-%d}" if period == "day" else f"month {local:%Y-%m}"
