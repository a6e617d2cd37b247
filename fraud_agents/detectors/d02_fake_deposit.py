"""D02, fake deposits: money credited that no payment provider has confirmed.

Key: brand and player. A deposit is confirmed when a payment provider sent it, signed, for a deposit
that the player had opened at our cashier, with no more than its amount, in its currency. Whatever
else credits a DEPOSIT blocks the player at once, since an affiliate or a CRM credential must not be
able to create money. A deposit whose opening is not in the log is given `unmatched` to turn up (a
connector may lag), unless the player asks for a withdrawal meanwhile.

False-positive traps: a notice that is late or sent again (the same event, counted by the ledger
once), a partial capture (less than opened is right), an opening that arrives after its notice,
refunds that failed (they name a payment and not an opening).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import Finding, KeyedDetector, has_kind, player_of
from fraud_agents.features import leg_minor
from fraud_agents.rules import Limit, Severity, make_rule
from schemas.events import Kind, SignatureVerdict, WalletTransaction

OPENED: Final = "deposit.opened"
_HOUR_MS: Final = 3_600_000
OPENED_MAX: Final = 1_024
SEEN_MAX: Final = 4_096
"""Openings and deposits of a player that are remembered, the latest, within `idle_ms`."""

RULE: Final = make_rule(
    "D02",
    "block",
    1,
    "deposits",
    60_000,
    title="Fake deposit",
    grace_ms=10_000,
    cooldown_ms=24 * _HOUR_MS,
    idle_ms=7 * 24 * _HOUR_MS,
    limits={
        "unmatched": Limit(
            900_000, "ms", "our default for cards and wallets: risk staff's 15 minutes"
        ),
    },
    words={"providers": ["adyen", "stripe", "camt"], "unsigned": ["camt"]},
    reason=(
        "A hard invariant, never a score: who sent it, what signed it, what it pays for. Bank "
        "statements are not signed and are matched by reference alone. An opening is remembered "
        "for a week: bank transfers take five days. One alert a day and player, growing."
    ),
)


class DepositOpening(msgspec.Struct, array_like=True):
    """A deposit that the cashier opened, and how much of it has been credited."""

    at_ms: int
    minor: int
    currency: str
    credited_minor: int = 0


class WaitingDeposit(msgspec.Struct, frozen=True, array_like=True):
    """A credited deposit whose opening has not been seen."""

    at_ms: int
    offset: int
    event_id: str
    provider: str
    minor: int
    currency: str


class DepositState(msgspec.Struct, array_like=True):
    """Openings and unmatched deposits of one player, by the cashier's reference."""

    opened: dict[str, DepositOpening] = {}
    waiting: dict[str, WaitingDeposit] = {}
    seen: dict[str, int] = {}


class FakeDeposit(KeyedDetector[DepositState]):
    """D02 over one partition of the log."""

    kinds: ClassVar[frozenset[str] | None] = frozenset(
        {Kind.DEPOSIT.value, Kind.INFORMATIONAL.value, Kind.WITHDRAWAL.value}
    )
    state_type = DepositState

    def find(self, state: DepositState, event: WalletTransaction, offset: int) -> Iterator[Finding]:
        """Match openings and deposits."""
        if event.operation == OPENED and event.provider == "house":
            yield from self._open_deposit(state, event)
        elif has_kind(event, Kind.DEPOSIT) and event.event_id not in state.seen:
            self._remember(state, event)
            yield from self._check_deposit(state, event, offset)
        elif has_kind(event, Kind.WITHDRAWAL) and event.operation == "withdrawal.requested":
            for waiting in list(state.waiting.values()):
                yield self._finding(waiting, "NOT_OPENED", "hold", event.player_id)
            state.waiting.clear()

    def _remember(self, state: DepositState, event: WalletTransaction) -> None:
        state.seen[event.event_id] = event.occurred_at
        horizon_ms = self.watermark_ms - self.rule.idle_ms
        for old in [name for name, at_ms in state.seen.items() if at_ms < horizon_ms]:
            del state.seen[old]
        while len(state.seen) > SEEN_MAX:
            del state.seen[next(iter(state.seen))]
        self._drop_opened(state)

    def _drop_opened(self, state: DepositState) -> None:
        """Drop openings that are out of date; of a player who opens without end, the oldest."""
        horizon_ms = self.watermark_ms - self.rule.idle_ms
        for old in [name for name, one in state.opened.items() if one.at_ms < horizon_ms]:
            del state.opened[old]
        while len(state.opened) > OPENED_MAX:
            del state.opened[next(iter(state.opened))]

    def _open_deposit(self, state: DepositState, event: WalletTransaction) -> Iterator[Finding]:
        reference = event.provider_tx_id
        minor, currency = _amount_of(event, Kind.INFORMATIONAL)
        if reference in state.opened:
            return
        self._drop_opened(state)
        opened = state.opened[reference] = DepositOpening(event.occurred_at, minor, currency)
        waiting = state.waiting.get(reference)
        if waiting is None:
            return
        if event.occurred_at <= waiting.at_ms + self.rule.limit("unmatched"):
            del state.waiting[reference]
            yield from self._credit(opened, waiting, event.player_id)

    def _check_deposit(
        self, state: DepositState, event: WalletTransaction, offset: int
    ) -> Iterator[Finding]:
        minor, currency = _amount_of(event, Kind.DEPOSIT)
        deposit = WaitingDeposit(
            event.occurred_at, offset, event.event_id, event.provider, minor, currency
        )
        if event.provider not in self.rule.words["providers"]:
            yield self._finding(deposit, "WRONG_SENDER", "block", event.player_id)
        elif (
            event.signature != SignatureVerdict.VALID
            and event.provider not in self.rule.words["unsigned"]
        ):
            yield self._finding(deposit, "NOT_SIGNED", "block", event.player_id)
        elif event.reference is None:
            yield self._finding(deposit, "NO_REFERENCE", "block", event.player_id)
        elif event.reference.operation == OPENED:
            opened = state.opened.get(event.reference.tx_id)
            if opened is not None:
                yield from self._credit(opened, deposit, event.player_id)
                return
            state.waiting[event.reference.tx_id] = deposit
            due_ms = event.occurred_at + self.rule.limit("unmatched") + self.rule.grace_ms
            self.schedule(self.key, event.reference.tx_id, due_ms)

    def _credit(
        self, opened: DepositOpening, deposit: WaitingDeposit, player_id: str | None
    ) -> Iterator[Finding]:
        opened.credited_minor += deposit.minor
        if deposit.currency != opened.currency:
            yield self._finding(deposit, "OTHER_CURRENCY", "block", player_id)
        elif opened.credited_minor > opened.minor + 1:  # a unit of rounding is not a fraud
            yield self._finding(deposit, "ABOVE_OPENED", "block", player_id)

    def find_due(self, key: str, state: DepositState, tag: str, due_ms: int) -> Iterator[Finding]:
        """Report a deposit whose opening has not turned up in time."""
        del due_ms
        waiting = state.waiting.pop(tag, None)
        if waiting is not None:
            yield self._finding(waiting, "NOT_OPENED", "hold", player_of(key))

    def _finding(
        self, deposit: WaitingDeposit, reason: str, severity: Severity, player_id: str | None
    ) -> Finding:
        return Finding(
            reason=reason,
            severity=severity,
            title=f"Deposit by {deposit.provider} that no payment provider confirmed: {reason}",
            player_id=player_id,
            at_ms=deposit.at_ms,
            window=(deposit.at_ms, deposit.at_ms),
            observed=1,
            threshold=self.rule.threshold,
            unit=self.rule.unit,
            offsets=[deposit.offset],
            event_ids=[deposit.event_id],
            evidence={"provider": deposit.provider, "operator": ">="},
            exposed_minor=deposit.minor,
            currency=deposit.currency,
            adds=True,
        )


def _amount_of(event: WalletTransaction, kind: Kind) -> tuple[int, str]:
    for leg in event.legs:
        if leg.kind == kind and leg.currency is not None:
            return leg_minor(leg) or 0, leg.currency
    return 0, ""
