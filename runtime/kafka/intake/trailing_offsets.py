"""Skipping the offsets behind a partition's last record: markers, and aborted transactions.

If they were never committed, they would be lag to the other members of the group; and once the
log's retention has removed them, the position before them would lie outside of the log.

The client says where a log ends when it has read so far, by a mark behind the last record. It may
have lost records there. So an end without a record is believed only when a second fetch from the
same offset finds none either. Pure.
"""

from __future__ import annotations

from aiokafka.structs import TopicPartition


class TrailingOffsets:
    """First fetches that found no record behind a partition's last one, until a second agrees."""

    def __init__(self) -> None:
        """Start without a fetch."""
        self._first_fetches: dict[TopicPartition, tuple[int, int]] = {}

    def is_pending(self, tp: TopicPartition, start: int | None) -> bool:
        """Return whether a first fetch from `start` waits for a second one."""
        return self._first_fetches.get(tp, (-1, -1))[0] == start

    def agreed_end(self, tp: TopicPartition, start: int, position: int) -> int | None:
        """Return up to where two fetches from `start` found no record; None after a single fetch.

        `position` is where the second fetch ended.
        """
        if not self.is_pending(tp, start):
            return None
        return min(self._first_fetches[tp][1], position)

    def remember(self, tp: TopicPartition, start: int, position: int) -> None:
        """Remember a fetch from `start` that found no record up to `position`."""
        self._first_fetches[tp] = (start, position)
