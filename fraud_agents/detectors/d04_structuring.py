"""D04, structuring: several payments just under the amount that has to be reported.

Key: brand and player. Counted in 24 hours and in 7 days, deposits and withdrawals apart: payments
of at least `band` and less than the region's reporting threshold, that together reach it.

False-positive traps: a player who always pays the same limit that the law or the operator sets
(amounts equal to one are left out), a fixed habit of small top-ups (below the band), a payment at
the threshold itself (it is reported anyway, so it hides nothing).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, KeyedDetector
from fraud_agents.features import count_events, reference_minor, sum_legs, sum_values
from fraud_agents.rules import Limit, make_rule
from fraud_agents.windows import Arrival, EventWindow, ExactSpec, WindowEntry
from schemas.events import Kind, WalletTransaction

_DAY_MS: Final = 86_400_000

RULE: Final = make_rule(
    "D04",
    "review",
    3,
    "payments",
    7 * _DAY_MS,
    title="Structuring",
    limits={
        "band": Limit(70, "% of the threshold", "our default"),
        "reported": Limit(
            200_000,
            "EUR cents",
            "EUR 2,000 linked: customer due diligence of gambling in the EU and Great Britain",
        ),
    },
    regions={
        "CA-ON": {
            "reported": Limit(650_000, "EUR cents", "CAD 10,000 in 24 hours: FINTRAC, at our rate")
        },
        "US-NJ": {
            "reported": Limit(900_000, "EUR cents", "USD 10,000: currency transaction report")
        },
    },
    words={"legal_limits": ["DE 100000", "ES 60000", "ES 150000", "ES 300000"]},
    reason=(
        "Three payments in the band sum over the threshold by themselves (3 x 70 %), and two do so "
        "by accident too often. 24 hours is the law's window, 7 days catches one payment a day."
    ),
)


class PaymentState(msgspec.Struct, array_like=True):
    """Payments of one player that are in the band."""

    deposits: EventWindow = msgspec.field(default_factory=EventWindow)
    withdrawals: EventWindow = msgspec.field(default_factory=EventWindow)


class Structuring(KeyedDetector[PaymentState]):
    """D04 over one partition of the log."""

    kinds: ClassVar[frozenset[str] | None] = frozenset({Kind.DEPOSIT.value, Kind.WITHDRAWAL.value})
    state_type = PaymentState

    def find(self, state: PaymentState, event: WalletTransaction, offset: int) -> Iterator[Finding]:
        """Count a payment in the band."""
        for kind, window in (
            (Kind.DEPOSIT.value, state.deposits),
            (Kind.WITHDRAWAL.value, state.withdrawals),
        ):
            minor, currency = sum_legs(event, kind)
            amount = reference_minor(minor, currency)
            if amount is None or not self._is_in_band(event.region, minor, amount):
                continue
            entry = WindowEntry(event.occurred_at, offset, event.event_id, amount, str(minor))
            spec = ExactSpec(self.rule.grace_ms, self.rule.dedup_horizon_ms)
            if window.add(entry, spec) is Arrival.COUNTED:
                yield from self._find_in(window, kind, event, currency or "")

    def _is_in_band(self, region: str, minor: int, amount: int) -> bool:
        reported = self.rule.limit("reported", region)
        if f"{region} {minor}" in self.rule.words["legal_limits"]:
            return False
        return self.rule.limit("band") * reported <= 100 * amount < 100 * reported

    def _find_in(
        self, window: EventWindow, kind: str, event: WalletTransaction, currency: str
    ) -> Iterator[Finding]:
        at_ms, reported = event.occurred_at, self.rule.limit("reported", event.region)
        best: Sequence[WindowEntry] = ()
        for size_ms in (_DAY_MS, self.rule.window_ms):
            for run in window.runs(at_ms, size_ms):
                if count_events(run) > count_events(best) and sum_values(run) >= reported:
                    best = run
            if count_events(best) >= self.rule.threshold:
                break
        else:
            return
        yield Finding(
            reason=kind,
            severity=self.rule.severity,
            title=f"{len(best)} {kind.lower()}s just under the amount that has to be reported",
            player_id=event.player_id,
            at_ms=at_ms,
            window=(best[0].at_ms, best[-1].at_ms),
            observed=count_events(best),
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            offsets=[entry.offset for entry in best],
            event_ids=[entry.event_id for entry in best],
            evidence={
                "operator": ">=",
                "amounts_minor": " ".join(entry.label for entry in best),
                "reported_eur_cents": str(reported),
                "region": event.region,
            },
            exposed_minor=sum(int(entry.label) for entry in best),
            currency=currency,
        )
