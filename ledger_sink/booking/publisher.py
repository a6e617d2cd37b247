"""What is settled onto its topics, in source order, from a cursor that follows the broker's word.

Balances, outcomes, and alerts about debts.

There is no outbox table: the ledger's own rows are the outbox. The fast path sends what the
committing worker still has in memory; after a restart, or where a COMMIT's reply was lost, the same
records are made from the tables again, so the newest comes last. A reader drops `version <= seen`.

The cursor of a partition only moves over what was sent: where a group begins behind it, what lies
between comes from the tables first. What belongs to a partition that was let go is dropped: its
next owner sends it from the cursor.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress

from ledger_sink.booking.settled import Message, MessageEncoder
from ledger_sink.rules.journal import Wallet
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.ledger import CONSUMER, AppliedGroup, Slice
from ledger_sink.store.statements import statements
from schemas.errors import SendFailed, Unavailable

logger = logging.getLogger(__name__)

_DATABASE_RETRY_S = 0.5
_DRAIN_S = 5.0
"""A revocation holds the whole group up; what is not out by then is sent by the next owner."""

_STRETCH_OFFSETS = 5_000
"""So many offsets are read from the tables at once."""

_SQL = statements("positions")


Send = Callable[[str, Sequence[Message]], Awaitable[None]]
"""Append (key, value) records to a topic, partitioned by key, and return once the broker has all of
them.
"""


class Publisher:
    """One source partition's records always go out in its order: a single task sends group after
    group.
    """

    def __init__(
        self,
        database: LedgerDatabase,
        send: Send,
        epochs: Mapping[int, int],
        *,
        log_topic: str,
        balances_topic: str,
        outcomes_topic: str,
        alerts_topic: str | None = None,
    ) -> None:
        self._alerts_topic = alerts_topic
        self._epochs = epochs
        self._database = database
        self._send = send
        self._log_topic = log_topic
        self._balances_topic = balances_topic
        self._outcomes_topic = outcomes_topic
        self._queue: asyncio.Queue[AppliedGroup] = asyncio.Queue(
            maxsize=8
        )  # bounded: a slow broker slows the ledger down
        self._ended = asyncio.Event()
        self._published: dict[int, int] = {}
        self._records = MessageEncoder(log_topic)

    async def enqueue(self, applied: AppliedGroup) -> None:
        """Hand over what was committed; waits while the broker is slower than the ledger.

        Raises SendFailed if nobody publishes any more.
        """
        if self._queue.full():
            await self._unless_ended(self._queue.put(applied))
        else:
            self._queue.put_nowait(applied)

    async def resend(self, part: int, published_offset: int, next_offset: int) -> None:
        """Begin with a partition that was claimed: what its cursor does not cover goes out again,
        from the tables.

        Behind all that was handed over before, so that the newest comes last. Raises SendFailed.
        """
        self._published[part] = published_offset
        for first in range(published_offset, next_offset, _STRETCH_OFFSETS):
            stretch = Slice(part, first, min(first + _STRETCH_OFFSETS, next_offset), ())
            await self.enqueue(
                AppliedGroup(already_committed=[stretch], epochs={part: self._epochs[part]})
            )
        await self._unless_ended(self._queue.join())

    async def run(self) -> None:
        """Send for ever.

        An error ends it, and with it the process: a record that was skipped would never be sent.
        """
        try:
            while True:
                applied = await self._queue.get()
                await self._publish_in_the_end(applied)
                self._queue.task_done()
        finally:
            self._ended.set()

    async def _publish_in_the_end(self, applied: AppliedGroup) -> None:
        while True:
            try:
                await self._publish(applied)
            except Unavailable as error:
                logger.warning(
                    "what is committed is published once the database answers: %s", error
                )
                await asyncio.sleep(_DATABASE_RETRY_S)
            else:
                return

    async def _unless_ended(self, work: Awaitable[None]) -> None:
        working, ended = asyncio.ensure_future(work), asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                message = (
                    "nothing is published any more; what is committed goes out after the next claim"
                )
                raise SendFailed(message)
        finally:
            working.cancel()
            ended.cancel()

    async def drain(self) -> None:
        """Wait a bounded time until everything handed over is out, then store the cursors."""
        with suppress(TimeoutError, SendFailed):
            async with asyncio.timeout(_DRAIN_S):
                await self._unless_ended(self._queue.join())
        try:
            await self.store_cursors()
        except Unavailable as error:
            logger.warning(
                "the published cursor is not stored, so some records will be sent again: %s", error
            )

    async def store_cursors(self) -> None:
        """Write down how far each partition is published.

        Late is harmless: a restart sends some records again.
        """
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

    async def _publish(self, applied: AppliedGroup) -> None:
        book = applied.book
        ours = {part for part, epoch in applied.epochs.items() if self._epochs.get(part) == epoch}
        is_whole = len(ours) == len(applied.epochs)
        outcomes, alerts, wallets = await self._from_tables(self._unsent(applied, ours))
        decided = [
            one for one in book.decisions if is_whole or one.log_event.source.partition in ours
        ]
        outcomes += map(self._records.encode_outcome, decided)
        alerts += filter(None, map(self._records.encode_alert, decided))
        for key, wallet in book.changed_wallets.items():
            newer = wallets.get(key)
            if (is_whole or wallet.partition in ours) and (
                newer is None or newer.version < wallet.version
            ):
                wallets[key] = wallet
        balances = [self._records.encode_balance(wallet) for wallet in wallets.values()]
        sends = [
            self._send(self._outcomes_topic, outcomes),
            self._send(self._balances_topic, balances),
        ]
        if alerts and self._alerts_topic is not None:
            sends.append(self._send(self._alerts_topic, alerts))
        await asyncio.gather(*sends)
        for slice_ in (*applied.already_committed, *applied.newly_committed):
            if slice_.partition in ours:
                self._published[slice_.partition] = max(
                    self._published.get(slice_.partition, 0), slice_.next_offset
                )

    def _unsent(self, applied: AppliedGroup, ours: Collection[int]) -> list[Slice]:
        """What the cursor has still to pass and memory does not hold."""
        reached: dict[int, int] = {}
        unsent = []
        stretches = [(slice_, slice_.next_offset) for slice_ in applied.already_committed]
        stretches += [(slice_, slice_.from_offset) for slice_ in applied.newly_committed]
        for slice_, end in stretches:
            part = slice_.partition
            begin = reached.get(part, self._published.get(part, slice_.from_offset))
            if part in ours and begin < end:
                unsent.append(Slice(part, begin, end, ()))
                reached[part] = end
        return unsent

    async def _from_tables(
        self, stretches: Sequence[Slice]
    ) -> tuple[list[Message], list[Message], dict[tuple[str, str], Wallet]]:
        outcomes: list[Message] = []
        alerts: list[Message] = []
        wallets: dict[tuple[str, str], Wallet] = {}
        for stretch in stretches:
            rows = await self._database.query(
                _SQL["outcomes_between"],
                {
                    "part": stretch.partition,
                    "first": stretch.from_offset,
                    "next": stretch.next_offset,
                },
            )
            outcomes += [self._records.encode_outcome_row(row) for row in rows]
            alerts += filter(
                None, (self._records.encode_alert_row(row, stretch.partition) for row in rows)
            )
            players = sorted({row[10] for row in rows if row[10] is not None})
            for row in await self._database.query(_SQL["wallets_of"], {"players": players}):
                wallets[row[0], row[1]] = Wallet(*row)
        return outcomes, alerts, wallets
