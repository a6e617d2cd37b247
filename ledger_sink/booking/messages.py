"""The records by which the ledger publishes: keys and values of outcomes, balances and alerts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ledger_sink.rules import debts, payments
from ledger_sink.rules.book import DecidedEvent
from ledger_sink.rules.brands import PLAYER_OF_OTHER_BRAND
from ledger_sink.rules.journal import Wallet
from ledger_sink.rules.operations import ID_OF_OTHER_OPERATION
from schemas import codec
from schemas.events import (
    Attempt,
    FraudAlert,
    Outcome,
    Position,
    RiskSignal,
    SignalKind,
    WalletBalance,
    WalletOutcome,
)
from schemas.identity import signal_id
from schemas.money import exponent_of

Message = tuple[bytes, bytes]
"""Key and value."""

# Codes are for providers; these sentences are for players.
_PLAYER_MESSAGES: Final[dict[str, str]] = {
    Outcome.POSTED: "Done.",
    Outcome.EXISTS: "This was already done.",
    Outcome.CONFLICT: "This could not be done. Please contact support.",
    Outcome.REFUSED_FUNDS: "Your balance is too low for this.",
    Outcome.REFUSED_BLOCKED: (
        "Your account cannot be used for this at the moment. Please contact support."
    ),
    Outcome.REFUSED_LIMIT: "This is above the limit set for your account.",
    Outcome.REFUSED_CURRENCY: "Your account does not hold this currency.",
    Outcome.REFUSED_EXPIRED: "This came too late and was not done.",
    Outcome.REFUSED_REFERENCE: "This could not be done for the bet that it belongs to.",
    Outcome.TOMBSTONED: "This was taken back and no money was moved.",
    Outcome.CANCELLED: "This was cancelled and no money was moved.",
    Outcome.UNRESOLVED: "This is being checked by our staff.",
    Outcome.INFORMATIONAL: "Noted.",
}


_ALERTING: Final = debts.REASONS | payments.REASONS
SIGNALS_BY_REASON: Final = {
    PLAYER_OF_OTHER_BRAND: SignalKind.OTHER_BRAND,
    ID_OF_OTHER_OPERATION: SignalKind.OTHER_OPERATION,
}
"""The reasons that raise a risk signal."""


def player_message(outcome: str) -> str:
    """Return the sentence that a player may be shown about an outcome.

    It says nothing about rules, thresholds or other players.
    """
    return _PLAYER_MESSAGES[Outcome(outcome)]


class MessageEncoder:
    """Makes the same bytes from what is in memory and from what is in the tables."""

    def __init__(self, log_topic: str) -> None:
        self._log_topic = log_topic
        self._outcome_bytes = codec.encoder(WalletOutcome)
        self._balance_bytes = codec.encoder(WalletBalance)
        self._alert_bytes = codec.encoder(FraudAlert)
        self._signal_bytes = codec.encoder(RiskSignal)

    def encode_outcome(self, decided: DecidedEvent) -> Message:
        """Return the answer to an event that has just been decided."""
        event, answer = decided.log_event.event, decided.answer
        return self._outcome_message(
            (
                event.event_id,
                event.brand,
                event.provider,
                event.operation,
                event.provider_tx_id,
            ),
            event.attempt,
            event.player_id,
            (
                answer.outcome,
                answer.reason,
                answer.currency,
                answer.available_minor,
                answer.version,
                answer.decided_at,
            ),
        )

    def encode_outcome_row(self, row: Sequence[Any]) -> Message:
        """Return the same from a row of `outcomes_between`."""
        attempt = Attempt(*row[6:10])
        return self._outcome_message(tuple(row[1:6]), attempt, row[10], tuple(row[11:17]))

    def encode_alert(self, decided: DecidedEvent) -> Message | None:
        """Return the alert about a debt or money that does not fit, if this decision made one."""
        answer = decided.answer
        if answer.reason not in _ALERTING or decided.decision is None:
            return None
        log_event, event = decided.log_event, decided.log_event.event
        return self._alert_message(
            (event.event_id, event.brand, event.operation, event.player_id),
            (answer.reason, answer.currency, answer.available_minor),
            event.occurred_at,
            log_event.source,
        )

    def encode_alert_row(self, row: Sequence[Any], partition: int) -> Message | None:
        """Return the same from a row of `outcomes_between`; None for a repeat, without a time."""
        reason, currency, available_minor, occurred_at = row[12], row[13], row[14], row[17]
        if reason not in _ALERTING or occurred_at is None:
            return None
        return self._alert_message(
            (row[1], row[2], row[4], row[10]),
            (reason, currency, available_minor),
            occurred_at,
            Position(self._log_topic, partition, row[0]),
        )

    def encode_signal(self, decided: DecidedEvent) -> Message | None:
        """Return the risk signal about an event, if this decision made one."""
        answer, event = decided.answer, decided.log_event.event
        if answer.reason not in SIGNALS_BY_REASON or decided.decision is None:
            return None
        identity = (event.event_id, event.brand, event.provider, event.operation)
        return self._signal_message(
            (*identity, event.provider_tx_id),
            event.attempt,
            event.player_id,
            answer.reason,
            event.occurred_at,
        )

    def encode_signal_row(self, row: Sequence[Any]) -> Message | None:
        """Return the same from a row of `outcomes_between`; None for a repeat, without a time."""
        reason, occurred_at = row[12], row[17]
        if reason not in SIGNALS_BY_REASON or occurred_at is None:
            return None
        return self._signal_message(
            tuple(row[1:6]), Attempt(*row[6:10]), row[10], reason, occurred_at
        )

    def encode_balance(self, wallet: Wallet) -> Message:
        """Return the balance of a wallet as it is now."""
        available = wallet.available_minor
        record = WalletBalance(
            wallet.player_id,
            wallet.currency,
            wallet.scale,
            available + wallet.held_minor,
            available,
            wallet.held_minor,
            wallet.bonus_minor,
            wallet.version,
            wallet.event_id,
            Position(self._log_topic, wallet.partition, wallet.source_offset),
        )
        key = f"{wallet.player_id}:{wallet.currency}"
        return key.encode(), self._balance_bytes(record)

    def _outcome_message(
        self,
        identity: tuple[Any, ...],
        attempt: Attempt,
        player_id: str | None,
        answer: tuple[Any, ...],
    ) -> Message:
        event_id, brand, provider, operation, provider_tx_id = identity
        outcome, reason, currency, available_minor, version, decided_at = answer
        record = WalletOutcome(
            event_id,
            brand,
            provider,
            operation,
            provider_tx_id,
            attempt,
            player_id,
            outcome,
            reason,
            player_message(outcome),
            currency,
            None if currency is None else exponent_of(currency),
            available_minor,
            version,
            decided_at,
        )
        key = player_id if player_id is not None else record.provider_tx_id
        return key.encode(), self._outcome_bytes(record)

    def _signal_message(
        self,
        identity: tuple[Any, ...],
        attempt: Attempt,
        player_id: str | None,
        reason: str,
        occurred_at: int,
    ) -> Message:
        event_id, brand, provider, operation, provider_tx_id = identity
        kind = SIGNALS_BY_REASON[reason]
        source = Position(attempt.topic, attempt.partition, attempt.offset)
        signal = RiskSignal(
            signal_id(kind, source, attempt.record_index),
            kind.value,
            provider,
            brand,
            source,
            attempt.record_index,
            player_id,
            occurred_at,
            {"event_id": event_id, "operation": operation, "provider_tx_id": provider_tx_id},
        )
        return (player_id or provider).encode(), self._signal_bytes(signal)

    def _alert_message(
        self,
        identity: tuple[str, str, str, str | None],
        answer: tuple[str, str | None, int | None],
        occurred_at: int,
        source: Position,
    ) -> Message:
        event_id, brand, operation, player_id = identity
        reason, currency, available_minor = answer
        assert player_id is not None
        if reason in payments.REASONS:
            alert = payments.payment_alert(
                event_id, brand, player_id, operation, reason, occurred_at, source
            )
            return alert.key.encode(), self._alert_bytes(alert)
        assert currency is not None
        assert available_minor is not None
        alert = debts.debt_alert(
            event_id,
            brand,
            player_id,
            operation,
            reason,
            currency,
            available_minor,
            occurred_at,
            source,
        )
        return alert.key.encode(), self._alert_bytes(alert)
