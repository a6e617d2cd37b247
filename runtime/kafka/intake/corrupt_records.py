"""What to do when the client cannot read the records at a position, so that an operator can act.

A network may damage an answer once, and then a second fetch succeeds. Records that are damaged in
the log itself stay so: every client stops there, and only an operator can decide to leave them out.
This does not concern a header whose name is not UTF-8: its record is read, and rejected.
"""

from __future__ import annotations

from typing import Final

from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError

from schemas.errors import Unfetchable

TRIES: Final = 3


class FetchFailures:
    """Damaged answers in a row, by partition and position."""

    def __init__(self, group: str) -> None:
        """Count for a group, which is named in the error."""
        self._group = group
        self._tries: dict[TopicPartition, tuple[int, int]] = {}

    def note(self, tp: TopicPartition, offset: int, error: KafkaError) -> None:
        """Note that a fetch from `offset` was damaged.

        Raises Unfetchable after `TRIES` in a row.
        """
        before, tries = self._tries.get(tp, (offset, 0))
        tries = tries + 1 if before == offset else 1
        self._tries[tp] = (offset, tries)
        if tries >= TRIES:
            raise Unfetchable(
                f"{tp.topic}-{tp.partition}@{offset} cannot be read, nor what is behind it: "
                f"{error.str()}. If the log is damaged there, stop the workers of {self._group}, "
                "set its offset on that partition behind the damage with Kafka's tools, and have "
                "the sender append again what is left out"
            )
