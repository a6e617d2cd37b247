"""The records that the client has handed over and that are in no batch yet, by partition. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from aiokafka.structs import TopicPartition

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

    from runtime.kafka.intake.listener import Fetch


class PartitionQueue:
    """Records of one partition, in their order, and what is known to be behind them."""

    __slots__ = ("_uncounted", "end_offset", "error", "is_paused", "messages", "stream")

    def __init__(self, stream: int) -> None:
        """Begin empty, with the number of the stream from which records are accepted."""
        self.stream = stream
        self.messages: deque[Message] = deque()
        self.end_offset: int | None = None
        """End of the log behind the messages, while no more is known to be there."""
        self.error: KafkaError | None = None
        """Why nothing comes behind the messages."""
        self.is_paused = False
        self._uncounted = 0

    def add(self, fetch: Fetch) -> None:
        """Add what was fetched behind the rest."""
        self.messages.extend(fetch.messages)
        self.end_offset = fetch.end_offset
        self.error = fetch.error

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come, not even an error."""
        return not self.messages and self.error is None

    def take(self, records_max: int) -> tuple[list[Message], int]:
        """Take records from the front; return them, and how much room with the client it makes."""
        count = min(records_max, len(self.messages))
        taken = [self.messages.popleft() for _ in range(count)]
        uncounted = min(self._uncounted, count)
        self._uncounted -= uncounted
        return taken, count - uncounted

    def pause(self) -> int:
        """Count the records no longer, as no more will come; return how much room that makes.

        Otherwise the records of a partition that stands still would keep those of others out.
        """
        self.is_paused = True
        room = len(self.messages) - self._uncounted
        self._uncounted = len(self.messages)
        return room


class HandedOver:
    """The queues of an assignment."""

    def __init__(self) -> None:
        """Begin without a partition."""
        self._queues: dict[TopicPartition, PartitionQueue] = {}
        self._filled: dict[TopicPartition, PartitionQueue] = {}
        """Those that have something, in the order of their turns: few of hundreds, and they are
        looked through at every batch."""

    def __getitem__(self, tp: TopicPartition) -> PartitionQueue:
        """Return the queue of a partition that is read."""
        return self._queues[tp]

    def add(self, fetch: Fetch) -> bool:
        """Add what was fetched; return False for a fetch of an outdated stream."""
        queue = self._queues.get(fetch.tp)
        if queue is None or queue.stream != fetch.stream:
            return False
        queue.add(fetch)
        if queue.is_empty:
            self._filled.pop(fetch.tp, None)
        else:
            self._filled.setdefault(fetch.tp, queue)
        return True

    def restart(self, partitions: Iterable[TopicPartition], stream: int) -> int:
        """Drop what there is of partitions, and accept only records of the new stream.

        Returns how much room with the client that makes.
        """
        room = 0
        for tp in partitions:
            if (queue := self._queues.pop(tp, None)) is not None:
                room += queue.pause()
            self._filled.pop(tp, None)
            self._queues[tp] = PartitionQueue(stream)
        return room

    def clear(self) -> int:
        """Drop everything; return how much room with the client that makes."""
        room = sum(queue.pause() for queue in self._queues.values())
        self._queues.clear()
        self._filled.clear()
        return room

    def oldest_ms(self, tp: TopicPartition) -> int | None:
        """Return the time of the first record of a partition, epoch ms; None without a record."""
        queue = self._queues.get(tp)
        return queue.messages[0].timestamp()[1] if queue is not None and queue.messages else None

    def move_back(self, tp: TopicPartition) -> None:
        """Let the other partitions go before this one."""
        if (queue := self._filled.pop(tp, None)) is not None and not queue.is_empty:
            self._filled[tp] = queue

    @property
    def is_empty(self) -> bool:
        """Whether no partition has anything."""
        return not self._filled

    def count_records(self) -> int:
        """Return how many records there are."""
        return sum(len(queue.messages) for queue in self._filled.values())

    def with_records(self) -> Iterator[TopicPartition]:
        """Yield the partitions that have records; the one that has waited longest comes first."""
        return (tp for tp, queue in self._filled.items() if queue.messages)

    def failed(self) -> list[tuple[TopicPartition, KafkaError]]:
        """Return the partitions that have nothing but an error."""
        return [
            (tp, queue.error)
            for tp, queue in self._filled.items()
            if queue.error is not None and not queue.messages
        ]
