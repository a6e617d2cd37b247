"""Successive records of one partition, and what replay asks of every source of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeAlias

from schemas.errors import PitbossError

RecordHeaders: TypeAlias = Sequence[tuple[str, bytes | None]]
Bounds: TypeAlias = tuple[int, int]
"""The first offset that is there, and the one behind the last."""


class LogGap(PitbossError):
    """A source no longer holds records that are to be read."""

    code: ClassVar[str] = "LOG_GAP"
    exit_code: ClassVar[int] = 66  # EX_NOINPUT of sysexits.h


@dataclass(slots=True)
class LogBlock:
    """Successive records of one partition, a list for each of their parts."""

    topic: str
    partition: int
    offsets: list[int] = field(default_factory=list)
    timestamps_ms: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: dict[int, RecordHeaders] = field(default_factory=dict)
    """By place in the block; a record without headers has no item."""
    unreadable_headers: list[int] = field(default_factory=list)
    """Offsets of records whose headers no client can decode; they are read without headers."""

    def __len__(self) -> int:
        return len(self.offsets)

    def place(self, index: int) -> str:
        """Return the full name of a record: topic-partition@offset."""
        return f"{self.topic}-{self.partition}@{self.offsets[index]}"

    def keep(self, wanted: Sequence[int]) -> LogBlock:
        """Return a block of some of the records, by their places in this one."""
        return LogBlock(
            self.topic,
            self.partition,
            [self.offsets[index] for index in wanted],
            [self.timestamps_ms[index] for index in wanted],
            [self.keys[index] for index in wanted],
            [self.values[index] for index in wanted],
            {new: self.headers[index] for new, index in enumerate(wanted) if index in self.headers},
        )


class LogSource(Protocol):
    """A log as replay reads it; topics are named as on the broker."""

    def bounds(self, topic: str) -> Mapping[int, Bounds]:
        """Return what each partition holds. Raises UsageError for a topic that does not exist."""

    def all_bounds(self, topics: Collection[str]) -> Mapping[str, Mapping[int, Bounds]]:
        """Return what each partition of several topics holds. Raises as `bounds`."""

    def first_at(self, topic: str, at_ms: int) -> Mapping[int, int]:
        """Return each partition's first offset whose record is at or after a time, else its end.

        Nothing before it is that late; behind it there may be earlier records where producers set
        the time.
        """

    def has_append_time(self, topic: str) -> bool:
        """Return whether the broker sets the records' times, so that they never go back."""

    def read(
        self, topic: str, partition: int, from_offset: int, to_offset: int
    ) -> Iterator[LogBlock]:
        """Yield the records of `[from_offset, to_offset)`, in order.

        Offsets that the broker has no record for, such as markers, are left out. Raises LogGap
        where records were removed, Unavailable where none come.
        """
