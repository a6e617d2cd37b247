"""Treatment of a fetch that does not begin where the one before it ended. Pure.

Kafka's offsets have true gaps: transaction markers, aborted records, records that compaction
removed. A client can also lose records that it had fetched. The two look alike, and only the log
distinguishes them: so the fetch is repeated and compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiokafka.structs import TopicPartition

from schemas.errors import OffsetHole


@dataclass(frozen=True, slots=True)
class OffsetGap:
    """A fetch that began at `first` although it was to begin at `expected`."""

    tp: TopicPartition
    expected: int
    first: int
    log_start: int | None = None
    """Earliest offset of the log, asked for after the gap was seen; None until it is known."""

    def __str__(self) -> str:
        """Return `topic-partition@offset` of the expected record."""
        return f"{self.tp.topic}-{self.tp.partition}@{self.expected}"


class OffsetGaps:
    """The gaps of an assignment that a second fetch has still to confirm."""

    def __init__(self) -> None:
        """Start without a gap."""
        self.gap_offsets = 0
        """Number of offsets that a second fetch confirmed to hold no record."""
        self._pending: dict[TopicPartition, OffsetGap] = {}

    def must_refetch(self, tp: TopicPartition, expected: int, first: int) -> bool:
        """Return whether to discard a fetch that begins at `first` and repeat it from `expected`.

        Raises OffsetHole if a second fetch shows that records are missing.
        """
        gap = self._pending.pop(tp, None)
        if first == expected:
            return False
        if gap is None or gap.log_start is None:
            self._pending[tp] = OffsetGap(tp, expected, first)
            return True
        self.gap_offsets += check_gap(gap, first)
        return False

    def is_pending(self, tp: TopicPartition) -> bool:
        """Return whether the partition is being read again because of a gap."""
        return tp in self._pending

    def unknown_log_starts(self) -> list[TopicPartition]:
        """Return the partitions whose earliest offset must be known before the next fetch."""
        return [tp for tp, gap in self._pending.items() if gap.log_start is None]

    def set_log_starts(self, log_starts: Mapping[TopicPartition, int]) -> None:
        """Store the earliest offsets that the broker answered."""
        for tp in self._pending.keys() & log_starts.keys():
            self._pending[tp] = replace(self._pending[tp], log_start=log_starts[tp])


def check_gap(gap: OffsetGap, first: int) -> int:
    """Return how many offsets hold no record, by a second fetch that began at `first`.

    Raises OffsetHole if the log no longer reaches back to the expected offset, or if the two
    fetches differ.
    """
    assert gap.log_start is not None
    if gap.log_start > gap.expected:
        raise OffsetHole(
            f"{gap}: the records before {gap.log_start} were deleted before they were read; "
            "restore them, or decide to continue without them by setting the group's offset"
        )
    if first != gap.first or first < gap.expected:
        raise OffsetHole(
            f"{gap}: one fetch began at {gap.first}, the next at {first}, although the log "
            f"reaches back to {gap.log_start}; restart this worker, and report it if it happens "
            "again"
        )
    return first - gap.expected


def outside_log_error(position: str) -> OffsetHole:
    """Return the error of a position that lies outside of the log."""
    return OffsetHole(
        f"the log does not hold {position}: it was cut or deleted before it was read; restore it, "
        "or decide where to continue by setting the group's offset"
    )
