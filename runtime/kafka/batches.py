"""Batches of records, and the channel on which an intake hands them to a Faust agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any

import faust
from aiokafka.structs import ConsumerRecord, TopicPartition
from mode.utils.queues import FlowControlEvent, ThrowableQueue

CHANNEL_BATCHES_MAX = 256


@dataclass(frozen=True, slots=True, eq=False)
class RecordBatch:
    """The records of one partition in `[from_offset, next_offset)`.

    Offsets of that range that no record has are no records: markers of transactions, or removed by
    compaction.
    """

    topic: str
    partition: int
    from_offset: int
    next_offset: int
    records: Sequence[ConsumerRecord[bytes, bytes]]
    assignment: int
    """The intake's count of assignments when the batch was read; another one now means: leave it
    alone.
    """
    on_done: Callable[[RecordBatch], None] = field(default=lambda _: None, repr=False)
    readings: Sequence[Sized] = field(default=(), repr=False)
    """What the intake's reader made of the records, a piece each; `records` is empty then.

    See `pieces`.
    """

    @property
    def count(self) -> int:
        """How many records it holds, as they came or already read."""
        return len(self.records) + sum(map(len, self.readings))

    @property
    def tp(self) -> TopicPartition:
        """The partition, as Kafka's client names it."""
        return TopicPartition(self.topic, self.partition)

    def mark_done(self) -> None:
        """Say that every effect of the batch is durable.

        For a stale batch this changes nothing: others repeat it.
        """
        self.on_done(self)

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}@[{self.from_offset},{self.next_offset})"


def join_batches(batches: Sequence[RecordBatch]) -> RecordBatch:
    """One batch out of several of a partition that follow each other; it is done when it says so,
    all of it.
    """
    first, last = batches[0], batches[-1]
    if first is last:
        return first

    def on_done(_: RecordBatch) -> None:
        for batch in batches:
            batch.mark_done()

    return replace(
        first,
        next_offset=last.next_offset,
        records=[record for batch in batches for record in batch.records],
        readings=[reading for batch in batches for reading in batch.readings],
        on_done=on_done,
    )


class BatchChannel(faust.Channel):  # type: ignore[type-arg]
    """A channel that Faust cannot clear.

    Faust clears the queues of all channels at each rebalance of its own consumer, and a clone of a
    channel gets a queue of its own. Here all clones share one queue, whose flow control is its own
    and is never suspended. The queue is bounded: a full one makes the intake wait.
    """

    def __init__(
        self,
        app: faust.App,
        *,
        maxsize: int | None = None,
        queue: ThrowableQueue[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if queue is None:
            queue = ThrowableQueue(
                maxsize=maxsize or CHANNEL_BATCHES_MAX,
                flow_control=FlowControlEvent(initially_suspended=False),
            )
        super().__init__(app, maxsize=maxsize, queue=queue, **kwargs)

    def _clone_args(self) -> Mapping[str, Any]:
        return {**super()._clone_args(), "queue": self.queue}

    async def put(self, value: Any) -> None:
        """Add a batch; waits while the channel is full."""
        await self.queue.put(value)
