"""Skipping the offsets behind a partition's last record: markers, and aborted transactions.

If they were never committed, they would be lag to the other members of the group; and once the
log's retention has removed them, the position before them would lie outside of the log.

A client may have lost records at the end of the log. So an end without a record is believed only
when a second fetch from the same offset finds none either.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError
from aiokafka.structs import TopicPartition

if TYPE_CHECKING:
    from runtime.kafka.intake.assignment import Assignment


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


async def check_trailing_offsets(client: AIOKafkaConsumer, assignment: Assignment) -> None:
    """Note how far idle partitions were read, and seek back where a second fetch is needed.

    Only the task that fetches may call this, and only when all that it fetched is in batches: at
    any other moment, a position may have moved past records that are in no batch yet.
    """
    if not assignment.is_open:
        return
    with suppress(IllegalStateError):  # revoked in the meantime
        for tp in assignment.idle_partitions():
            start = assignment.note_position(tp, await client.position(tp))
            if start is not None:
                client.seek(tp, start)
