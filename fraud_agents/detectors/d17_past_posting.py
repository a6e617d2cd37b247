"""D17, past-posting: a bet placed when the result was known, or a settlement long after it.

Key: brand, player and round. A round is closed by its ROUND_CLOSE, or by an event that says so.
Both times are the provider's, since two clocks may differ; `skew` is for providers with more than
one machine. The order of arrival does not matter.

False-positive traps: clocks of one provider that differ a little, a back-fill whose times the
normaliser had to move (not checked), a correction of a round (no bet), a bet and its close in one
message.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, KeyedDetector, escape_key, has_kind
from fraud_agents.detectors.observation import has_clamped_time
from fraud_agents.features import sum_legs
from fraud_agents.rules import Limit, Severity, make_rule
from schemas.events import Kind, WalletTransaction

_DAY_MS: Final = 86_400_000

ROUNDS_MAX: Final = 1_024
"""Rounds remembered for each player."""

RULE: Final = make_rule(
    "D17",
    "hold",
    1,
    "events",
    60_000,
    title="Late bet or settlement",
    cooldown_ms=_DAY_MS,
    idle_ms=3 * _DAY_MS,
    limits={
        "skew": Limit(500, "ms", "our default for clocks of one provider", "above"),
        "settled_late": Limit(_DAY_MS, "ms", "our default", "above"),
    },
    reason=(
        "A bet after the result is certain money. Great Britain's RTS 4 asks for games that do not "
        "reward a fast connection."
    ),
)


class RoundTimes(msgspec.Struct, array_like=True):
    """Latest bet and close of a round, with the bet's place and money."""

    closed_ms: int | None = None
    bet_ms: int | None = None
    bet_offset: int = 0
    bet_id: str = ""
    minor: int = 0
    currency: str | None = None


class RoundTimesState(msgspec.Struct, array_like=True):
    """Rounds of one player, oldest first."""

    rounds: dict[str, RoundTimes] = {}


class PastPosting(KeyedDetector[RoundTimesState]):
    """D17 over one partition of the log."""

    kinds: ClassVar[frozenset[str] | None] = frozenset(
        {Kind.BET.value, Kind.WIN.value, Kind.ROUND_CLOSE.value}
    )
    state_type = RoundTimesState

    def find(
        self, state: RoundTimesState, event: WalletTransaction, offset: int
    ) -> Iterator[Finding]:
        """Compare the times of a round's bets, close and settlement."""
        if event.round_id is None or has_clamped_time(event):
            return
        name = escape_key(event.provider, event.round_id)
        times = self._times_of(state, name)
        at_ms, has_bet = event.occurred_at, has_kind(event, Kind.BET)
        was_closed_ms = times.closed_ms
        if event.round_closed or has_kind(event, Kind.ROUND_CLOSE):
            times.closed_ms = at_ms if was_closed_ms is None else min(at_ms, was_closed_ms)
        is_settlement = has_kind(event, Kind.WIN) and not has_bet
        if is_settlement and at_ms - (was_closed_ms or at_ms) > self.rule.limit("settled_late"):
            minor, currency = sum_legs(event, Kind.WIN)
            late = RoundTimes(was_closed_ms, at_ms, offset, event.event_id, minor, currency)
            yield self._finding(late, "SETTLED_LATE", "review", event, name)
        if has_bet and not event.round_closed and at_ms > (times.bet_ms or 0):
            minor, currency = sum_legs(event, Kind.BET)
            times.bet_ms, times.bet_offset, times.bet_id = at_ms, offset, event.event_id
            times.minor, times.currency = minor, currency
        if times.closed_ms is None or times.bet_ms is None:
            return
        if times.bet_ms - times.closed_ms > self.rule.limit("skew"):
            yield self._finding(times, "AFTER_CLOSE", self.rule.severity, event, name)

    def _times_of(self, state: RoundTimesState, name: str) -> RoundTimes:
        times = state.rounds.get(name)
        if times is None:
            times = state.rounds[name] = RoundTimes()
            if len(state.rounds) > ROUNDS_MAX:
                del state.rounds[next(iter(state.rounds))]
        return times

    def _finding(
        self,
        times: RoundTimes,
        reason: str,
        severity: Severity,
        event: WalletTransaction,
        name: str,
    ) -> Finding:
        assert times.closed_ms is not None
        assert times.bet_ms is not None
        late_ms = times.bet_ms - times.closed_ms
        return Finding(
            reason=reason,
            severity=severity,
            title=f"{reason}: {late_ms} ms after round {name} was closed",
            player_id=event.player_id,
            at_ms=times.bet_ms,
            window=(times.closed_ms, times.bet_ms),
            observed=1,
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            offsets=[times.bet_offset],
            event_ids=[times.bet_id],
            evidence={"late_ms": str(late_ms), "round": name},
            exposed_minor=times.minor,
            currency=times.currency,
            key_suffix=name,
        )
