"""Groups of log slices before and after their COMMIT: received, prepared, committed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from ledger_sink.rules.book import Book, LogEvent
from ledger_sink.store.copy_rows import CopyRows
from ledger_sink.store.log_check import checksum
from ledger_sink.store.reading import ReadSet
from runtime.kafka.records import RawRecord
from schemas.errors import Fatal
from schemas.events import Position

CONSUMER: Final = "ledger"
"""The ledger's rows in `stream_position`."""


class UnbookableEvent(Fatal):
    """An event of the log cannot be booked: a fault of the event, not of this process."""

    code: ClassVar[str] = "UNBOOKABLE"
    exit_code: ClassVar[int] = 76

    def __init__(self, source: Position, detail: str) -> None:
        """Take the place in the log, and a detail that names it."""
        super().__init__(detail)
        self.source = source


@dataclass(frozen=True, slots=True)
class Slice:
    """The events of one partition in `[from_offset, next_offset)`, gaps of the log included."""

    partition: int
    from_offset: int
    next_offset: int
    events: Sequence[LogEvent]
    last_timestamp_ms: int | None = None
    last_checksum: int | None = None
    records: Sequence[RawRecord] = ()
    """Its records, events or not: for the last one of a piece of it, and for their traces."""


def split_slice(slice_: Slice, events_max: int) -> tuple[Slice, Slice | None]:
    """Cut the first so many events off a slice; the second slice is None if no event is left."""
    if len(slice_.events) <= events_max:
        return slice_, None
    cut = slice_.events[events_max].source.offset
    end = bisect_left(slice_.records, cut, key=lambda record: record.offset)
    last = slice_.records[end - 1] if end else None
    first = Slice(
        slice_.partition,
        slice_.from_offset,
        cut,
        slice_.events[:events_max],
        last.timestamp if last else None,
        checksum(last.key, last.value) if last else None,
        slice_.records[:end],
    )
    events, records = slice_.events[events_max:], slice_.records[end:]
    return first, replace(slice_, from_offset=cut, events=events, records=records)


@dataclass(slots=True)
class PendingGroup:
    """A group of slices before its COMMIT: its reads, its decisions, and its new rows."""

    slices: Sequence[Slice]
    events: list[LogEvent]
    read_set: ReadSet
    book: Book = field(default_factory=Book)
    players_to_read: Sequence[str] = ()
    """Players that have to be read from the tables."""
    rows: CopyRows | None = None
    """None until it is decided."""
    crossings: int = 0
    """How many transactions had crossed partitions when it was read."""


@dataclass(slots=True)
class AppliedGroup:
    """Result of one ledger transaction.

    Slices in `already_committed` were stored by an earlier attempt; their answers are read from the
    tables.
    """

    book: Book = field(default_factory=Book)
    newly_committed: list[Slice] = field(default_factory=list)
    already_committed: list[Slice] = field(default_factory=list)
    epochs: dict[int, int] = field(default_factory=dict)
    """The epoch under which each partition was written."""
    decided_ns: int = 0
    """When its writing began, epoch ns; 0 where nothing was new. So `committed_ns`."""
    committed_ns: int = 0
