"""What the thread of a consumer tells the event loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError, Message

from runtime.kafka.intake.client_partitions import CommitOffsets, Offsets


@dataclass(slots=True)
class Fetch:
    """What one poll returned of a partition, in its order."""

    tp: TopicPartition
    stream: int
    messages: list[Message] = field(default_factory=list)
    end_offset: int | None = None
    """End of the log, if the messages are the last before it; None if more may be behind them."""
    error: KafkaError | None = None
    """Why nothing is read behind the messages; the partition needs a new `seek` or `assign`."""


class Listener(Protocol):
    """What the client calls in the event loop. `assignment` is the number that it holds for."""

    def on_assigned(self, assignment: int, partitions: frozenset[TopicPartition]) -> None:
        """Take partitions over; nothing is read of them before `assign`."""

    def on_fetched(self, assignment: int, fetches: Sequence[Fetch]) -> None:
        """Take what was fetched."""

    def on_committed(self, assignment: int, offsets: Offsets) -> None:
        """Note that the group has committed these offsets."""

    def on_revoking(self, answer: Callable[[CommitOffsets], None]) -> None:
        """Finish the work in progress, and call `answer` with what is to be committed."""

    def on_revoked(self, assignment: int, *, is_lost: bool) -> None:
        """Forget the assignment before this one; if it `is_lost`, others may have it already."""

    def on_seek_failed(self, assignment: int, tp: TopicPartition, error: KafkaError) -> None:
        """Find another way to read a partition that cannot be sought."""

    def on_failed(self, error: Exception) -> None:
        """End, as the client has."""
