"""The progress of one partition: what was read, what is done, and what may be committed. Pure.

Batches are issued in order and may be finished in any order. Only the unbroken run of finished
batches that begins at the start offset may be committed: a batch that is finished before an earlier
one waits for it.
"""

from __future__ import annotations

from schemas.errors import InvariantBroken


class PartitionProgress:
    """Progress of one partition during one assignment; every offset is that of the next record."""

    __slots__ = (
        "_finished_ahead",
        "_unfinished",
        "_where",
        "committed_offset",
        "done_offset",
        "next_offset",
        "unfinished_records",
    )

    def __init__(self, start: int, *, is_committed: bool = True, where: str = "") -> None:
        """Begin at an offset; `where` names the partition in error messages."""
        self._where = where
        self.next_offset = start
        """Where the next batch must begin; everything before it has been issued."""
        self.done_offset = start
        """End of the unbroken run of finished batches, with the finished part of the next one.

        It is what may be committed.
        """
        self.committed_offset = start if is_committed else -1
        """What the group is known to have committed.

        A claimed start is not committed yet, and until it is, the lag that others see is not true.
        """
        self.unfinished_records = 0
        """Number of records in issued batches that are not finished."""
        self._unfinished: dict[int, tuple[int, int]] = {}
        self._finished_ahead: dict[int, int] = {}

    @property
    def unfinished_batches(self) -> int:
        """Number of issued batches that are not finished."""
        return len(self._unfinished)

    def issue(self, next_offset: int, records: int) -> int:
        """Issue a batch of so many records up to `next_offset`, exclusive; return its first offset.

        Raises InvariantBroken for a batch that covers no offset.
        """
        from_offset = self.next_offset
        if next_offset <= from_offset:
            raise InvariantBroken(
                f"{self._where}: a batch [{from_offset}, {next_offset}) covers no offset"
            )
        self._unfinished[from_offset] = (next_offset, records)
        self.unfinished_records += records
        self.next_offset = next_offset
        return from_offset

    def skip_to(self, position: int) -> None:
        """Move past offsets without records up to `position`.

        Raises InvariantBroken while a batch is unfinished, or if `position` was already issued.
        """
        if self._unfinished or position < self.next_offset:
            raise InvariantBroken(
                f"{self._where}: cannot skip to {position}: records before it are unfinished"
            )
        self.next_offset = self.done_offset = position

    def finish(self, from_offset: int) -> None:
        """Mark the batch that begins at `from_offset` as finished; a second time changes nothing.

        Raises InvariantBroken for a batch that was never issued.
        """
        batch = self._unfinished.pop(from_offset, None)
        if batch is None:
            if from_offset >= self.done_offset and from_offset not in self._finished_ahead:
                raise InvariantBroken(f"{self._where}@{from_offset}: no batch was issued there")
            return
        next_offset, records = batch
        self.unfinished_records -= records
        if from_offset > self.done_offset:
            self._finished_ahead[from_offset] = next_offset
        else:  # a part of it may be done already
            self._move_to(next_offset)

    def reach(self, from_offset: int, offset: int) -> None:
        """Mark the first part of the batch that begins at `from_offset` as finished.

        It ends at `offset`, exclusive. Nothing changes while an earlier batch is unfinished, or for
        a batch that is finished.
        """
        if from_offset in self._unfinished and from_offset <= self.done_offset:
            next_offset, _ = self._unfinished[from_offset]
            self._move_to(min(offset, next_offset))

    def _move_to(self, offset: int) -> None:
        self.done_offset = max(self.done_offset, offset)
        while (end := self._finished_ahead.pop(self.done_offset, None)) is not None:
            self.done_offset = end
