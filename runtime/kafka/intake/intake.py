"""Read topics in batches, and commit an offset only when the work before it is durable.

Why no record can be lost, in the order of a record's life:

1. Start. A partition starts at an offset that was stored after everything before it was durable:
   the position that a component keeps and claims in a database, else the group's committed offset
   (`start_offsets.py`). Only a partition that has neither starts by the `start` policy. What the
   client chooses by itself never counts: it commits nothing, its reset policy is `none`, and what
   it fetched before our seek is discarded (`_start_assignment`).
2. Read. A batch covers the offsets `[from, next)`. `from` is the `next` of the batch before, and
   `next` is the consumer's position after the fetch (`_to_batches`). So the batches of an
   assignment join, and no record is outside all of them. A fetch that starts anywhere but at
   `from` is discarded and repeated, and the log decides whether records are missing
   (`offset_gaps.py`). Consecutive chunks of a partition are joined into one batch
   (`chunked_reads.py`). The only offsets outside of all batches are those behind all finished
   work that two fetches showed to hold no record, and only where no position is claimed
   (`trailing_offsets.py`).
   A failed fetch may have moved the client past records that it did not return, so every
   partition is sought back to its `from` (`_recover`).
3. Finish. The agent's loop calls `RecordBatch.mark_done` when the handler has returned, that is
   when its effects are durable (`agent_loop.py`). That alone moves the offset that may be committed
   past a record, and only along an unbroken run of finished batches (`progress.py`). `_commit`
   commits that offset and no other.
4. Revoke. Nothing more is sent to the agent, work in progress gets a bounded time, finished work is
   committed, and the assignment is dropped (`_revoke`). A batch of a dropped assignment that is
   still around can mark nothing as done.

So a crash at any point repeats some work and skips none.

Back-pressure: a partition whose next batch could exceed `records_ahead_max` unfinished records is
not read further, and the bounded channel limits all partitions together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import ConsumerRecord, TopicPartition
from mode import Service

from runtime.kafka.batches import BatchChannel, RecordBatch
from runtime.kafka.clients import is_retriable, start_client, stop_client
from runtime.kafka.intake.assignment import Assignment, PartitionStatus
from runtime.kafka.intake.chunked_reads import (
    CHUNK_RECORDS,
    YIELD_RECORDS,
    Reader,
    join_chunks,
    read_chunk,
)
from runtime.kafka.intake.consumer import IntakeSettings, new_consumer
from runtime.kafka.intake.corrupt_records import corrupt_record_error
from runtime.kafka.intake.linger import Linger
from runtime.kafka.intake.offset_gaps import outside_log_error
from runtime.kafka.intake.start_offsets import StartPositions, await_start_offsets, format_offsets
from runtime.kafka.intake.trailing_offsets import check_trailing_offsets
from runtime.kafka.tasks import crash_on_stray_cancel
from schemas.errors import Unavailable

__all__ = ["Intake", "IntakeSettings", "PartitionStatus", "StartPositions"]

IDLE_POLL_MS: Final = 200
BUSY_POLL_MS: Final = 20
"""Longest poll while some partition has no room: it is looked at again this soon."""

NO_PARTITION: Final = TopicPartition("", 0)
"""Fetched from while nothing may be read: aiokafka reports a group's errors only to a fetch."""
GROUP_ERROR_POLL_S = 1.0
"""Interval of those fetches; aiokafka continues to join only after it has reported an error."""

RETRY_S = 0.5

COMMIT_TIMEOUT_S: Final = 10.0

LIVENESS_EVERY_COMMITS: Final = 10
"""Commits from one liveness note to the next: ten seconds by default."""


class Intake(Service, ConsumerRebalanceListener):  # type: ignore[misc]  # an untyped base
    """Service that sends the batches of a group's topics to a channel and commits finished work."""

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
        something smaller while they are fetched (`chunked_reads.py`).
        """
        super().__init__(**kwargs)
        self.settings = settings
        self.topics = tuple(topics)
        self.pattern = pattern
        self._channel = channel
        self._positions = positions
        self._reader = reader
        self._consumer: AIOKafkaConsumer | None = None
        self._current = Assignment(0)
        self._gap_offsets = 0
        self._paused: str | None = None
        self._starting: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._must_check_trailing = False
        self._linger = Linger(settings.batch_records_max)

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
        """Return whether to work on the batch; if so, it is in progress until `end`.

        Not if the batch is stale or its partition is being revoked.
        """
        return self._current.begin(batch)

    def end(self, batch: RecordBatch, *, waiting: str | None = None) -> None:
        """End a try to work on the batch; `waiting` is what the next try waits for."""
        self._current.end(batch, waiting)
        self._changed.set()

    def pause(self, reason: str) -> None:
        """Send no more batches until `resume`; those on the channel are still handled."""
        self._paused = reason

    def resume(self) -> None:
        """Send batches again."""
        self._paused = None
        self._changed.set()

    def status(self) -> dict[TopicPartition, PartitionStatus]:
        """Return the status of every assigned partition."""
        return self._current.status(self._paused)

    # Start and stop.

    async def on_start(self) -> None:
        """Connect and join the group. Raises Unavailable if no broker answers."""
        consumer = new_consumer(self.settings)
        await start_client(consumer, self.settings.bootstrap_servers)
        self._consumer = consumer
        consumer.subscribe(topics=self.topics, pattern=self.pattern, listener=self)

    async def on_stop(self) -> None:
        """Revoke everything and leave the group; other members take over.

        A static member does not leave: its partitions move when its session has timed out.
        """
        if self._consumer is not None:
            await self._or_crash(self._revoke)
            await stop_client(self._consumer)

    # Assign and revoke. aiokafka logs and drops what a listener raises, so a failure has to crash
    # this service explicitly.

    async def on_partitions_revoked(
        self,
        revoked: Collection[TopicPartition],  # noqa: ARG002  # always all of them
    ) -> None:
        """Give up all partitions; the consumer rejoins its group when this returns."""
        await self._or_crash(self._revoke)

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Start an assignment in a task of its own: no heartbeat is sent until this returns."""
        if self.should_stop:
            return  # the consumer may join once more while it is being stopped
        self._current = Assignment(self._current.number, frozenset(assigned))
        self._starting = asyncio.create_task(self._or_crash(self._start_assignment))

    async def _or_crash(self, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except Exception as error:  # noqa: BLE001  # see above
            await self.crash(error)

    async def _start_assignment(self) -> None:
        current = self._current
        starts = await await_start_offsets(self._client, current, self._positions, self.settings)
        if not current.partitions <= self._client.assignment():
            return  # the next rebalance is already under way
        # No await from here on: a fetch either is from before the seek, and discarded, or begins at
        # the start offset.
        for tp, offset in starts.items():
            self._client.seek(tp, offset)
        current.open(starts, are_committed=self._positions is None)
        self._changed.set()
        self.log.info("assignment %d begins at %s", current.number, format_offsets(starts))

    async def _revoke(self) -> None:
        current = self._current
        current.close()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        if not self.crashed:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.settings.drain_timeout_ms / 1000):
                    await self._wait_until(lambda: not current.in_progress)
        if current.in_progress:
            unfinished = ", ".join(map(str, current.in_progress))
            self.log.warning("unfinished, to be repeated: %s", unfinished)
        await self._commit(current)
        self._gap_offsets += current.gaps.gap_offsets
        self._current = Assignment(current.number + 1)
        if self._positions and current.partitions:
            try:
                await self._positions.release(current.partitions)
            except Unavailable as error:
                self.log.warning("positions are not released, the next claim takes over: %s", error)

    # Read.

    @Service.task
    @crash_on_stray_cancel
    async def _read_loop(self) -> None:
        while not self.should_stop:
            readable = await self._await_room()
            is_busy = len(readable) < len(self._current.partitions)
            records = await self._read(readable, BUSY_POLL_MS if is_busy else IDLE_POLL_MS)
            linger_s = self._linger.after_fetch(records)
            if self._linger.expects_more:
                # A full batch of each partition that has one.
                for tp in self._partitions_with_room():
                    await self._read([tp])
            if linger_s:
                await self.sleep(linger_s)

    async def _read(self, partitions: Sequence[TopicPartition], timeout_ms: int = 0) -> int:
        """Send one batch of each partition to the channel, and return how many records they hold.

        All of them together hold at most `batch_records_max` records. Waits `timeout_ms` for the
        first record.
        """
        chunks: list[RecordBatch] = []
        has_failed = False
        try:
            await self._fetch_chunks(partitions, timeout_ms, chunks)
        except ConsumerStoppedError:
            pass
        except KafkaError as error:
            has_failed = self._recover(error)
        # What was fetched before a failure is complete up to where the next read begins.
        for batch in filter(self.is_current, join_chunks(chunks)):
            await self._channel.put(batch)
        await asyncio.sleep(0)  # the agent begins before more is read
        if has_failed:
            await self.sleep(RETRY_S)
        return sum(chunk.count for chunk in chunks)

    async def _fetch_chunks(
        self, partitions: Sequence[TopicPartition], timeout_ms: int, chunks: list[RecordBatch]
    ) -> None:
        """Append chunks to `chunks`, until they fill a batch or no more records are ready."""
        left = self.settings.batch_records_max
        since_yield = 0
        wait_ms = timeout_ms
        second_fetch_ms = self._linger.second_fetch_ms if timeout_ms else None
        while left:
            records_max = min(left, CHUNK_RECORDS) if self._reader else left
            fetched = await self._fetch_chunk(partitions, wait_ms, records_max)
            chunks += fetched
            records = sum(chunk.count for chunk in fetched)
            left -= records
            since_yield += records
            if since_yield >= YIELD_RECORDS:
                await asyncio.sleep(0)
                since_yield = 0
            if records == records_max:
                wait_ms = 0
            elif records and second_fetch_ms is not None:
                wait_ms, second_fetch_ms = second_fetch_ms, None
            else:
                return

    async def _fetch_chunk(
        self, partitions: Sequence[TopicPartition], wait_ms: int, records_max: int
    ) -> list[RecordBatch]:
        current = self._current
        if unknown := current.gaps.unknown_log_starts():
            current.gaps.set_log_starts(await self._client.beginning_offsets(unknown))
        try:
            fetched = await self._client.getmany(
                *partitions, timeout_ms=wait_ms, max_records=records_max
            )
        except UnicodeDecodeError as error:  # raised by aiokafka while it decodes a record
            expected = {tp: n for tp, n in current.next_offsets().items() if tp in partitions}
            raise await corrupt_record_error(
                self._client, expected, self.settings.group, records_max
            ) from error
        # Before anything else is awaited: records of two fetches or two assignments never mix.
        batches = await self._to_batches(fetched)
        if self._must_check_trailing:
            self._must_check_trailing = False
            await check_trailing_offsets(self._client, current)
        return batches

    async def _to_batches(
        self, fetched: Mapping[TopicPartition, Sequence[ConsumerRecord[Any, Any]]]
    ) -> list[RecordBatch]:
        batches, current = [], self._current
        for tp, records in fetched.items():
            expected = current.next_offset(tp)
            if expected is None:
                continue  # fetched for an assignment that is over, or before our seek
            if self._paused or current.gaps.must_refetch(tp, expected, records[0].offset):
                self._client.seek(tp, expected)
                continue
            # The position is known, so this does not wait: nothing can come between a fetch and
            # its batches.
            next_offset = await self._client.position(tp)
            batch = current.issue_batch(tp, records, next_offset, self._finish)
            batches.append(read_chunk(self._reader, batch) if self._reader else batch)
        return batches

    def _finish(self, batch: RecordBatch) -> None:
        self._current.finish(batch)
        self._changed.set()

    async def _await_room(self) -> list[TopicPartition]:
        """Return the partitions that may be read, as soon as there is one."""
        while not (readable := self._partitions_with_room()):
            self._changed.clear()
            try:
                async with asyncio.timeout(GROUP_ERROR_POLL_S):
                    await self._changed.wait()
            except TimeoutError:
                await self._read([NO_PARTITION])
        return readable

    def _partitions_with_room(self) -> list[TopicPartition]:
        if self._paused:
            return []
        settings = self.settings
        return self._current.partitions_with_room(
            settings.records_ahead_max - settings.batch_records_max
        )

    def _recover(self, error: KafkaError) -> bool:
        """Go back to the expected positions after a failed fetch, and return whether to wait.

        Raises OffsetHole for a position outside the log, and any other error that is not retriable.
        Must be called before anything else is awaited: the error holds for the assignment as it is
        now.
        """
        is_before_seek = isinstance(error, (NoOffsetForPartitionError, OffsetOutOfRangeError))
        if not self._current.is_open and is_before_seek:
            return False  # the client looked for a position before our seek
        if isinstance(error, OffsetOutOfRangeError):
            raise outside_log_error(str(error)) from error
        if not is_retriable(error):
            raise error
        self.log.warning("fetch failed, trying again: %s", error)
        # A failed fetch may have moved positions past records that it did not return.
        expected = self._current.next_offsets()
        for tp in expected.keys() & self._client.assignment():
            self._client.seek(tp, expected[tp])
        return True

    # Commit.

    @Service.task
    @crash_on_stray_cancel
    async def _commit_loop(self) -> None:
        for number in count():
            await self.sleep(self.settings.commit_interval_ms / 1000)
            if self.should_stop:
                return
            has_notes = number % LIVENESS_EVERY_COMMITS == 0
            await self._commit(self._current, has_notes=has_notes)
            self._must_check_trailing = True

    async def _commit(self, assignment: Assignment, *, has_notes: bool = False) -> None:
        """Commit finished work that is not committed yet, and the liveness notes of what waits.

        The watchdogs of other workers see nothing of our partitions but what is committed. So a
        waiting partition commits its offset again and again, each time with other metadata: a sign
        that this worker is alive, and the reason why nothing moves.
        """
        finished = assignment.committable()
        notes = assignment.liveness_notes(self._paused) if has_notes else {}
        if not finished and not notes:
            return
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._client.commit({**finished, **notes})
        except (CommitFailedError, IllegalStateError, TimeoutError) as error:
            # A rebalance came in between, or no broker answers: the next commit, or the next owner
            # of the partitions, continues from the last commit.
            self.log.warning("not committed: %r", error)
        else:
            assignment.note_committed(finished)

    @property
    def _client(self) -> AIOKafkaConsumer:
        assert self._consumer is not None
        return self._consumer

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()
