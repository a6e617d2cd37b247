"""Which offset of an earlier log is which of today's: a mirror keeps the order and not the offsets.

Records are found again by what the ledger knows of them: an event's identity and its attempt.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from ledger_sink.store.database import LedgerDatabase
from replay.log.blocks import Bounds, LogBlock, LogGap, LogSource
from replay.recovery.order import OrderedLog, OrderedRecord
from replay.recovery.survey import SQL, Obstacle, RecoveryRefused
from schemas.events import Attempt

_RECORDS_PER_QUERY: Final = 2_000

KnownRecords: TypeAlias = Mapping[tuple[int, str, Attempt], Sequence[int]]
"""By partition, event and attempt: the offsets of the earlier log at which it lay."""


class MappedRun(msgspec.Struct, frozen=True):
    """Successive records that are successive in both logs."""

    partition: int
    from_offset: int
    next_offset: int
    """In the earlier log, as rows of the ledger name it."""
    new_offset: int
    """Of the first one in the log of today."""


class PartitionMapping(msgspec.Struct, frozen=True):
    """One partition of a mirror, beside what the ledger has booked of it."""

    partition: int
    runs: list[MappedRun]
    booked: int
    """Where the ledger continues, in the earlier log."""
    position: int
    """Behind the last booked record, in the log of today."""
    begin: int
    end: int
    last: tuple[int, int] | None
    """Time and checksum of the record before `position`."""

    def translate(self, offset: int) -> int:
        """Return where a reader continues that stood at an offset of the earlier log."""
        for run in self.runs:
            if offset < run.next_offset:
                return run.new_offset + max(0, offset - run.from_offset)
        return self.position


class MirrorScan:
    """Finds the booked records of one topic in a mirror of it."""

    def __init__(
        self,
        database: LedgerDatabase,
        source: LogSource,
        topic: str,
        known: KnownRecords | None = None,
    ) -> None:
        """Take what is known of the topic; without it, booked records are looked up by event id."""
        self._database = database
        self._source = source
        self._topic = topic
        self._known = known

    async def map_partition(
        self, partition: int, booked: int, bounds: Bounds, expected: Sequence[int]
    ) -> PartitionMapping:
        """Map one partition; `expected` are the offsets of all booked records, in their order.

        Raises RecoveryRefused where the mirror lacks booked records or has another order.
        """
        begin, end = bounds
        runs: list[MappedRun] = []
        position, last, found = begin, None, 0
        reached = -1
        unknown: OrderedRecord | None = None
        first: int | None = None
        async for record, offsets in self._identified(partition, begin, end):
            offset = next((one for one in offsets if one > reached), None)
            if offset is None:
                unknown = unknown or (record if record.event is not None else None)
                continue
            if unknown is not None:
                place = f"{self._topic}-{partition}@{unknown.source.offset}"
                raise RecoveryRefused(
                    Obstacle.OTHER_RECORD,
                    f"{place}: this event is not booked and lies before one that is: this is not a"
                    " mirror of the log that the database was booked from",
                )
            first = offset if first is None else first
            reached, found = offset, found + 1
            position = record.source.offset + 1
            last = record.timestamp_ms, record.checksum
            _extend(runs, partition, offset, record.source.offset)
        self._check_whole(partition, expected, first, reached, found)
        return PartitionMapping(partition, runs, booked, position, begin, end, last)

    def _check_whole(
        self, partition: int, expected: Sequence[int], first: int | None, last: int, found: int
    ) -> None:
        wanted = [one for one in expected if first is None or one >= first]
        if not wanted or (wanted[-1] == last and len(wanted) == found):
            return
        raise RecoveryRefused(
            Obstacle.LOG_ENDS_EARLIER,
            f"{self._topic}-{partition}: the mirror lacks {len(wanted) - found:,} of the booked"
            f" records (booked up to {wanted[-1]}, found up to {last}). Let the mirror catch up, or"
            " restore the database to a moment before the mirror's last record",
        )

    async def _identified(
        self, partition: int, begin: int, end: int
    ) -> AsyncIterator[tuple[OrderedRecord, Sequence[int]]]:
        """Yield the records, each with the offsets under which the ledger has booked it."""
        waiting: list[OrderedRecord] = []
        log = OrderedLog(self._source, self._topic, {partition: begin}, {partition: end})
        for record in log:
            waiting.append(record)
            if len(waiting) >= _RECORDS_PER_QUERY:
                for pair in await self._look_up(partition, waiting):
                    yield pair
                waiting = []
        for pair in await self._look_up(partition, waiting):
            yield pair

    async def _look_up(
        self, partition: int, records: Sequence[OrderedRecord]
    ) -> list[tuple[OrderedRecord, Sequence[int]]]:
        known = self._known
        if known is None:
            known = await self._read_booked(partition, records)
        return [
            (
                record,
                ()
                if record.event is None
                else known.get((partition, record.event.event_id, record.event.attempt), ()),
            )
            for record in records
        ]

    async def _read_booked(self, partition: int, records: Sequence[OrderedRecord]) -> KnownRecords:
        ids = sorted({record.event.event_id for record in records if record.event is not None})
        columns = {"part": partition, "event_ids": ids}
        known: dict[tuple[int, str, Attempt], list[int]] = {}
        for offset, event_id, *attempt in await self._database.query(
            SQL["booked_records"], columns
        ):
            known.setdefault((partition, event_id, Attempt(*attempt)), []).append(offset)
        return known


def _extend(runs: list[MappedRun], partition: int, offset: int, new_offset: int) -> None:
    if runs:
        last = runs[-1]
        if (last.next_offset, last.new_offset + last.next_offset - last.from_offset) == (
            offset,
            new_offset,
        ):
            runs[-1] = msgspec.structs.replace(last, next_offset=offset + 1)
            return
    runs.append(MappedRun(partition, offset, offset + 1, new_offset))


class MappedLog:
    """A `LogSource` in the offsets of the ledger's rows over a log that was bound to it later."""

    def __init__(
        self,
        source: LogSource,
        topic: str,
        runs: Mapping[int, Sequence[MappedRun]],
        seams: Mapping[int, int],
    ) -> None:
        """Take the runs of each partition, and from which offset on both logs agree."""
        self._source = source
        self._topic = topic
        self._runs = runs
        self._seams = seams

    def bounds(self, topic: str) -> Mapping[int, Bounds]:
        """Return what each partition holds, as `LogSource`."""
        found = self._source.bounds(topic)
        if topic != self._topic:
            return found
        return {
            partition: (self._first(partition, begin), end)
            for partition, (begin, end) in found.items()
        }

    def all_bounds(self, topics: Collection[str]) -> Mapping[str, Mapping[int, Bounds]]:
        """Return the bounds of several topics, as `LogSource`."""
        return {topic: self.bounds(topic) for topic in topics}

    def _first(self, partition: int, begin: int) -> int:
        runs = self._runs.get(partition)
        return runs[0].from_offset if runs else max(begin, self._seams.get(partition, begin))

    def first_at(self, topic: str, at_ms: int) -> Mapping[int, int]:
        """Return the first offsets at or after a time, as `LogSource`."""
        found = self._source.first_at(topic, at_ms)
        if topic != self._topic:
            return found
        return {partition: self._earlier(partition, offset) for partition, offset in found.items()}

    def _earlier(self, partition: int, new_offset: int) -> int:
        seam = self._seams.get(partition, 0)
        if new_offset >= seam:
            return new_offset
        for run in self._runs.get(partition, ()):
            if new_offset < run.new_offset + run.next_offset - run.from_offset:
                return run.from_offset + max(0, new_offset - run.new_offset)
        return seam

    def has_append_time(self, topic: str) -> bool:
        """Return whether the broker sets the records' times, as `LogSource`."""
        return self._source.has_append_time(topic)

    def read(
        self, topic: str, partition: int, from_offset: int, to_offset: int
    ) -> Iterator[LogBlock]:
        """Yield records in blocks, as `LogSource`. Raises LogGap, Unavailable."""
        seam = self._seams.get(partition, 0) if topic == self._topic else 0
        if from_offset < seam:
            first = self._first(partition, 0)
            if from_offset < first:
                raise LogGap(
                    f"{topic}-{partition}@{from_offset}: the log that this ledger was bound to"
                    f" holds it from {first} on"
                )
            for run in self._runs.get(partition, ()):
                begin, end = max(from_offset, run.from_offset), min(to_offset, run.next_offset)
                if begin < end:
                    yield from self._read_run(topic, run, begin, end)
        if to_offset > seam:
            yield from self._source.read(topic, partition, max(from_offset, seam), to_offset)

    def _read_run(self, topic: str, run: MappedRun, begin: int, end: int) -> Iterator[LogBlock]:
        shift = run.from_offset - run.new_offset
        for block in self._source.read(topic, run.partition, begin - shift, end - shift):
            block.offsets = [offset + shift for offset in block.offsets]
            yield block
