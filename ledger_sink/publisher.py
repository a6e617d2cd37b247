"""Settled balances and outcomes onto their topics, in source order, from a cursor that follows the broker's word.

There is no outbox table: the ledger's own rows are the outbox. The fast path sends what the committing worker still has
in memory; after a restart, or where a COMMIT's reply was lost, the same records are made from the tables again, so the
newest comes last. A reader drops `version <= seen`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from ledger_sink.book import Decided
from ledger_sink.database import Database
from ledger_sink.journal import Wallet
from ledger_sink.messages import player_message
from ledger_sink.statements import statements
from ledger_sink.store import CONSUMER, Applied, Slice
from schemas import codec
from schemas.errors import Unavailable
from schemas.events import Attempt, Position, WalletBalance, WalletOutcome
from schemas.money import exponent_of

logger = logging.getLogger(__name__)

_DATABASE_RETRY_S = 0.5
_SQL = statements("positions")


Send = Callable[[str, Sequence[tuple[bytes, bytes]]], Awaitable[None]]
"""Append (key, value) records to a topic, partitioned by key, and return once the broker has all of them."""


class Publisher:
    """One source partition's records always go out in its order: a single task sends group after group."""

    def __init__(
        self,
        database: Database,
        send: Send,
        epochs: Mapping[int, int],
        *,
        log_topic: str,
        balances_topic: str,
        outcomes_topic: str,
    ) -> None:
        self._epochs = epochs
        self._database = database
        self._send = send
        self._log_topic = log_topic
        self._balances_topic = balances_topic
        self._outcomes_topic = outcomes_topic
        self._queue: asyncio.Queue[Applied] = asyncio.Queue(maxsize=8)  # bounded: a slow broker slows the ledger down
        self._published: dict[int, int] = {}
        self._encode_outcome = codec.encoder(WalletOutcome)
        self._encode_balance = codec.encoder(WalletBalance)

    async def put(self, applied: Applied) -> None:
        """Hand over what was committed; waits while the broker is slower than the ledger."""
        await self._queue.put(applied)

    async def resend(self, part: int, first_offset: int, next_offset: int) -> None:
        """Send a stretch of the log's answers again from the tables. Raises Unavailable."""
        slice_ = Slice(part, first_offset, next_offset, ())
        await self._publish(Applied(known=[slice_]))

    async def run(self) -> None:
        """Send for ever. An error ends it, and with it the process: a record that was skipped would never be sent."""
        while True:
            applied = await self._queue.get()
            await self._publish_in_the_end(applied)
            self._queue.task_done()

    async def _publish_in_the_end(self, applied: Applied) -> None:
        while True:
            try:
                await self._publish(applied)
            except Unavailable as error:
                logger.warning("what is committed is published once the database answers: %s", error)
                await asyncio.sleep(_DATABASE_RETRY_S)
            else:
                return

    async def drain(self) -> None:
        """Wait until everything handed over is out, then store the cursors."""
        await self._queue.join()
        await self.store_cursors()

    async def store_cursors(self) -> None:
        """Write down how far each partition is published. Late is harmless: a restart sends some records again."""
        parts = sorted(part for part in self._published if part in self._epochs)
        if not parts:
            return
        await self._database.query(
            _SQL["published"],
            {
                "consumer": CONSUMER,
                "topic": self._log_topic,
                "parts": parts,
                "offsets": [self._published[part] for part in parts],
                "epochs": [self._epochs[part] for part in parts],
            },
        )

    async def _publish(self, applied: Applied) -> None:
        outcomes = [self._outcome_of(decided) for decided in applied.book.decided]
        wallets: Iterable[Wallet] = applied.book.changed_wallets.values()
        balances = [self._balance_of(wallet) for wallet in wallets]
        for known in applied.known:
            rows = await self._database.query(_SQL["outcomes_between"], _stretch(known))
            outcomes += [self._outcome_of_row(row) for row in rows]
            players = sorted({row[10] for row in rows if row[10] is not None})
            stored = await self._database.query(_SQL["wallets_of"], {"players": players})
            balances += [self._balance_of(Wallet(*row)) for row in stored]
        await asyncio.gather(self._send(self._outcomes_topic, outcomes), self._send(self._balances_topic, balances))
        for slice_ in (*applied.done, *applied.known):
            self._published[slice_.part] = max(self._published.get(slice_.part, 0), slice_.next_offset)

    def _outcome_of(self, decided: Decided) -> tuple[bytes, bytes]:
        event, answer = decided.sourced.event, decided.answer
        return self._framed_outcome(
            (event.event_id, event.brand, event.provider, event.operation, event.provider_tx_id), event.attempt,
            event.player_id, (answer.outcome, answer.reason, answer.currency, answer.available_minor, answer.version),
        )  # fmt: skip

    def _outcome_of_row(self, row: Sequence[Any]) -> tuple[bytes, bytes]:
        return self._framed_outcome(tuple(row[1:6]), Attempt(*row[6:10]), row[10], tuple(row[11:16]))

    def _framed_outcome(
        self, identity: tuple[Any, ...], attempt: Attempt, player_id: str | None, answer: tuple[Any, ...]
    ) -> tuple[bytes, bytes]:
        event_id, brand, provider, operation, provider_tx_id = identity
        outcome, reason, currency, available_minor, version = answer
        scale = None if currency is None else exponent_of(currency)
        record = WalletOutcome(
            event_id, brand, provider, operation, provider_tx_id, attempt, player_id, outcome, reason,
            player_message(outcome), currency, scale, available_minor, version,
        )  # fmt: skip
        key = player_id if player_id is not None else record.provider_tx_id
        return key.encode(), self._encode_outcome(record)

    def _balance_of(self, wallet: Wallet) -> tuple[bytes, bytes]:
        available = wallet.available_minor
        record = WalletBalance(
            wallet.player_id, wallet.currency, wallet.scale, available + wallet.held_minor, available,
            wallet.held_minor, wallet.bonus_minor, wallet.version, wallet.event_id,
            Position(self._log_topic, wallet.part, wallet.source_offset),
        )  # fmt: skip
        return f"{wallet.player_id}:{wallet.currency}".encode(), self._encode_balance(record)


def _stretch(slice_: Slice) -> dict[str, int]:
    return {"part": slice_.part, "first": slice_.from_offset, "next": slice_.next_offset}
