"""State of one assignment: batches in progress, batches done, and what may be committed.

Pure, except for a clock that measures how long a try has lasted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka.structs import TopicPartition

from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.offset_gaps import OffsetGaps
from runtime.kafka.intake.progress import PartitionProgress
from runtime.kafka.intake.trailing_offsets import TrailingOffsets
from runtime.kafka.records import RawRecord

TRY_MAX_S: Final = 40.0
"""How long a new try may wait for the same reason as the last one: as long as a database may be
silent.
"""

LIVENESS_CHARACTERS_MAX: Final = 500
"""Of a reason that is committed with an offset: the broker takes 4,096 bytes of metadata."""


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """An assigned partition as the watchdog sees it; offsets are None until its start is known."""

    done_offset: int | None
    reached_offset: int | None
    """`done_offset`, or the end of the offsets without records behind it.

    It is ahead of `done_offset` only while no batch is unfinished.
    """
    unfinished_batches: int
    waiting: str | None
    """Reason why nothing has to move."""
    oldest_ms: int | None = None
    """Time of the first record that is not done, epoch ms; None where none is known."""


class Assignment:
    """The partitions of one assignment; closed until their starts are known, and when revoked."""

    def __init__(
        self,
        number: int,
        partitions: frozenset[TopicPartition] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin closed; `clock` gives seconds and only goes forward."""
        self.number = number
        """Unique among the assignments of an intake; it marks their batches."""
        self.partitions = partitions
        self.is_open = False
        self.in_progress: set[RecordBatch] = set()
        """Batches between `begin` and `end`."""
        self.waiting: dict[TopicPartition, str] = {}
        """What the last try of a partition waited for."""
        self.stuck: dict[TopicPartition, str | None] = {}
        """Partitions whose records could not be read, and why they are stuck; None while the reason
        may pass."""
        self.gaps = OffsetGaps()
        self._clock = clock
        self._tried_since: dict[TopicPartition, float] = {}
        self._notes_made = 0
        self._progress: dict[TopicPartition, PartitionProgress] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._unconfirmed: set[TopicPartition] = set()
        self._first_ms: dict[TopicPartition, dict[int, int]] = {}
        """By partition, the time of the first record of each unfinished batch."""
        self._trailing = TrailingOffsets()
        self._agreed_ends: dict[TopicPartition, int] = {}
        """With claimed starts: up to where two fetches found no record, in no batch yet."""
        self._are_committed = True

    def open(self, starts: Mapping[TopicPartition, int], *, are_committed: bool = True) -> None:
        """Begin at these offsets; `are_committed` says whether the group has committed them.

        Claimed offsets are not what the group has committed.
        """
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
        """Issue no more batches, and let no more work begin."""
        self.is_open = False

    def next_offset(self, tp: TopicPartition) -> int | None:
        """Return where the next fetch of the partition must begin; None while none may be used."""
        progress = self._progress.get(tp) if self.is_open else None
        return None if progress is None else progress.next_offset

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Return where the next fetch of every partition must begin."""
        return {tp: progress.next_offset for tp, progress in self._progress.items()}

    def has_room(self, tp: TopicPartition, records_max: int) -> bool:
        """Return whether a partition has at most so many unfinished records; never while closed."""
        return self.is_open and self._progress[tp].unfinished_records <= records_max

    def issue_batch(
        self,
        tp: TopicPartition,
        records: Sequence[RawRecord],
        next_offset: int,
        on_done: Callable[[RecordBatch], None],
    ) -> RecordBatch:
        """Return the next batch of a partition: from the end of the last one to `next_offset`."""
        from_offset = self._progress[tp].issue(next_offset, len(records))
        if records:
            self._first_ms.setdefault(tp, {})[from_offset] = records[0].timestamp
        return RecordBatch(
            tp.topic,
            tp.partition,
            from_offset,
            next_offset,
            records,
            self.number,
            on_done,
            self.reach,
        )

    def begin(self, batch: RecordBatch) -> bool:
        """Return whether work on the batch may begin; if so, it is in progress until `end`."""
        if not self.is_open or batch.assignment != self.number:
            return False
        self.in_progress.add(batch)
        self.begin_try([batch.tp])
        return True

    def end(self, batch: RecordBatch, waiting: str | None) -> None:
        """End work on the batch; with a reason in `waiting` only until the next try."""
        self.in_progress.discard(batch)
        if batch.assignment == self.number:
            self.end_try([batch.tp], waiting)

    def begin_try(self, partitions: Iterable[TopicPartition]) -> None:
        """Begin a new try of partitions that may have waited before."""
        self._tried_since |= dict.fromkeys(partitions, self._clock())

    def end_try(self, partitions: Iterable[TopicPartition], reason: str | None) -> None:
        """End a try of partitions; `reason` is what they wait for, None if for nothing more."""
        for tp in partitions:
            self._tried_since.pop(tp, None)
            if reason is None:
                self.waiting.pop(tp, None)
            else:
                self.waiting[tp] = reason

    def finish(self, batch: RecordBatch) -> None:
        """Mark a batch as done: its effects are durable.

        A batch of another assignment changes nothing: the present owner repeats it.
        """
        if batch.assignment == self.number:
            self._progress[batch.tp].finish(batch.from_offset)
            self._first_ms.get(batch.tp, {}).pop(batch.from_offset, None)

    def reach(self, batch: RecordBatch, offset: int) -> None:
        """Mark the records of a batch before `offset` as done; see `finish`."""
        if batch.assignment == self.number:
            self._progress[batch.tp].reach(batch.from_offset, offset)

    def committable(self) -> dict[TopicPartition, int]:
        """Return the offsets that may be committed and are not."""
        return {
            tp: progress.done_offset
            for tp, progress in self._progress.items()
            if progress.done_offset > progress.committed_offset
        }

    def note_committed(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Note that the group has committed these offsets.

        An answer may come after its assignment is over. It is still true, so it cannot be mistaken.
        """
        for tp, offset in offsets.items():
            if (progress := self._progress.get(tp)) is not None:
                progress.committed_offset = offset

    def liveness_notes(self, paused: str | None) -> dict[TopicPartition, tuple[int, str]]:
        """Return, for each waiting partition, its done offset and why it waits.

        No two calls return the same text: it is committed as metadata, and only a change of it
        shows others that this worker is alive.
        """
        self._notes_made += 1
        return {
            tp: (progress.done_offset, f"{self._notes_made} {reason[:LIVENESS_CHARACTERS_MAX]}")
            for tp, progress in self._progress.items()
            if self.is_open and (reason := self._wait_reason(tp) or paused)
        }

    def idle_partitions(self) -> list[TopicPartition]:
        """Return the partitions without an unfinished batch."""
        return [tp for tp, progress in self._progress.items() if not progress.unfinished_batches]

    def skip(self, tp: TopicPartition, offset: int) -> bool:
        """Leave out what is before an offset, once all that was issued is done.

        Returns whether it is.
        """
        progress = self._progress[tp]
        if progress.unfinished_batches:
            return False
        self.gaps.gap_offsets += offset - progress.next_offset
        progress.skip_to(offset)
        return True

    def note_end(self, tp: TopicPartition, end: int) -> None:
        """Note that the client has found the log's end at `end`, behind all that was issued."""
        self._ends[tp] = end
        self._unconfirmed.add(tp)

    def ends_to_confirm(self) -> dict[TopicPartition, int]:
        """Return, for each idle partition that must be read again, the offset to begin at."""
        starts = {}
        for tp in self._unconfirmed.intersection(self.idle_partitions()):
            self._unconfirmed.discard(tp)
            if (start := self.note_position(tp, self._ends[tp])) is not None:
                starts[tp] = start
        return starts

    def note_position(self, tp: TopicPartition, position: int) -> int | None:
        """Note that an idle partition was read up to `position` without a record.

        Returns the offset from which to read it again, or None. A client may have lost what lay
        there, so only what two fetches agree on is skipped. With claimed starts the component that
        keeps the position takes it as a batch without records (`issue_agreed_end`): its batches
        must join, and the group's offset must never be ahead of that position.
        """
        self._ends[tp] = position
        progress = self._progress[tp]
        if position <= progress.next_offset or self.gaps.is_pending(tp):
            return None
        agreed = self._trailing.agreed_end(tp, progress.next_offset, position)
        if agreed is not None:
            if self._are_committed:
                self.gaps.gap_offsets += agreed - progress.next_offset
                progress.skip_to(agreed)
            else:
                self._agreed_ends[tp] = agreed
            if position == agreed:
                return None
        self._trailing.remember(tp, progress.next_offset, position)
        return progress.next_offset

    def agreed_ends(self) -> list[TopicPartition]:
        """Return the partitions of which `issue_agreed_end` has a batch."""
        return [*self._agreed_ends] if self.is_open else []

    def issue_agreed_end(
        self, tp: TopicPartition, on_done: Callable[[RecordBatch], None]
    ) -> RecordBatch | None:
        """Return a batch without records, up to the end that two fetches have agreed on."""
        end, progress = self._agreed_ends.pop(tp, 0), self._progress[tp]
        if end <= progress.next_offset or progress.unfinished_batches:
            return None
        self.gaps.gap_offsets += end - progress.next_offset
        return self.issue_batch(tp, (), end, on_done)

    def status(
        self,
        paused: str | None,
        handed_over_ms: Callable[[TopicPartition], int | None] = lambda _: None,
    ) -> dict[TopicPartition, PartitionStatus]:
        """Return the status of every partition; `paused` is the reason why nothing is read.

        `handed_over_ms` returns the time of a partition's first record that is in no batch yet.
        """
        status = {}
        for tp in self.partitions:
            progress, waiting = self._progress.get(tp), self._wait_reason(tp) or paused
            if progress is None:
                status[tp] = PartitionStatus(None, None, 0, waiting)
                continue
            reached = progress.done_offset
            if not progress.unfinished_batches:
                reached = max(reached, self._ends.get(tp, 0))
            unfinished = self._first_ms.get(tp)
            oldest_ms = unfinished[min(unfinished)] if unfinished else handed_over_ms(tp)
            status[tp] = PartitionStatus(
                progress.done_offset, reached, progress.unfinished_batches, waiting, oldest_ms
            )
        return status

    def _wait_reason(self, tp: TopicPartition) -> str | None:
        # A try that never ends is a stall. A try that ends in time and waits for the same as the
        # last one is not: a held lock is waited for by trying, not by pausing.
        if (stuck := self.stuck.get(tp)) is not None:
            return stuck
        since = self._tried_since.get(tp)
        has_hung = since is not None and self._clock() - since >= TRY_MAX_S
        return None if has_hung else self.waiting.get(tp)
