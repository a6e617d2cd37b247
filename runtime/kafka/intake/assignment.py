"""What one worker holds between two rebalances: which batches are out, which are done, what may be
committed.

Pure, but for a clock that says how long a try has lasted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka.structs import ConsumerRecord, TopicPartition

from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.offset_gaps import OffsetGaps
from runtime.kafka.intake.progress import PartitionProgress

TRY_MAX_S: Final = 40.0
"""For how long a new try may go on waiting for what the last one waited for: as long as a database
may say nothing.
"""

LIVENESS_CHARACTERS_MAX: Final = 500
"""Of a reason that is committed: the broker takes 4,096 bytes of metadata."""


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """A held partition as the watchdog sees it; offsets are None until its start is known."""

    done_offset: int | None
    reached_offset: int | None
    """`done`, or what follows it without a record: where nothing is unfinished, trailing markers
    are behind us too.
    """
    unfinished_batches: int
    waiting: str | None
    """Why it is all right that nothing moves."""


class Assignment:
    """The partitions of one assignment.

    Closed until their starts are known, and again when they are revoked.
    """

    def __init__(
        self,
        number: int,
        partitions: frozenset[TopicPartition] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.number = number
        """Each assignment of an intake has its own; it marks the batches."""
        self.partitions = partitions
        self.is_open = False
        self.in_progress: set[RecordBatch] = set()
        self.waiting: dict[TopicPartition, str] = {}
        """What the last try could not go on without."""
        self._clock = clock
        self._tried_since: dict[TopicPartition, float] = {}
        self._signs = 0
        self.gaps = OffsetGaps()
        self._progress: dict[TopicPartition, PartitionProgress] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._tails: dict[TopicPartition, tuple[int, int]] = {}
        self._are_committed = True

    def open(self, starts: Mapping[TopicPartition, int], *, are_committed: bool = True) -> None:
        """Begin at these offsets; claimed ones are not what the group has committed."""
        self._progress = {
            tp: PartitionProgress(
                offset, is_committed=are_committed, where=f"{tp.topic}-{tp.partition}"
            )
            for tp, offset in starts.items()
        }
        self._are_committed = are_committed
        self.waiting.clear()
        self._tried_since.clear()
        self.is_open = True

    def close(self) -> None:
        """Hand out nothing more, and let no more work begin."""
        self.is_open = False

    def next_offset(self, tp: TopicPartition) -> int | None:
        """Where the next fetch of the partition must begin; None while nothing of it may be handed
        out.
        """
        progress = self._progress.get(tp) if self.is_open else None
        return None if progress is None else progress.next_offset

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Where every partition is to be read from."""
        return {tp: progress.next_offset for tp, progress in self._progress.items()}

    def partitions_with_room(self, records_max: int) -> list[TopicPartition]:
        """Partitions of which at most so many records are unfinished."""
        if not self.is_open:
            return []
        return [
            tp
            for tp, progress in self._progress.items()
            if progress.unfinished_records <= records_max
        ]

    def issue_batch(
        self,
        tp: TopicPartition,
        records: Sequence[ConsumerRecord[Any, Any]],
        next_offset: int,
        on_done: Callable[[RecordBatch], None],
    ) -> RecordBatch:
        """The next batch of a partition: from where the last one ended up to `next_offset`."""
        from_offset = self._progress[tp].issue(next_offset, len(records))
        return RecordBatch(
            tp.topic, tp.partition, from_offset, next_offset, records, self.number, on_done
        )

    def begin(self, batch: RecordBatch) -> bool:
        """Whether work on the batch may begin; if so, it is in work until `end`."""
        if not self.is_open or batch.assignment != self.number:
            return False
        self.in_progress.add(batch)
        self.begin_try([batch.tp])
        return True

    def begin_try(self, partitions: Iterable[TopicPartition]) -> None:
        """A new try begins, of what may have waited before."""
        self._tried_since |= dict.fromkeys(partitions, self._clock())

    def end_try(self, partitions: Iterable[TopicPartition], reason: str | None) -> None:
        """A try has ended: it waits for something, or, without a reason, for nothing more."""
        for tp in partitions:
            self._tried_since.pop(tp, None)
            if reason is None:
                self.waiting.pop(tp, None)
            else:
                self.waiting[tp] = reason

    def end(self, batch: RecordBatch, waiting: str | None) -> None:
        """Work on the batch is over, or waits for something."""
        self.in_progress.discard(batch)
        if batch.assignment == self.number:
            self.end_try([batch.tp], waiting)

    def finish(self, batch: RecordBatch) -> None:
        """The effects of the batch are durable.

        One of another assignment changes nothing: others repeat it.
        """
        if batch.assignment == self.number:
            self._progress[batch.tp].finish(batch.from_offset)

    def committable(self) -> dict[TopicPartition, int]:
        """The offsets that may be committed and are not."""
        return {
            tp: p.done_offset
            for tp, p in self._progress.items()
            if p.done_offset > p.committed_offset
        }

    def note_committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """The group has these offsets now."""
        for tp, offset in offsets.items():
            self._progress[tp].committed_offset = offset

    def liveness_notes(self, paused: str | None) -> dict[TopicPartition, tuple[int, str]]:
        """Of each partition that waits, what is done and why it waits, told otherwise than the last
        time.
        """
        self._signs += 1
        return {
            tp: (progress.done_offset, f"{self._signs} {reason[:LIVENESS_CHARACTERS_MAX]}")
            for tp, progress in self._progress.items()
            if self.is_open and (reason := self._reason(tp) or paused)
        }

    def idle_partitions(self) -> list[TopicPartition]:
        """Partitions of which nothing is unfinished."""
        return [tp for tp, progress in self._progress.items() if not progress.unfinished_batches]

    def note_position(self, tp: TopicPartition, position: int) -> int | None:
        """An idle partition was read up to there, without a record; returns from where to read it
        again, if it is.

        A client may have lost what lay there, so only what two fetches agree on is passed over.
        With claimed starts nothing is: who keeps the position knows only batches, which must join,
        and the group is never ahead of him.
        """
        self._positions[tp] = position
        progress = self._progress[tp]
        if position <= progress.next_offset or self.gaps.is_pending(tp):
            return None
        start, seen = self._tails.get(tp, (-1, -1))
        if start == progress.next_offset:
            agreed = min(seen, position)
            if self._are_committed:
                self.gaps.gap_offsets += agreed - start
                progress.skip_to(agreed)
            if position == agreed:
                return None
        self._tails[tp] = (progress.next_offset, position)
        return progress.next_offset

    def status(self, paused: str | None) -> dict[TopicPartition, PartitionStatus]:
        """Every partition; `paused` is why nothing is fed at all."""
        found = {}
        for tp in self.partitions:
            progress, waiting = self._progress.get(tp), self._reason(tp) or paused
            if progress is None:
                found[tp] = PartitionStatus(None, None, 0, waiting)
                continue
            reached = progress.done_offset
            if not progress.unfinished_batches:
                reached = max(reached, self._positions.get(tp, 0))
            found[tp] = PartitionStatus(
                progress.done_offset, reached, progress.unfinished_batches, waiting
            )
        return found

    def _reason(self, tp: TopicPartition) -> str | None:
        # A try that never ends is a stall. One that ends in time with what it has waited for before
        # is none: a lock that is held is waited for by trying, not by pausing.
        since = self._tried_since.get(tp)
        has_hung = since is not None and self._clock() - since >= TRY_MAX_S
        return None if has_hung else self.waiting.get(tp)
