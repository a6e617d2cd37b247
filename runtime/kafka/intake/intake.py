"""Read topics in batches, and commit an offset only when the work before it is durable.

Why no record can be lost, in the order of a record's life:

1. Start. A partition starts at an offset that was stored after everything before it was durable:
   the position that a component keeps and claims in a database, else the group's committed offset
   (`start_offsets.py`). Only a partition that has neither starts by the `start` policy. The client
   reads nothing before, and then exactly from there: it commits nothing, and where it cannot read
   it fails instead of choosing another offset (`consumer.py`).
2. Read. A batch covers the offsets `[from, next)`. `from` is the `next` of the batch before, and
   `next` is the offset behind its last record (`_next_chunk`). So no record of an assignment is
   outside all of its batches, where the client leaves some out (`offset_gaps.py`), is sought anew
   (`handed_over.py`) or fails (`_recover`). Only offsets without a record at the log's end are
   (`trailing_offsets.py`), if none keeps positions, and what was given up (`corrupt_records.py`).
3. Finish. The agent's loop calls `RecordBatch.mark_done` when the handler has returned, that is
   when its effects are durable (`agent_loop.py`). That alone moves the offset that may be committed
   past a record, and only along an unbroken run of finished batches (`progress.py`). `_commit` and
   `_drain` commit that offset and no other.
4. Revoke. Nothing more is sent to the agent, work in progress gets a bounded time, finished work is
   committed, and the assignment is over (`_drain`, `on_revoked`). A batch of an assignment that is
   over can mark nothing as done. If others may have the partitions already, nothing is committed.

So a crash at any point repeats some work and skips none.

Back-pressure: a partition whose next batch could exceed `records_ahead_max` unfinished records is
not read, nor fetched if others would have to wait; the channel limits all partitions together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final

from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError, KafkaException
from mode import Service

from runtime.kafka.batches import BatchChannel, RecordBatch
from runtime.kafka.intake.assignment import Assignment, PartitionStatus
from runtime.kafka.intake.chunked_reads import (
    CHUNK_RECORDS,
    YIELD_RECORDS,
    Reader,
    join_chunks,
    read_chunk,
)
from runtime.kafka.intake.client import ConsumerThread
from runtime.kafka.intake.client_errors import DAMAGED, OUT_OF_LOG, is_transient
from runtime.kafka.intake.client_partitions import CommitOffsets
from runtime.kafka.intake.consumer import IntakeSettings
from runtime.kafka.intake.corrupt_records import DamagedReads
from runtime.kafka.intake.handed_over import HandedOver
from runtime.kafka.intake.linger import Linger
from runtime.kafka.intake.listener import Fetch
from runtime.kafka.intake.offset_gaps import check_in_log
from runtime.kafka.intake.start_offsets import StartPositions, await_start_offsets, format_offsets
from runtime.kafka.records import FetchedRecord
from runtime.kafka.tasks import crash_on_stray_cancel
from schemas.errors import Unavailable

__all__ = ["Intake", "IntakeSettings", "PartitionStatus", "StartPositions"]

RETRY_S = 0.5
PAUSE_AFTER_S = 0.1
"""How long partitions without room keep others from being fetched, until they are paused: a pause
drops what the client has fetched ahead, and most waits are shorter."""

LIVENESS_EVERY_COMMITS: Final = 10
"""Commits from one liveness note to the next: ten seconds by default."""


class Intake(Service):
    """Service that sends the batches of a group's topics to a channel and commits finished work.

    It is the `Listener` of its consumer (`listener.py`).
    """

    def __init__(
        self,
        settings: IntakeSettings,
        channel: BatchChannel,
        *,
        topics: Collection[str] = (),
        pattern: str | None = None,
        positions: StartPositions | None = None,
        reader: Reader | None = None,
        **kwargs: Any,
    ) -> None:
        """Prepare to read topics, by names or by a pattern, without connecting.

        `positions` are those of a component that keeps its own; `reader` turns records into
        something smaller while they are read (`chunked_reads.py`).
        """
        super().__init__(**kwargs)
        self.settings = settings
        self.topics, self.pattern = tuple(topics), pattern
        self._channel = channel
        self._positions = positions
        self._reader = reader
        self._consumer: ConsumerThread | None = None
        self._current = Assignment(0)
        self._handed_over = HandedOver()
        self._streams = count(1)
        self._gap_offsets = 0
        self._paused: str | None = None
        self._starting: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._linger = Linger(settings.batch_records_max, self._handed_over.count_records)
        self._damaged = DamagedReads()

    # For agents, the watchdog and the control topic.

    @property
    def assignment(self) -> int:
        """Number of the current assignment; each revocation adds one."""
        return self._current.number

    @property
    def gap_offsets(self) -> int:
        """Number of offsets since the start that two fetches showed to hold no record."""
        return self._gap_offsets + self._current.gaps.gap_offsets

    def is_current(self, batch: RecordBatch) -> bool:
        """Return whether the batch belongs to the current assignment."""
        return batch.assignment == self._current.number

    def begin(self, batch: RecordBatch) -> bool:
        """Return whether to work on the batch, until `end`; not if it is stale or being revoked."""
        return self._current.begin(batch)

    def end(self, batch: RecordBatch, *, waiting: str | None = None) -> None:
        """End a try to work on the batch; `waiting` is what the next try waits for."""
        self._current.end(batch, waiting)
        self._wake_if_waited_for()

    def pause(self, reason: str) -> None:
        """Send no more batches until `resume`; those on the channel are still handled."""
        self._paused = reason

    def resume(self) -> None:
        """Send batches again."""
        self._paused = None
        self._changed.set()

    def skip_unreadable(self, tp: TopicPartition, offset: int, order: str) -> None:
        """Obey an order to leave out what cannot be read, unless positions are claimed."""
        if self._positions is None:
            self._damaged.allow_skip(tp, offset, order)

    def rejoin(self) -> None:
        """Leave the group and join it again, so that it assigns every partition anew."""
        self._client.rejoin()

    def status(self) -> dict[TopicPartition, PartitionStatus]:
        """Return the status of every assigned partition."""
        return self._current.status(self._paused, self._handed_over.oldest_ms)

    # Start and stop.

    async def on_start(self) -> None:
        """Connect and join the group. Raises Unavailable if no broker answers."""
        consumer = ConsumerThread(self.settings, self, topics=self.topics, pattern=self.pattern)
        await consumer.start()
        self._consumer = consumer

    async def on_stop(self) -> None:
        """Revoke everything and leave the group; other members take over."""
        if self._consumer is None:
            return
        await self._consumer.close()
        if self._current.partitions:  # the client has ended without a revocation
            await self._drain(self._current, self._cancel_start(), lambda _: None)
            self.on_revoked(self._current.number + 1, is_lost=False)
        if self._ending is not None:
            await asyncio.wait([self._ending])

    # Assign and revoke.

    def on_assigned(self, assignment: int, partitions: frozenset[TopicPartition]) -> None:
        """Find where each partition starts."""
        if self.should_stop:
            return  # the consumer may join once more while it is being stopped
        self._current = Assignment(assignment, partitions)
        self._starting = asyncio.ensure_future(self._or_crash(self._start_assignment))

    async def _start_assignment(self) -> None:
        current = self._current
        if self._ending is not None:
            await asyncio.wait([self._ending])
        starts = await await_start_offsets(
            self._client, current, self._positions, self.settings.start
        )
        current.open(starts, are_committed=self._positions is None)
        self._read_from_next_offsets()
        self._changed.set()
        self.log.info("assignment %d begins at %s", current.number, format_offsets(starts))

    def on_revoking(self, answer: Callable[[CommitOffsets], None]) -> None:
        """Drain; the thread waits for the answer, and the group for the thread."""
        drain = self._or_crash(self._drain, self._current, self._cancel_start(), answer)
        self._ending = asyncio.ensure_future(drain)

    async def _drain(
        self,
        current: Assignment,
        starting: Collection[asyncio.Task[None]],
        answer: Callable[[CommitOffsets], None],
    ) -> None:
        current.close()
        if starting:
            await asyncio.wait(starting)
        if not self.crashed:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.settings.drain_timeout_ms / 1000):
                    while current.in_progress:
                        self._changed.clear()
                        await self._changed.wait()
        if current.in_progress:
            self.log.warning("to be repeated: %s", ", ".join(map(str, current.in_progress)))
        try:
            await self._release(current.partitions)
        finally:
            answer({tp: (offset, None) for tp, offset in current.committable().items()})

    def on_revoked(self, assignment: int, *, is_lost: bool) -> None:
        """Forget the assignment that is over; its batches are stale from now on."""
        old = self._current
        old.close()
        self._gap_offsets += old.gaps.gap_offsets
        self._client.take(self._handed_over.clear())
        self._current = Assignment(assignment)
        self._changed.set()
        if is_lost:
            self.log.warning("assignment %d is lost: its unfinished work is repeated", old.number)
            forget = self._or_crash(self._forget, old, self._cancel_start())
            self._ending = asyncio.ensure_future(forget)

    async def _forget(self, lost: Assignment, starting: Collection[asyncio.Task[None]]) -> None:
        if starting:
            await asyncio.wait(starting)
        await self._release(lost.partitions)

    def _cancel_start(self) -> list[asyncio.Task[None]]:
        """Cancel the start of the assignment that ends, before the next one; return its task."""
        starting, self._starting = self._starting, None
        if starting is None:
            return []
        starting.cancel()
        return [starting]

    async def _release(self, partitions: Collection[TopicPartition]) -> None:
        if self._positions and partitions:
            try:
                await self._positions.release(partitions)
            except Unavailable as error:
                self.log.warning("positions are not released, the next claim takes over: %s", error)

    async def _or_crash(self, act: Callable[..., Awaitable[None]], *args: Any) -> None:
        try:
            await act(*args)
        except Exception as error:  # noqa: BLE001  # no one awaits the tasks that begin here
            await self.crash(error)

    def on_failed(self, error: Exception) -> None:
        """End with the error of the client."""
        self._ending = asyncio.ensure_future(self.crash(error))

    # Read.

    def on_fetched(self, assignment: int, fetches: Sequence[Fetch]) -> None:
        """Keep the records until a batch is made of them."""
        for fetch in fetches:
            if assignment != self._current.number or not self._handed_over.add(fetch):
                self._client.take(len(fetch.messages))
            elif fetch.end_offset is not None and not self._handed_over[fetch.tp].messages:
                self._current.note_end(fetch.tp, fetch.end_offset)
        self._linger.note_fetch()
        self._changed.set()

    @Service.task
    @crash_on_stray_cancel
    async def _read_loop(self) -> None:
        while not self.should_stop:
            await self._wait_for_records()
            sent = await self._send_batches()
            await self._compare_gaps()
            for tp, error in self._failed():
                await self._recover(tp, error)
            await self._linger.wait(sent)

    async def _wait_for_records(self) -> None:
        """Return when a batch can be sent, or a partition must be read again."""
        while not (self._readable() or self._failed() or self._unknown_gaps()):
            self._changed.clear()
            has_full = any(self._handed_over.with_records())
            try:
                async with asyncio.timeout(PAUSE_AFTER_S if has_full else None):
                    await self._changed.wait()
            except TimeoutError:
                self._pause_full()

    def _readable(self) -> list[TopicPartition]:
        """Return the partitions that have a batch to send, and room for it."""
        if self._paused:
            return []
        room = self.settings.records_ahead_max - self.settings.batch_records_max
        ready = [tp for tp in self._handed_over.with_records() if self._current.has_room(tp, room)]
        return ready + self._current.agreed_ends()

    def _failed(self) -> list[tuple[TopicPartition, KafkaError]]:
        return self._handed_over.failed() if self._current.is_open else []

    def _unknown_gaps(self) -> list[TopicPartition]:
        return self._current.gaps.unknown_log_starts() if self._current.is_open else []

    def _pause_full(self) -> None:
        queues = self._handed_over
        full = [tp for tp in queues.with_records() if not queues[tp].is_paused]
        keep_others_out = self._client.is_full and len(full) < len(self._current.partitions)
        if full and keep_others_out and not self._paused:
            self._client.pause(self._current.number, full)
            self._client.take(sum(queues[tp].pause() for tp in full))

    async def _send_batches(self) -> int:
        """Send `batch_records_max` records at most; return how many.

        The agent begins with all that is sent together at once, whatever the partition.
        """
        current, left = self._current, self.settings.batch_records_max
        read: list[RecordBatch] = []
        for tp in self._readable():
            chunks = await self._read_chunks(current, tp, left)
            # A partition that had more than fits lets the others go first.
            self._handed_over.move_back(tp)
            left -= sum(chunk.count for chunk in chunks)
            read += filter(self.is_current, join_chunks(chunks))
            if sum(batch.count for batch in read) >= YIELD_RECORDS:
                await self._channel.put(read)
                read = []
            if not left or current is not self._current:
                break
        if read:
            await self._channel.put(read)
        await asyncio.sleep(0)  # the agent begins before more is read
        return self.settings.batch_records_max - left

    async def _read_chunks(
        self, current: Assignment, tp: TopicPartition, records_max: int
    ) -> list[RecordBatch]:
        chunks: list[RecordBatch] = []
        left, since_yield = records_max, 0
        while left and current.is_open:
            count_max = min(left, CHUNK_RECORDS) if self._reader else left
            chunk = self._next_chunk(current, tp, count_max)
            if chunk is None:
                break
            chunks.append(chunk)
            left -= chunk.count
            since_yield += chunk.count
            if self._reader and since_yield >= YIELD_RECORDS:
                await asyncio.sleep(0)
                since_yield = 0
        return chunks

    def _next_chunk(
        self, current: Assignment, tp: TopicPartition, records_max: int
    ) -> RecordBatch | None:
        queue = self._handed_over[tp]
        messages, room = queue.take(records_max)
        self._client.take(room)
        if queue.is_paused:
            queue.is_paused = False
            self._client.resume(current.number, [tp])
        if not messages:
            return current.issue_agreed_end(tp, self._finish)
        if tp in current.stuck:
            self._damaged.note_read(current, tp)
        records = [FetchedRecord(tp.topic, tp.partition, m.offset() or 0, m) for m in messages]
        expected = current.next_offset(tp)
        assert expected is not None
        if current.gaps.must_refetch(tp, expected, records[0].offset):
            self._drop_handed_over([tp])
            return None
        batch = current.issue_batch(tp, records, records[-1].offset + 1, self._finish)
        if not queue.messages and queue.end_offset is not None:
            current.note_end(tp, queue.end_offset)
        return read_chunk(self._reader, batch) if self._reader else batch

    def _finish(self, batch: RecordBatch) -> None:
        self._current.finish(batch)
        self._wake_if_waited_for()

    def _wake_if_waited_for(self) -> None:
        # Else the read loop would wake up twice a batch, to find neither records nor a drain.
        if not self._handed_over.is_empty or not self._current.is_open:
            self._changed.set()

    # Read again.

    async def _compare_gaps(self) -> None:
        """Read partitions again that did not go on where they should."""
        current, gaps = self._current, self._unknown_gaps()
        if gaps and not await current.gaps.ask_log(self._client, gaps):
            await asyncio.sleep(RETRY_S)
        elif current is self._current and current.is_open:
            for tp in gaps:
                self._seek(tp)

    async def _recover(self, tp: TopicPartition, error: KafkaError) -> None:
        """Read everything again from where it was expected, after a partition has failed.

        Of damaged records only their partition. Raises OffsetHole, KafkaException.
        """
        current, expected = self._current, self._current.next_offset(tp)
        if expected is None:
            return  # revoked in the meantime
        self.log.warning("%s-%d@%d cannot be fetched, trying again: %s", *tp, expected, error.str())
        if error.code() in OUT_OF_LOG:
            await check_in_log(self._client, tp, expected)
        elif error.code() in DAMAGED:
            self._read_later(tp, expected, error)
            return
        elif not is_transient(error):
            raise KafkaException(error)
        await asyncio.sleep(RETRY_S)
        if current is self._current and current.is_open:
            self._read_from_next_offsets()

    def _read_later(self, tp: TopicPartition, offset: int, error: KafkaError) -> None:
        """Read a partition with damaged records again after a while; the others go on meanwhile."""
        self._drop_handed_over([tp])
        self._client.pause(self._current.number, [tp])
        wait_s = self._damaged.note(self._current, tp, offset, error)
        asyncio.get_running_loop().call_later(wait_s, self._read_again, self._current, tp)

    def _read_again(self, current: Assignment, tp: TopicPartition) -> None:
        if current is self._current and current.is_open and not self.should_stop:
            self._seek(tp)

    def on_seek_failed(self, assignment: int, tp: TopicPartition, error: KafkaError) -> None:
        """Assign everything anew: that works in every state of a partition."""
        if assignment == self._current.number and self._current.is_open:
            self.log.warning("assigning everything again, %s cannot be sought: %s", tp, error.str())
            self._read_from_next_offsets()

    def _read_from_next_offsets(self) -> None:
        starts = self._current.next_offsets()
        self._client.assign(self._current.number, starts, self._drop_handed_over(starts))

    def _seek(self, tp: TopicPartition) -> None:
        offset = self._current.next_offset(tp)
        assert offset is not None
        self._client.seek(self._current.number, tp, offset, self._drop_handed_over([tp]))

    def _drop_handed_over(self, partitions: Collection[TopicPartition]) -> int:
        """Accept no more of what the client has read of partitions; return their next stream."""
        stream = next(self._streams)
        self._client.take(self._handed_over.restart(partitions, stream))
        return stream

    # Commit.

    @Service.task
    @crash_on_stray_cancel
    async def _commit_loop(self) -> None:
        for number in count():
            await self.sleep(self.settings.commit_interval_ms / 1000)
            if self.should_stop:
                return
            self._commit(has_notes=number % LIVENESS_EVERY_COMMITS == 0)
            if self._current.is_open:
                for tp in self._current.ends_to_confirm():
                    self._seek(tp)
                self._changed.set()

    def _commit(self, *, has_notes: bool) -> None:
        """Commit finished work that is not committed yet, and the liveness notes of what waits.

        The watchdogs of other workers see nothing of our partitions but what is committed. So a
        waiting partition commits its offset again and again, each time with other metadata: a sign
        that this worker is alive, and the reason why nothing moves.
        """
        finished = {tp: (offset, None) for tp, offset in self._current.committable().items()}
        notes = self._current.liveness_notes(self._paused) if has_notes else {}
        if finished or notes:
            self._client.commit(self._current.number, {**finished, **notes})

    def on_committed(self, assignment: int, offsets: Mapping[TopicPartition, int]) -> None:
        """Note what need not be committed again."""
        if assignment == self._current.number:
            self._current.note_committed(offsets)

    @property
    def _client(self) -> ConsumerThread:
        assert self._consumer is not None
        return self._consumer
