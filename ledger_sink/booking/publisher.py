"""Publishing balances, outcomes and debt alerts, in source order, from a stored cursor.

The ledger's own rows are the outbox; it has no table of its own. The fast path sends what the
committing worker still has in memory. After a restart, or where a COMMIT's reply was lost, the same
records are made from the tables again, so the newest comes last. A reader drops `version <= seen`.

The cursor of a partition only moves over what the broker has acknowledged: where a group begins
after it, the range in between is sent from the tables first. Records of a revoked partition are
dropped: its next owner sends them from the cursor.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ledger_sink.booking.messages import Message, MessageEncoder
from ledger_sink.rules.book import DecidedEvent
from ledger_sink.rules.journal import Wallet
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import CONSUMER, AppliedGroup, Slice
from ledger_sink.store.statements import statements
from runtime.hop_tap import HopStep, note_step
from runtime.kafka.records import readable_headers
from runtime.telemetry.samples import MetricSample, count_samples
from runtime.telemetry.traces import TRACEPARENT, find_traceparent
from schemas.errors import SendFailed, Unavailable

logger = logging.getLogger(__name__)

_DATABASE_RETRY_S = 0.5
_DRAIN_S = 5.0
"""A revocation delays the whole group; what is not sent by then is sent by the next owner."""

_OFFSETS_PER_READ = 5_000
"""How many offsets are read from the tables at once."""

_SQL = statements("positions")


TracedMessage = tuple[bytes, bytes, Sequence[tuple[str, bytes | None]]]
"""Key, value and headers of a record whose event belongs to a sender's trace."""

Send = Callable[[str, Sequence[Message | TracedMessage]], Awaitable[None]]
"""Appends (key, value) records, some with headers, to a topic, partitioned by key.

Returns once the broker has all of them.
"""


OnPublished = Callable[
    [AppliedGroup, Sequence[DecidedEvent], Mapping[tuple[int, int], bytes]], None
]
"""Takes a group, its decisions whose outcomes the broker has acknowledged, and the `traceparent` of
its records by partition and offset.
"""


def find_traceparents(applied: AppliedGroup) -> dict[tuple[int, int], bytes]:
    """Return the `traceparent` of each record of a group that has one, by partition and offset."""
    return {
        (slice_.partition, record.offset): value
        for slice_ in applied.newly_committed
        for record in slice_.records
        if (headers := readable_headers(record))
        and (value := find_traceparent(headers)) is not None
    }


def _with_parent(message: Message, parent: bytes | None) -> Message | TracedMessage:
    return message if parent is None else (*message, [(TRACEPARENT, parent)])


class AnswerCounts:
    """Counts of what was answered since the start, by outcome and reason.

    What is sent again after a restart is not counted.
    """

    def __init__(self) -> None:
        """Begin at zero."""
        self._counts: Counter[tuple[str, str]] = Counter()

    def count(self, _: AppliedGroup, decisions: Sequence[DecidedEvent], __: object) -> None:
        """Count decisions whose outcomes are published."""
        self._counts.update((one.answer.outcome, one.answer.reason) for one in decisions)

    def samples(self) -> Iterator[MetricSample]:
        """Yield the counts as metrics."""
        return count_samples("pitboss.ledger.outcomes", self._counts)


class Publisher:
    """Sends committed groups; a single task keeps each source partition's records in its order."""

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
        signals_topic: str | None = None,
    ) -> None:
        """Send nothing before `run`. `epochs` is the ledger's own mapping, as it changes."""
        self._alerts_topic = alerts_topic
        self._signals_topic = signals_topic
        self._epochs = epochs
        self._database = database
        self._send = send
        self._log_topic = log_topic
        self._balances_topic = balances_topic
        self._outcomes_topic = outcomes_topic
        # Bounded: a slow broker slows the ledger down.
        self._queue: asyncio.Queue[AppliedGroup] = asyncio.Queue(maxsize=8)
        self._ended = asyncio.Event()
        self._published: dict[int, int] = {}
        self._stored: dict[int, int] = {}
        """The cursors that the database has."""
        self._encoder = MessageEncoder(log_topic)
        self.on_published: list[OnPublished] = []

    async def enqueue(self, applied: AppliedGroup) -> None:
        """Take a committed group over; wait while the broker is slower than the ledger.

        Raises SendFailed if `run` has ended.
        """
        if self._queue.full():
            await self._unless_ended(self._queue.put(applied))
        else:
            self._queue.put_nowait(applied)

    async def resend(self, partition: int, published_offset: int, next_offset: int) -> None:
        """Send what the cursor of a claimed partition does not cover, from the tables.

        It goes behind everything that was enqueued before, so that the newest comes last. Raises
        SendFailed.
        """
        self._published[partition] = self._stored[partition] = published_offset
        for first in range(published_offset, next_offset, _OFFSETS_PER_READ):
            end = min(first + _OFFSETS_PER_READ, next_offset)
            unsent = [Slice(partition, first, end, ())]
            epochs = {partition: self._epochs[partition]}
            await self.enqueue(AppliedGroup(already_committed=unsent, epochs=epochs))
        await self._unless_ended(self._queue.join())

    async def run(self) -> None:
        """Send for ever.

        An error ends it, and with it the process: a record that was skipped would never be sent.
        """
        try:
            while True:
                groups = self._take_groups(await self._queue.get())
                await self._publish_with_retry(groups)
                for _ in groups:
                    self._queue.task_done()
        finally:
            self._ended.set()

    def _take_groups(self, first: AppliedGroup) -> list[AppliedGroup]:
        """Return a group with those that were committed while the ones before were sent."""
        groups, messages = [first], _size(first)
        while messages < _OFFSETS_PER_READ and not self._queue.empty():
            groups.append(self._queue.get_nowait())
            messages += _size(groups[-1])
        return groups

    async def _publish_with_retry(self, groups: Sequence[AppliedGroup]) -> None:
        while True:
            try:
                await self._publish(groups)
            except Unavailable as error:
                logger.warning("committed records wait for the database: %s", error)
                await asyncio.sleep(_DATABASE_RETRY_S)
            else:
                return

    async def _unless_ended(self, work: Awaitable[None]) -> None:
        """Wait for work that only a running publisher can finish. Raises SendFailed if it ends."""
        working = asyncio.ensure_future(work)
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                message = "the publisher has ended; what is committed goes out after the next claim"
                raise SendFailed(message)
        finally:
            working.cancel()
            ended.cancel()

    async def drain(self) -> None:
        """Wait a bounded time until everything enqueued is sent, then store the cursors."""
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
        """Store how far each partition is published, where that has moved.

        Late is harmless: a restart sends some records again. Raises Unavailable.
        """
        moved = {
            number: offset
            for number, offset in self._published.items()
            if number in self._epochs and offset != self._stored.get(number)
        }
        if not moved:
            return
        partitions = sorted(moved)
        await self._database.query(
            _SQL["published"],
            {
                "consumer": CONSUMER,
                "topic": self._log_topic,
                "parts": partitions,
                "offsets": [moved[partition] for partition in partitions],
                "epochs": [self._epochs[partition] for partition in partitions],
            },
        )
        self._stored |= moved

    async def _publish(self, groups: Sequence[AppliedGroup]) -> None:
        batch = _MessageBatch(dict(self._published))
        for applied in groups:
            await self._collect(applied, batch)
        balances = [
            _with_parent(
                self._encoder.encode_balance(wallet),
                batch.parents.get((wallet.partition, wallet.source_offset)),
            )
            for wallet in batch.wallets.values()
        ]
        sends = [
            self._send(self._outcomes_topic, batch.outcomes),
            self._send(self._balances_topic, balances),
        ]
        if batch.alerts and self._alerts_topic is not None:
            sends.append(self._send(self._alerts_topic, batch.alerts))
        if batch.signals and self._signals_topic is not None:
            sends.append(self._send(self._signals_topic, batch.signals))
        self._note_hop("packed", groups)
        await asyncio.gather(*sends)
        for applied, decisions in batch.decided:
            for observe in self.on_published:
                observe(applied, decisions, batch.parents)
        for partition in batch.partitions:
            cursor = self._published.get(partition, 0)
            self._published[partition] = max(cursor, batch.reached[partition])
        self._note_hop("published", groups)

    def _note_hop(self, step: HopStep, groups: Sequence[AppliedGroup]) -> None:
        for group in groups:
            for slice_ in (*group.already_committed, *group.newly_committed):
                span = (slice_.from_offset, slice_.next_offset)
                note_step(step, self._log_topic, slice_.partition, *span)

    async def _collect(self, applied: AppliedGroup, batch: _MessageBatch) -> None:
        """Add the messages of a group, to be sent behind those in the batch. Raises Unavailable."""
        book = applied.book
        ours = {
            partition
            for partition, epoch in applied.epochs.items()
            if self._epochs.get(partition) == epoch
        }
        is_whole = len(ours) == len(applied.epochs)
        outcomes, alerts, signals, wallets = await self._read_messages(
            _unsent(applied, ours, batch.reached)
        )
        decisions = [
            decided
            for decided in book.decisions
            if is_whole or decided.log_event.source.partition in ours
        ]
        parents = find_traceparents(applied)
        batch.parents |= parents
        batch.outcomes += outcomes
        for decided in decisions:
            source = decided.log_event.source
            message = self._encoder.encode_outcome(decided)
            parent = parents.get((source.partition, source.offset)) if parents else None
            batch.outcomes.append(_with_parent(message, parent))
        batch.alerts += alerts
        batch.alerts += filter(None, map(self._encoder.encode_alert, decisions))
        batch.signals += signals
        batch.signals += filter(None, map(self._encoder.encode_signal, decisions))
        for wallet in wallets.values():
            batch.add_wallet(wallet)
        for wallet in book.changed_wallets.values():
            if is_whole or wallet.partition in ours:
                batch.add_wallet(wallet)
        batch.decided.append((applied, decisions))
        batch.partitions |= ours

    async def _read_messages(
        self, ranges: Sequence[Slice]
    ) -> tuple[list[Message], list[Message], list[Message], dict[tuple[str, str], Wallet]]:
        """Return outcomes, alerts and signals of ranges of the log, and its wallets as of now."""
        outcomes: list[Message] = []
        alerts: list[Message] = []
        signals: list[Message] = []
        wallets: dict[tuple[str, str], Wallet] = {}
        for slice_ in ranges:
            partition = slice_.partition
            rows = await self._database.query(
                _SQL["outcomes_between"],
                {"part": partition, "first": slice_.from_offset, "next": slice_.next_offset},
            )
            outcomes += [self._encoder.encode_outcome_row(row) for row in rows]
            alerts += filter(None, (self._encoder.encode_alert_row(row, partition) for row in rows))
            signals += filter(None, map(self._encoder.encode_signal_row, rows))
            players = sorted({row[10] for row in rows if row[10] is not None})
            for row in await self._database.query(_SQL["wallets_of"], {"players": players}):
                wallets[row[0], row[1]] = Wallet(*row)
        return outcomes, alerts, signals, wallets


@dataclass(slots=True)
class _MessageBatch:
    """What is sent of some groups at once."""

    reached: dict[int, int]
    """By partition, how far the batch has come."""
    outcomes: list[Message | TracedMessage] = field(default_factory=list)
    alerts: list[Message] = field(default_factory=list)
    signals: list[Message] = field(default_factory=list)
    wallets: dict[tuple[str, str], Wallet] = field(default_factory=dict)
    """The newest of each, as one message is enough."""
    parents: dict[tuple[int, int], bytes] = field(default_factory=dict)
    decided: list[tuple[AppliedGroup, Sequence[DecidedEvent]]] = field(default_factory=list)
    partitions: set[int] = field(default_factory=set)

    def add_wallet(self, wallet: Wallet) -> None:
        """Add a wallet, unless a newer one is there."""
        key = (wallet.player_id, wallet.currency)
        newer = self.wallets.get(key)
        if newer is None or newer.version < wallet.version:
            self.wallets[key] = wallet


def _size(applied: AppliedGroup) -> int:
    """Return about how many outcomes a group has."""
    read = sum(slice_.next_offset - slice_.from_offset for slice_ in applied.already_committed)
    return len(applied.book.decisions) + read


def _unsent(applied: AppliedGroup, ours: Collection[int], reached: dict[int, int]) -> list[Slice]:
    """Return the ranges that the cursor has still to pass and memory does not hold.

    `reached`, by partition, is moved to the end of the group.
    """
    unsent = []
    ranges = [(slice_, slice_.next_offset) for slice_ in applied.already_committed]
    ranges += [(slice_, slice_.from_offset) for slice_ in applied.newly_committed]
    for slice_, end in ranges:
        partition = slice_.partition
        begin = reached.get(partition, slice_.from_offset)
        if partition in ours:
            if begin < end:
                unsent.append(Slice(partition, begin, end, ()))
            reached[partition] = max(begin, end)
    for slice_ in applied.newly_committed:
        if slice_.partition in ours:
            reached[slice_.partition] = max(reached[slice_.partition], slice_.next_offset)
    return unsent
