"""D05, deposit and withdrawal with little play: the casino as a till that changes money.

Key: brand and player. When a withdrawal is asked for, the stakes since the first deposit of the
last 7 days are compared with the deposits of these 7 days. Free bets are no stakes, and a rolled
back bet is taken off again.

False-positive traps: an early big win (stakes count, not the net result), a small change of mind
(noted only, never a hold, below `amount`), a withdrawal without a deposit in the window (winnings).
Even-money bets on both sides are stakes here; D10 finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, KeyedDetector, has_kind
from fraud_agents.features import percent_of, reference_minor, sum_legs, sum_reference, sum_values
from fraud_agents.rules import Limit, Severity, make_rule
from fraud_agents.windows import EventWindow, ExactSpec, WindowEntry
from schemas.events import Kind, WalletTransaction

_DAY_MS: Final = 86_400_000
_REQUESTED: Final = "withdrawal.requested"

RULE: Final = make_rule(
    "D05",
    "hold",
    1,
    "withdrawals",
    7 * _DAY_MS,
    title="Deposit and withdrawal with little play",
    limits={
        "turnover": Limit(
            100, "% of the deposits", "one turnover: the usual condition of operators", "below"
        ),
        "low_turnover": Limit(30, "% of the deposits", "our default", "below"),
        "amount": Limit(50_000, "EUR cents", "our default", "above"),
    },
    reason=(
        "Placement and layering: money that comes and goes without a risk. Below one turnover "
        "it is noted, since many operators refuse that by themselves; below 30 % with more than "
        "EUR 500 the money waits."
    ),
)


class TurnoverState(msgspec.Struct, array_like=True):
    """Stakes so far and deposits of one player, each with the stakes before it."""

    staked: int = 0
    deposits: EventWindow = msgspec.field(default_factory=EventWindow)


class LittlePlay(KeyedDetector[TurnoverState]):
    """D05 over one partition of the log."""

    kinds: ClassVar[frozenset[str] | None] = frozenset(
        kind.value for kind in (Kind.DEPOSIT, Kind.WITHDRAWAL, Kind.BET, Kind.ROLLBACK)
    )
    state_type = TurnoverState

    def find(
        self, state: TurnoverState, event: WalletTransaction, offset: int
    ) -> Iterator[Finding]:
        """Add up stakes and deposits, and compare them at a withdrawal."""
        state.staked += sum_reference(event, Kind.BET) - sum_reference(event, Kind.ROLLBACK)
        deposited = sum_reference(event, Kind.DEPOSIT)
        if deposited > 0:
            label = str(state.staked)
            entry = WindowEntry(event.occurred_at, offset, event.event_id, deposited, label)
            spec = ExactSpec(self.rule.grace_ms, self.rule.dedup_horizon_ms)
            state.deposits.add(entry, spec)
        if has_kind(event, Kind.WITHDRAWAL) and event.operation == _REQUESTED:
            yield from self._check_withdrawal(state, event, offset)

    def _check_withdrawal(
        self, state: TurnoverState, event: WalletTransaction, offset: int
    ) -> Iterator[Finding]:
        minor, currency = sum_legs(event, Kind.WITHDRAWAL)
        amount = reference_minor(minor, currency)
        run = state.deposits.ending(event.occurred_at, self.rule.window_ms)
        if not run or amount is None:
            return
        deposited, staked = sum_values(run), state.staked - int(run[0].label)
        share = percent_of(staked, deposited)
        if share is None or share >= self.rule.limit("turnover"):
            return
        is_severe = share < self.rule.limit("low_turnover") and amount > self.rule.limit("amount")
        severity: Severity = "hold" if is_severe else "info"
        yield Finding(
            reason="LOW_TURNOVER" if is_severe else "BELOW_TURNOVER",
            severity=severity,
            title=f"Withdrawal after stakes of {share} % of the deposits",
            player_id=event.player_id,
            at_ms=event.occurred_at,
            window=(run[0].at_ms, event.occurred_at),
            observed=1,
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            offsets=[*(entry.offset for entry in run), offset],
            event_ids=[*(entry.event_id for entry in run), event.event_id],
            evidence={
                "deposited_eur_cents": str(deposited),
                "staked_eur_cents": str(staked),
                "turnover_percent": str(share),
                "withdrawal_eur_cents": str(amount),
            },
            exposed_minor=minor,
            currency=currency,
            adds=True,
        )
