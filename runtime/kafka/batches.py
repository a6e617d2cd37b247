"""Batches of records, and the channel on which an intake sends them to a Faust agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import Any, Final

import faust
from aiokafka.structs import TopicPartition
from mode.utils.queues import FlowControlEvent, ThrowableQueue

from runtime.hop_tap import HopStep, note_step
from runtime.kafka.records import RawRecord

CHANNEL_READS_MAX: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class RecordBatch:
    """The records of one partition in the offsets `[from_offset, next_offset)`.

    An offset of that range without a record is the marker of a transaction, belongs to an aborted
    one, or was removed by compaction.
    """

    topic: str
    partition: int
    from_offset: int
    next_offset: int
    records: Sequence[RawRecord]
    assignment: int
    """Number of the intake's assignment; once the intake has another one, the batch is stale."""
    on_done: Callable[[RecordBatch], None] = field(default=lambda _: None, repr=False)
    on_reached: Callable[[RecordBatch, int], None] = field(default=lambda *_: None, repr=False)
    readings: Sequence[Sized] = field(default=(), repr=False)
    """What the intake's reader made of the records, one item a chunk; `records` is empty then.

    See `intake.chunked_reads`.
    """

    def __post_init__(self) -> None:
        """Note when it was fetched; of a joined batch, only the notes of its chunks count."""
        self.note_step("fetched")

    def note_step(self, step: HopStep) -> None:
        """Note for an open tap that a step of these records has just ended."""
        note_step(step, self.topic, self.partition, self.from_offset, self.next_offset)

    @property
    def count(self) -> int:
        """Number of records, unread or already read."""
        return len(self.records) + sum(map(len, self.readings))

    @property
    def tp(self) -> TopicPartition:
        """Topic and partition, as Kafka's client names them."""
        return TopicPartition(self.topic, self.partition)

    def mark_done(self) -> None:
        """Report that every effect of the batch is durable; a stale batch changes nothing."""
        self.on_done(self)

    def mark_reached(self, offset: int) -> None:
        """Report that every effect of the records before `offset` is durable.

        A long batch shows so that it moves. A stale one changes nothing.
        """
        self.on_reached(self, offset)

    def __str__(self) -> str:
        """Return `topic-partition@[from,next)`."""
        return f"{self.topic}-{self.partition}@[{self.from_offset},{self.next_offset})"


def join_batches(batches: Sequence[RecordBatch]) -> RecordBatch:
    """Join batches of a partition that follow each other; marking the result marks all of them."""
    first, last = batches[0], batches[-1]
    if first is last:
        return first

    def on_done(_: RecordBatch) -> None:
        for batch in batches:
            batch.mark_done()

    def on_reached(_: RecordBatch, offset: int) -> None:
        for batch in batches:
            if offset >= batch.next_offset:
                batch.mark_done()
            elif offset > batch.from_offset:
                batch.mark_reached(offset)

    return replace(
        first,
        next_offset=last.next_offset,
        records=[record for batch in batches for record in batch.records],
        readings=[reading for batch in batches for reading in batch.readings],
        on_done=on_done,
        on_reached=on_reached,
    )


class BatchChannel(faust.Channel):  # type: ignore[type-arg]  # not generic at run time
    """A channel that Faust cannot clear; an item is a sequence of batches that were read together.

    Faust clears the queues of all channels at each rebalance of its own consumer, and a clone of a
    channel gets a queue of its own. Here all clones share one queue, whose flow control belongs to
    it alone and is never suspended. The queue is bounded: a full one makes the intake wait.
    """

    def __init__(
        self,
        app: faust.App,
        *,
        maxsize: int | None = None,
        queue: ThrowableQueue[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Use `queue`, as a clone does, or make one of `maxsize` (None: CHANNEL_READS_MAX)."""
        if queue is None:
            queue = ThrowableQueue(
                maxsize=maxsize or CHANNEL_READS_MAX,
                flow_control=FlowControlEvent(initially_suspended=False),
            )
        super().__init__(app, maxsize=maxsize, queue=queue, **kwargs)

    def _clone_args(self) -> Mapping[str, Any]:
        return {**super()._clone_args(), "queue": self.queue}

    async def put(self, value: Any) -> None:
        """Add batches that were read together; wait while the channel is full."""
        await self.queue.put(value)
