"""What one worker holds between two rebalances: which batches are out, which are done, what may be committed. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition

from streams.kafka.batches import RecordBatch
from streams.kafka.holes import Holes
from streams.kafka.progress import Progress


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """A held partition as the watchdog sees it; offsets are None until its start is known."""

    done: int | None
    reached: int | None
    """`done`, or what follows it without a record: where nothing is unfinished, trailing markers are behind us too."""
    unfinished: int
    waiting: str | None
    """Why it is all right that nothing moves."""


class Assignment:
    """The partitions of one assignment. Closed until their starts are known, and again when they are revoked."""

    def __init__(self, number: int, partitions: frozenset[TopicPartition] = frozenset()) -> None:
        self.number = number
        """Each assignment of an intake has its own; it marks the batches."""
        self.partitions = partitions
        self.is_open = False
        self.in_work: set[RecordBatch] = set()
        self.waiting: dict[TopicPartition, str] = {}
        self.holes = Holes()
        self._progress: dict[TopicPartition, Progress] = {}
        self._positions: dict[TopicPartition, int] = {}

    def open(self, starts: Mapping[TopicPartition, int], *, are_committed: bool = True) -> None:
        """Begin at these offsets; claimed ones are not what the group has committed."""
        self._progress = {
            tp: Progress(offset, is_committed=are_committed, where=f"{tp.topic}-{tp.partition}")
            for tp, offset in starts.items()
        }
        self.waiting.clear()
        self.is_open = True

    def close(self) -> None:
        """Hand out nothing more, and let no more work begin."""
        self.is_open = False

    def expected(self, tp: TopicPartition) -> int | None:
        """Where the next fetch of the partition must begin; None while nothing of it may be handed out."""
        progress = self._progress.get(tp) if self.is_open else None
        return None if progress is None else progress.next

    def all_expected(self) -> dict[TopicPartition, int]:
        """Where every partition is to be read from."""
        return {tp: progress.next for tp, progress in self._progress.items()}

    def with_room(self, records_max: int) -> list[TopicPartition]:
        """Partitions of which at most so many records are unfinished."""
        if not self.is_open:
            return []
        return [tp for tp, progress in self._progress.items() if progress.unfinished_records <= records_max]

    def hand_out(
        self,
        tp: TopicPartition,
        records: Sequence[ConsumerRecord[Any, Any]],
        next_offset: int,
        on_done: Callable[[RecordBatch], None],
    ) -> RecordBatch:
        """The next batch of a partition: from where the last one ended up to `next_offset`."""
        from_offset = self._progress[tp].hand_out(next_offset, len(records))
        return RecordBatch(tp.topic, tp.partition, from_offset, next_offset, records, self.number, on_done)

    def begin(self, batch: RecordBatch) -> bool:
        """Whether work on the batch may begin; if so, it is in work until `end`."""
        if not self.is_open or batch.assignment != self.number:
            return False
        self.in_work.add(batch)
        # Only the pause between two tries is a wait: a try that never ends is a stall.
        self.waiting.pop(batch.tp, None)
        return True

    def end(self, batch: RecordBatch, waiting: str | None) -> None:
        """Work on the batch is over, or waits for something."""
        self.in_work.discard(batch)
        if batch.assignment != self.number:
            return
        if waiting is None:
            self.waiting.pop(batch.tp, None)
        else:
            self.waiting[batch.tp] = waiting

    def finish(self, batch: RecordBatch) -> None:
        """The effects of the batch are durable. One of another assignment changes nothing: others repeat it."""
        if batch.assignment == self.number:
            self._progress[batch.tp].finish(batch.from_offset)

    def committable(self) -> dict[TopicPartition, int]:
        """The offsets that may be committed and are not."""
        return {tp: p.done for tp, p in self._progress.items() if p.done > p.committed}

    def note_committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The group has these offsets now."""
        for tp, offset in offsets.items():
            self._progress[tp].committed = offset

    def idle(self) -> list[TopicPartition]:
        """Partitions of which nothing is unfinished."""
        return [tp for tp, progress in self._progress.items() if not progress.unfinished]

    def note_position(self, tp: TopicPartition, position: int) -> None:
        """An idle partition was read up to there; what lies between it and the last batch is no record."""
        self._positions[tp] = position

    def status(self, paused: str | None) -> dict[TopicPartition, PartitionStatus]:
        """Every partition; `paused` is why nothing is fed at all."""
        found = {}
        for tp in self.partitions:
            progress, waiting = self._progress.get(tp), self.waiting.get(tp) or paused
            if progress is None:
                found[tp] = PartitionStatus(None, None, 0, waiting)
                continue
            reached = progress.done
            if not progress.unfinished:
                reached = max(reached, self._positions.get(tp, 0))
            found[tp] = PartitionStatus(progress.done, reached, progress.unfinished, waiting)
        return found
