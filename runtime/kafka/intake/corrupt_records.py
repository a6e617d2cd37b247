"""What to do when the client cannot read the records at a position, so that an operator can act.

A network may damage an answer once, and then a second fetch succeeds. Records that are damaged in
the log itself stay so: every client stops there, and only an operator can decide to leave them out.
Until then their partition waits, and the others are read on. This does not concern a header whose
name is not UTF-8: its record is read, and rejected.

An order to skip names the first offset that cannot be read. What is damaged is a batch of records,
and how many offsets it holds cannot be known; so the order holds for all that cannot be read from
there on without a gap, offset by offset.
"""

from __future__ import annotations

import logging
from typing import Final

from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError

from runtime.kafka.intake.assignment import Assignment
from schemas.errors import PartitionStuck

logger = logging.getLogger(__name__)

TRIES: Final = 3

RETRY_S: Final = 0.5
STUCK_RETRY_S: Final = 5.0
"""Between tries of a partition that is stuck: the log may have been repaired meanwhile."""

SKIP_RETRY_S: Final = 0.02
"""Between tries of an offset that is skipped if it cannot be read: many may follow."""


class DamagedReads:
    """Damaged answers in a row by partition and position, and operators' orders to skip."""

    def __init__(self) -> None:
        """Begin without a failure and without an order."""
        self._tries: dict[TopicPartition, tuple[int, int]] = {}
        self._orders: dict[tuple[TopicPartition, int], str] = {}
        self._skipping: dict[TopicPartition, tuple[int, str]] = {}
        """Where the stretch that is being skipped goes on, and by which order."""

    def allow_skip(self, tp: TopicPartition, offset: int, order: str) -> None:
        """Let the partition go on behind what cannot be read from `offset` on.

        `order` says who decided it, and why.
        """
        self._orders[tp, offset] = order

    def note(
        self, current: Assignment, tp: TopicPartition, offset: int, error: KafkaError
    ) -> float:
        """Note that a fetch from `offset` was damaged; return how many seconds to wait.

        After `TRIES` in a row the partition is stuck, unless an order leads behind the offset.
        """
        before, tries = self._tries.get(tp, (offset, 0))
        tries = tries + 1 if before == offset else 1
        self._tries[tp] = (offset, tries)
        current.stuck.setdefault(tp, None)
        if tries >= TRIES and not self._skip(current, tp, offset):
            current.stuck[tp] = self._reason(tp, offset, error)
            return STUCK_RETRY_S
        return SKIP_RETRY_S if tp in self._skipping else RETRY_S

    def _skip(self, current: Assignment, tp: TopicPartition, offset: int) -> bool:
        """Leave an offset out if an order says so; return whether it is left out."""
        order = self._orders.get((tp, offset))
        if order is None:
            next_offset, continued = self._skipping.get(tp, (-1, ""))
            order = continued if next_offset == offset else None
        if order is None or not current.skip(tp, offset + 1):
            return False
        logger.warning("%s-%d@%d is skipped: %s", *tp, offset, order)
        del self._tries[tp]
        self._skipping[tp] = (offset + 1, order)
        current.stuck[tp] = None
        return True

    def _reason(self, tp: TopicPartition, offset: int, error: KafkaError) -> str:
        place = f"{tp.topic}-{tp.partition}@{offset}"
        return (
            f"{PartitionStuck.code}: {place} cannot be read, nor what is behind it: {error.str()}. "
            "The other partitions go on. If the log is damaged there, have the sender append again "
            f"what is left out, and for a raw topic: pitboss topics skip {place}"
        )

    def note_read(self, current: Assignment, tp: TopicPartition) -> None:
        """Note that a partition that could not be read was read."""
        del current.stuck[tp]
        self._tries.pop(tp, None)
        end = self._skipping.pop(tp, None)
        if end is not None:
            logger.warning("%s-%d is read on from %d: %s", *tp, *end)
