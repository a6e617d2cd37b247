"""What to do when a fetch does not begin where the last one ended. Pure.

Kafka's offsets have true gaps: transaction markers, aborted records, what compaction removed. A
client can also lose records that it had fetched. The two look alike, and only the log can tell: so
it is asked once more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiokafka.structs import TopicPartition

from schemas.errors import OffsetHole


@dataclass(frozen=True, slots=True)
class OffsetGap:
    """A fetch that began at `first` although `expected` was asked for."""

    tp: TopicPartition
    expected: int
    first: int
    log_start: int | None = None
    """The earliest offset that the log held after this was seen; None until the broker has said it.
    """

    def __str__(self) -> str:
        return f"{self.tp.topic}-{self.tp.partition}@{self.expected}"


class OffsetGaps:
    """The holes of an assignment that still have to be judged."""

    def __init__(self) -> None:
        self.gap_offsets = 0
        """Offsets that a second fetch confirmed to hold no record."""
        self._pending: dict[TopicPartition, OffsetGap] = {}

    def must_refetch(self, tp: TopicPartition, expected: int, first: int) -> bool:
        """Whether a fetch that begins at `first` is to be thrown away and asked for again from
        `expected`.

        Raises OffsetHole where a second answer shows that records are missing.
        """
        seen = self._pending.pop(tp, None)
        if first == expected:
            return False
        if seen is None or seen.log_start is None:
            self._pending[tp] = OffsetGap(tp, expected, first)
            return True
        self.gap_offsets += check_gap(seen, first)
        return False

    def is_pending(self, tp: TopicPartition) -> bool:
        """Whether the partition is being read again because of a hole."""
        return tp in self._pending

    def unknown_log_starts(self) -> list[TopicPartition]:
        """Partitions whose earliest offset must be known before the next fetch."""
        return [tp for tp, hole in self._pending.items() if hole.log_start is None]

    def set_log_starts(self, log_starts: Mapping[TopicPartition, int]) -> None:
        """Take note of the broker's answer."""
        for tp in self._pending.keys() & log_starts.keys():
            self._pending[tp] = replace(self._pending[tp], log_start=log_starts[tp])


def check_gap(seen: OffsetGap, first: int) -> int:
    """How many offsets a second fetch, begun at `first`, proves to be no records at all.

    Raises OffsetHole where the log no longer reaches back, or where the two answers differ.
    """
    assert seen.log_start is not None
    if seen.log_start > seen.expected:
        raise OffsetHole(
            f"{seen}: the records before {seen.log_start} were deleted before they were read; "
            "restore them, or decide to go on without them by setting the group's offset"
        )
    if first != seen.first or first < seen.expected:
        raise OffsetHole(
            f"{seen}: one fetch began at {seen.first}, the next at {first}, although the log "
            f"reaches back to {seen.log_start}; restart this worker, and report it if it happens again"
        )
    return first - seen.expected


def outside_log_error(position: str) -> OffsetHole:
    """The error of a position that the log does not hold at all."""
    return OffsetHole(
        f"the log does not hold {position}: it was cut or deleted before it was read; restore it, "
        "or decide where to go on by setting the group's offset"
    )
