"""Treatment of a fetch that does not begin where the one before it ended.

Kafka's offsets have true gaps: transaction markers, aborted records, records that compaction
removed. A client can also lose records that it had fetched. The two look alike, and only the log
distinguishes them: so the fetch is repeated and compared.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from aiokafka.structs import TopicPartition

from schemas.errors import OffsetHole, Unavailable

logger = logging.getLogger(__name__)


class LogBounds(Protocol):
    """What must be known of the logs."""

    async def log_bounds(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Return the earliest offset and the end of each log. Raises Unavailable."""


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

    async def ask_log(self, log: LogBounds, partitions: Collection[TopicPartition]) -> bool:
        """Ask for the earliest offsets of partitions, and return whether there was an answer."""
        try:
            bounds = await log.log_bounds(partitions)
        except Unavailable as error:
            logger.warning("a gap cannot be compared with the log yet: %s", error)
            return False
        self.set_log_starts({tp: low for tp, (low, _) in bounds.items()})
        return True

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


async def check_in_log(log: LogBounds, tp: TopicPartition, offset: int) -> None:
    """Raise OffsetHole for a position that lies outside of the log, as far as the log answers.

    The client's own mark may be from before its last seek.
    """
    with suppress(Unavailable):
        first, end = (await log.log_bounds([tp]))[tp]
        if not first <= offset <= end:
            raise OffsetHole(
                f"the log does not hold {tp.topic}-{tp.partition}@{offset}, but [{first}, {end}): "
                "it was cut or deleted before it was read; restore it, or decide where to continue "
                "by setting the group's offset"
            )
