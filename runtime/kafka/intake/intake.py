"""The way in: one consumer, cut into batches, committed only when the work is durable.

Why nothing can be lost, in the order of a record's life:

1. A partition begins at an offset that was written down after everything before it was durable: a
   claimed position or the group's committed offset (`_start_assignment`). The client never chooses
   or moves a position: its reset policy is `none`.
2. A batch covers `[from, next)`: `from` is the `next` of the batch before, `next` the consumer's
   position after the fetch (`_cut`). So batches join, and no record lies outside all of them. A
   fetch that begins elsewhere than it should is thrown away, asked for again, and judged by the log
   (`holes.py`). Batches of one partition that were cut one after the other are handed out as one
   (`pieces.py`). Only what two fetches showed to be no record, behind all that is done, may be left
   out of them, where no position is claimed (`tails.py`).
3. Only `batch.done()` moves what may be committed, and only along an unbroken run (`progress.py`).
4. At a revocation nothing more is handed out, the work in hand gets a bounded time, what is done is
   committed, and the assignment is forgotten: a batch of it that is still around can mark nothing
   as done any more (`_revoke`).

So a crash anywhere repeats some work and skips none. Back-pressure: a partition whose next batch
could exceed `records_ahead_max` unfinished records is not read further, and the channel bounds all
partitions together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import (
    ConsumerStoppedError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import ConsumerRecord, TopicPartition
from mode import Service

from runtime.kafka.batches import BatchChannel, RecordBatch
from runtime.kafka.clients import (
    IntakeSettings,
    is_retriable,
    new_consumer,
    start_client,
    stop_client,
)
from runtime.kafka.intake.assignment import Assignment, PartitionStatus
from runtime.kafka.intake.chunked_reads import (
    CHUNK_RECORDS,
    YIELD_RECORDS,
    Reader,
    join_chunks,
    read_chunk,
)
from runtime.kafka.intake.commits import LIVENESS_EVERY_COMMITS, NO_NOTES, commit
from runtime.kafka.intake.corrupt_records import corrupt_record_error
from runtime.kafka.intake.linger import Linger
from runtime.kafka.intake.offset_gaps import outside_log_error
from runtime.kafka.intake.start_offsets import StartPositions, await_start_offsets, format_offsets
from runtime.kafka.intake.trailing_offsets import check_trailing_offsets
from runtime.kafka.tasks import crash_on_stray_cancel
from schemas.errors import Unavailable

__all__ = ["Intake", "IntakeSettings", "PartitionStatus", "StartPositions"]

IDLE_POLL_MS = 200
BUSY_POLL_MS = 20
"""While a partition has no room: how soon it is looked at again."""

NO_PARTITION, GROUP_ERROR_POLL_S = TopicPartition("", 0), 1.0
"""Fetched from while nothing may be: only who fetches is told what is wrong with the group, and it
rests until then.
"""

RETRY_S = 0.5


class Intake(Service, ConsumerRebalanceListener):  # type: ignore[misc]
    """Feeds the batches of a group's topics to a channel, and commits what is done."""

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
        self._linger = Linger()

    # What agents, the watchdog and the control topic use.

    @property
    def assignment(self) -> int:
        """The number of the current assignment, counted up at each revocation."""
        return self._current.number

    @property
    def gap_offsets(self) -> int:
        """Offsets since the start that a second fetch confirmed to hold no record."""
        return self._gap_offsets + self._current.gaps.gap_offsets

    def is_current(self, batch: RecordBatch) -> bool:
        """Whether the batch belongs to the partitions that this worker has now."""
        return batch.assignment == self._current.number

    def begin(self, batch: RecordBatch) -> bool:
        """Whether to work on the batch: not if it is stale or its partition is being let go."""
        return self._current.begin(batch)

    def end(self, batch: RecordBatch, *, waiting: str | None = None) -> None:
        """Work on the batch is over for now; `waiting` says what it waits for until it is tried
        again.
        """
        self._current.end(batch, waiting)
        self._changed.set()

    def pause(self, reason: str) -> None:
        """Feed nothing until `resume`; what is on the channel is still worked off."""
        self._paused = reason

    def resume(self) -> None:
        """Go on feeding."""
        self._paused = None
        self._changed.set()

    def status(self) -> dict[TopicPartition, PartitionStatus]:
        """Every held partition."""
        return self._current.status(self._paused)

    # Start and stop.

    async def on_start(self) -> None:
        """Connect and join the group. Raises Unavailable if no broker answers."""
        consumer = new_consumer(self.settings)
        await start_client(consumer, self.settings.bootstrap_servers)
        self._consumer = consumer
        consumer.subscribe(topics=self.topics, pattern=self.pattern, listener=self)

    async def on_stop(self) -> None:
        """Let everything go and leave the group: others take over, of a static member when its
        session has ended.
        """
        if self._consumer is not None:
            await self._or_crash(self._revoke)
            await stop_client(self._consumer)

    # Assign and revoke. aiokafka logs and forgets what a listener raises, so it has to crash us by
    # hand.

    async def on_partitions_revoked(
        self, revoked: Collection[TopicPartition]
    ) -> None:  # always all
        """Called before the consumer rejoins its group; it rejoins when this returns."""
        await self._or_crash(self._revoke)

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Called when the consumer has joined.

        Returns at once: no heartbeat is sent while it runs.
        """
        if self.should_stop:
            return  # the consumer may join once more on its way out
        self._current = Assignment(self._current.number, frozenset(assigned))
        self._starting = asyncio.create_task(self._or_crash(self._start_assignment))

    async def _or_crash(self, act: Callable[[], Awaitable[None]]) -> None:
        try:
            await act()
        except Exception as error:  # see above
            await self.crash(error)

    async def _start_assignment(self) -> None:
        now = self._current
        starts = await await_start_offsets(self._client, now, self._positions, self.settings)
        if not now.partitions <= self._client.assignment():
            return  # on the way to the next assignment
        # No await from here on: a fetch is either from before the seek, and dropped, or begins at
        # the start.
        for tp, offset in starts.items():
            self._client.seek(tp, offset)
        now.open(starts, are_committed=self._positions is None)
        self._changed.set()
        self.log.info("assignment %d begins at %s", now.number, format_offsets(starts))

    async def _revoke(self) -> None:
        now = self._current
        now.close()
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.wait([self._starting])
        if not self.crashed:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.settings.drain_timeout_ms / 1000):
                    await self._wait_until(lambda: not now.in_progress)
        if now.in_progress:
            self.log.warning("unfinished, to be repeated: %s", ", ".join(map(str, now.in_progress)))
        await commit(self._client, now)
        self._gap_offsets += now.gaps.gap_offsets
        self._current = Assignment(now.number + 1)
        if self._positions and now.partitions:
            try:
                await self._positions.release(now.partitions)
            except Unavailable as error:
                self.log.warning(
                    "positions are not released, the next claim takes them over: %s", error
                )

    # Feeding.

    @Service.task
    @crash_on_stray_cancel
    async def _read_loop(self) -> None:
        while not self.should_stop:
            room = await self._await_room()
            is_busy = len(room) < len(self._current.partitions)
            fed = await self._read(room, BUSY_POLL_MS if is_busy else IDLE_POLL_MS)
            is_much = fed >= self.settings.batch_records_max // 4
            # There will be more: a full batch of each partition that has one.
            for tp in self._partitions_with_room() if is_much else ():
                await self._read([tp])
            if wait_s := self._linger.after_fetch(fed, is_much=is_much):
                await self.sleep(wait_s)

    async def _read(self, partitions: Sequence[TopicPartition], timeout_ms: int = 0) -> int:
        """Hand out what is there, or what comes first; how many records that were."""
        pieces: list[RecordBatch] = []
        left = rested_at = self.settings.batch_records_max
        wait_ms = timeout_ms
        behind_ms = self._linger.second_fetch_ms if timeout_ms else None
        has_failed = False
        try:
            while left:
                asked = min(left, CHUNK_RECORDS) if self._reader else left
                piece = await self._fetch_chunk(partitions, wait_ms, asked)
                pieces += piece
                fetched = sum(batch.count for batch in piece)
                left -= fetched
                if rested_at - left >= YIELD_RECORDS:
                    await asyncio.sleep(0)
                    rested_at = left
                if fetched == asked:
                    wait_ms = 0
                elif fetched and behind_ms is not None:
                    wait_ms, behind_ms = behind_ms, None
                else:
                    break
        except ConsumerStoppedError:
            pass
        except KafkaError as error:
            has_failed = self._recover(error)
        for batch in filter(self.is_current, join_chunks(pieces)):
            await self._channel.put(batch)
        await asyncio.sleep(0)  # and the agent begins before more is read
        if has_failed:
            await self.sleep(RETRY_S)
        return self.settings.batch_records_max - left

    async def _fetch_chunk(
        self, partitions: Sequence[TopicPartition], wait_ms: int, records_max: int
    ) -> list[RecordBatch]:
        now = self._current
        if unknown := now.gaps.unknown_log_starts():
            now.gaps.set_log_starts(await self._client.beginning_offsets(unknown))
        try:
            fetched = await self._client.getmany(
                *partitions, timeout_ms=wait_ms, max_records=records_max
            )
        except UnicodeDecodeError as error:  # aiokafka's own: the record does not come to be one
            expected = {tp: offset for tp, offset in now.next_offsets().items() if tp in partitions}
            raise await corrupt_record_error(
                self._client, expected, self.settings.group, records_max
            ) from error
        # Cut before anything else is awaited: what two fetches or two assignments brought is never
        # mixed.
        batches = await self._to_batches(fetched)
        if self._must_check_trailing:
            self._must_check_trailing = False
            await check_trailing_offsets(self._client, now)
        return batches

    async def _await_room(self) -> list[TopicPartition]:
        """The partitions that may be read, as soon as there is one."""
        while not (room := self._partitions_with_room()):
            self._changed.clear()
            try:
                async with asyncio.timeout(GROUP_ERROR_POLL_S):
                    await self._changed.wait()
            except TimeoutError:
                await self._read([NO_PARTITION])
        return room

    def _partitions_with_room(self) -> list[TopicPartition]:
        settings = self.settings
        return (
            []
            if self._paused
            else self._current.partitions_with_room(
                settings.records_ahead_max - settings.batch_records_max
            )
        )

    async def _to_batches(
        self, fetched: Mapping[TopicPartition, Sequence[ConsumerRecord[Any, Any]]]
    ) -> list[RecordBatch]:
        batches, now = [], self._current
        for tp, records in fetched.items():
            expected = now.next_offset(tp)
            if expected is None:
                continue  # fetched for an assignment that is over, or before our seek
            if self._paused or now.gaps.must_refetch(tp, expected, records[0].offset):
                self._client.seek(tp, expected)
                continue
            # The position is known, so this does not wait: nothing can come between the fetch and
            # its batches.
            next_offset = await self._client.position(tp)
            batch = now.issue_batch(tp, records, next_offset, self._finish)
            batches.append(read_chunk(self._reader, batch) if self._reader else batch)
        return batches

    def _finish(self, batch: RecordBatch) -> None:
        self._current.finish(batch)
        self._changed.set()

    def _recover(self, error: KafkaError) -> bool:
        # At once, before anything else is awaited: what the error says holds for the assignment as
        # it is now.
        if not self._current.is_open and isinstance(
            error, (NoOffsetForPartitionError, OffsetOutOfRangeError)
        ):
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

    # Committing.

    @Service.task
    @crash_on_stray_cancel
    async def _commit_loop(self) -> None:
        for number in count():
            await self.sleep(self.settings.commit_interval_ms / 1000)
            if self.should_stop:
                return
            signs = (
                self._current.liveness_notes(self._paused)
                if number % LIVENESS_EVERY_COMMITS == 0
                else NO_NOTES
            )
            await commit(self._client, self._current, signs)
            self._must_check_trailing = True

    @property
    def _client(self) -> AIOKafkaConsumer:
        assert self._consumer is not None
        return self._consumer

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()
