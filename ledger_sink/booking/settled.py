"""The records that tell the world what is settled: keys and values of outcomes, balances and
alerts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger_sink.booking.messages import player_message
from ledger_sink.rules import debts
from ledger_sink.rules.book import DecidedEvent
from ledger_sink.rules.journal import Wallet
from schemas import codec
from schemas.events import Attempt, FraudAlert, Position, WalletBalance, WalletOutcome
from schemas.money import exponent_of

Message = tuple[bytes, bytes]
"""Key and value."""


class MessageEncoder:
    """Makes the same bytes from what is in memory and from what is in the tables."""

    def __init__(self, log_topic: str) -> None:
        self._log_topic = log_topic
        self._encode_outcome = codec.encoder(WalletOutcome)
        self._encode_balance = codec.encoder(WalletBalance)
        self._encode_alert = codec.encoder(FraudAlert)

    def encode_outcome(self, decided: DecidedEvent) -> Message:
        """The answer to what has just been decided."""
        event, answer = decided.log_event.event, decided.answer
        return self._framed_outcome(
            (event.event_id, event.brand, event.provider, event.operation, event.provider_tx_id),
            event.attempt,
            event.player_id,
            (
                answer.outcome,
                answer.reason,
                answer.currency,
                answer.available_minor,
                answer.version,
            ),
        )

    def encode_outcome_row(self, row: Sequence[Any]) -> Message:
        """The same from a row of `outcomes_between`."""
        return self._framed_outcome(
            tuple(row[1:6]), Attempt(*row[6:10]), row[10], tuple(row[11:16])
        )

    def encode_alert(self, decided: DecidedEvent) -> Message | None:
        """The alert about a debt, if this decision made one."""
        answer = decided.answer
        if answer.reason not in debts.REASONS or decided.decision is None:
            return None
        sourced, event = decided.log_event, decided.log_event.event
        return self._framed_alert(
            event.event_id,
            event.brand,
            event.operation,
            event.player_id,
            answer.reason,
            answer.currency,
            answer.available_minor,
            event.occurred_at,
            sourced.source,
        )

    def encode_alert_row(self, row: Sequence[Any], part: int) -> Message | None:
        """The same from a row of `outcomes_between`; a repeat has no time there, and is no news."""
        reason, currency, available_minor, occurred_at = row[12], row[13], row[14], row[16]
        if reason not in debts.REASONS or occurred_at is None:
            return None
        source = Position(self._log_topic, part, row[0])
        return self._framed_alert(
            row[1], row[2], row[4], row[10], reason, currency, available_minor, occurred_at, source
        )

    def _framed_alert(
        self,
        event_id: str,
        brand: str,
        operation: str,
        player_id: str | None,
        reason: str,
        currency: str | None,
        available_minor: int | None,
        occurred_at: int,
        source: Position,
    ) -> Message:
        assert player_id is not None
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
        return alert.key.encode(), self._encode_alert(alert)

    def _framed_outcome(
        self,
        identity: tuple[Any, ...],
        attempt: Attempt,
        player_id: str | None,
        answer: tuple[Any, ...],
    ) -> Message:
        event_id, brand, provider, operation, provider_tx_id = identity
        outcome, reason, currency, available_minor, version = answer
        scale = None if currency is None else exponent_of(currency)
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
            scale,
            available_minor,
            version,
        )
        key = player_id if player_id is not None else record.provider_tx_id
        return key.encode(), self._encode_outcome(record)

    def encode_balance(self, wallet: Wallet) -> Message:
        """A wallet as it stands."""
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
        return f"{wallet.player_id}:{wallet.currency}".encode(), self._encode_balance(record)
