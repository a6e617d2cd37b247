"""The records that tell the world what is settled: keys and values of the outcome and the balance topic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ledger_sink.book import Decided
from ledger_sink.journal import Wallet
from ledger_sink.messages import player_message
from schemas import codec
from schemas.events import Attempt, Position, WalletBalance, WalletOutcome
from schemas.money import exponent_of

Message = tuple[bytes, bytes]
"""Key and value."""


class SettledRecords:
    """Makes the same bytes from what is in memory and from what is in the tables."""

    def __init__(self, log_topic: str) -> None:
        self._log_topic = log_topic
        self._encode_outcome = codec.encoder(WalletOutcome)
        self._encode_balance = codec.encoder(WalletBalance)

    def outcome_of(self, decided: Decided) -> Message:
        """The answer to what has just been decided."""
        event, answer = decided.sourced.event, decided.answer
        return self._framed_outcome(
            (event.event_id, event.brand, event.provider, event.operation, event.provider_tx_id), event.attempt,
            event.player_id, (answer.outcome, answer.reason, answer.currency, answer.available_minor, answer.version),
        )  # fmt: skip

    def outcome_of_row(self, row: Sequence[Any]) -> Message:
        """The same from a row of `outcomes_between`."""
        return self._framed_outcome(tuple(row[1:6]), Attempt(*row[6:10]), row[10], tuple(row[11:16]))

    def _framed_outcome(
        self, identity: tuple[Any, ...], attempt: Attempt, player_id: str | None, answer: tuple[Any, ...]
    ) -> Message:
        event_id, brand, provider, operation, provider_tx_id = identity
        outcome, reason, currency, available_minor, version = answer
        scale = None if currency is None else exponent_of(currency)
        record = WalletOutcome(
            event_id, brand, provider, operation, provider_tx_id, attempt, player_id, outcome, reason,
            player_message(outcome), currency, scale, available_minor, version,
        )  # fmt: skip
        key = player_id if player_id is not None else record.provider_tx_id
        return key.encode(), self._encode_outcome(record)

    def balance_of(self, wallet: Wallet) -> Message:
        """A wallet as it stands."""
        available = wallet.available_minor
        record = WalletBalance(
            wallet.player_id, wallet.currency, wallet.scale, available + wallet.held_minor, available,
            wallet.held_minor, wallet.bonus_minor, wallet.version, wallet.event_id,
            Position(self._log_topic, wallet.part, wallet.source_offset),
        )  # fmt: skip
        return f"{wallet.player_id}:{wallet.currency}".encode(), self._encode_balance(record)
