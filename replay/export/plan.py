"""Which offsets an export reads, in pieces that depend on the log alone.

A piece is a stretch of one partition between two multiples of `PIECE_RECORDS`. Its rows depend on
its records only, so a piece that was interrupted is made again, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from replay.export.request import ExportRequest
from replay.log.blocks import Bounds, LogGap, LogSource
from runtime.kafka.partitioner import partition_for
from schemas.errors import UsageError
from schemas.topics import DAY_MS

PIECE_RECORDS: Final = 65_536
"""About 40 MB of events as columns, which bounds the memory."""

MARGIN_MS: Final[Mapping[str, int]] = {"append": 3_600_000, "event": 7 * DAY_MS}
"""What is read beyond the period by default. Append times set by producers go back by the
difference of their clocks; an event comes late by its provider's tolerance (a day for most, 62 for
reports) and by what the pipeline was behind."""


class Piece(NamedTuple):
    """Records `[from_offset, to_offset)` of one partition, read and written together."""

    partition: int
    from_offset: int
    to_offset: int

    @property
    def name(self) -> str:
        """Name of the piece's files, which sorts as the log does."""
        return f"p{self.partition:03}-{self.from_offset:012}-{self.to_offset:012}"


@dataclass(frozen=True)
class ExportPlan:
    """An export's request with the offsets that it reads, fixed when it begins."""

    request: ExportRequest
    topic: str
    """Name on the broker."""
    offsets: Mapping[int, Bounds]
    """What is read of each partition, margins included."""

    @property
    def records(self) -> int:
        """How many offsets are read at most."""
        return sum(end - begin for begin, end in self.offsets.values())

    def pieces(self) -> Iterator[Piece]:
        """Yield the pieces in the order of partitions and offsets."""
        for partition in sorted(self.offsets):
            begin, end = self.offsets[partition]
            while begin < end:
                after = min(end, (begin // PIECE_RECORDS + 1) * PIECE_RECORDS)
                yield Piece(partition, begin, after)
                begin = after


def plan_export(source: LogSource, request: ExportRequest, topic: str) -> ExportPlan:
    """Find the offsets of a request; what is appended later is not part of it.

    Raises UsageError for a partition that does not exist, LogGap for offsets that are gone.
    """
    request.check()
    bounds = source.bounds(topic)
    wanted = _partitions(request, topic, len(bounds))
    if request.from_offset is not None or request.to_offset is not None:
        offsets = {number: _named(request, topic, number, bounds[number]) for number in wanted}
    else:
        offsets = _in_period(source, request, topic, bounds)
        offsets = {number: offsets[number] for number in wanted}
    return ExportPlan(request, topic, offsets)


def _partitions(request: ExportRequest, topic: str, count: int) -> list[int]:
    if request.partition is not None:
        if not 0 <= request.partition < count:
            raise UsageError(
                f"{topic} has the partitions 0 to {count - 1}, not {request.partition}"
            )
        return [request.partition]
    key = request.key_wanted
    return [*range(count)] if key is None else [partition_for(key, count)]


def _named(request: ExportRequest, topic: str, partition: int, there: Bounds) -> Bounds:
    begin, end = there
    first = begin if request.from_offset is None else request.from_offset
    if first < begin:
        raise LogGap(f"{topic}-{partition}@{first}: the log begins at {begin}")
    last = end if request.to_offset is None else min(request.to_offset, end)
    return min(first, end), max(last, min(first, end))


def _in_period(
    source: LogSource, request: ExportRequest, topic: str, bounds: Mapping[int, Bounds]
) -> dict[int, Bounds]:
    """Return the offsets of all records that may be in the period, and few others."""
    is_exact = request.clock == "append" and source.has_append_time(topic)
    margin_ms = 0 if is_exact else request.margin_ms
    # Nothing before the first record at or after a time is that late, so by append time no margin
    # is needed on this side. An event is never later than its append, but for clocks that differ.
    before_ms = margin_ms if request.clock == "event" else 0
    begins = {number: begin for number, (begin, _) in bounds.items()}
    ends = {number: end for number, (_, end) in bounds.items()}
    if request.since_ms is not None:
        begins = dict(source.first_at(topic, max(0, request.since_ms - before_ms)))
    if request.until_ms is not None:
        later = source.first_at(topic, request.until_ms + margin_ms)
        ends = {number: min(end, later[number]) for number, end in ends.items()}
    return {
        number: (begins[number], max(begins[number], ends[number])) for number in sorted(bounds)
    }
