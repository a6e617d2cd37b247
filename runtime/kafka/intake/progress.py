"""What was read of one partition, what of it is done, and so which offset may be committed. Pure.

Batches are handed out in order and may be done in any order. Only the run of done batches that
begins at the start may be committed: a batch that is done ahead of an earlier one waits for it.
"""

from __future__ import annotations

from schemas.errors import InvariantBroken


class PartitionProgress:
    """One partition during one assignment; all numbers are offsets of the record that comes next."""

    __slots__ = (
        "_done_ahead",
        "_unfinished",
        "_where",
        "committed_offset",
        "done_offset",
        "next_offset",
        "unfinished_records",
    )

    def __init__(self, start: int, *, is_committed: bool = True, where: str = "") -> None:
        """Begin at an offset; `where` names the partition in messages."""
        self._where = where
        self.next_offset = start
        """Where the next batch must begin; everything before it has been handed out."""
        self.done_offset = start
        """The end of the contiguous run of done batches: what may be committed."""
        self.committed_offset = start if is_committed else -1
        """What the group is known to have committed.

        A claimed start is not: until it is, the lag shown is not true.
        """
        self.unfinished_records = 0
        """Records handed out and not done."""
        self._unfinished: dict[int, tuple[int, int]] = {}
        self._done_ahead: dict[int, int] = {}

    @property
    def unfinished_batches(self) -> int:
        """Batches handed out and not done."""
        return len(self._unfinished)

    def issue(self, next_offset: int, records: int) -> int:
        """Take note of a batch of so many records up to `next_offset`, exclusive; returns the
        offset it begins at.
        """
        from_offset = self.next_offset
        if next_offset <= from_offset:
            raise InvariantBroken(
                f"{self._where}: a batch [{from_offset}, {next_offset}) covers nothing"
            )
        self._unfinished[from_offset] = (next_offset, records)
        self.unfinished_records += records
        self.next_offset = next_offset
        return from_offset

    def skip_to(self, position: int) -> None:
        """Take note that no record lies between here and `position`; only where nothing is
        unfinished.
        """
        if self._unfinished or position < self.next_offset:
            raise InvariantBroken(
                f"{self._where}: up to {position} lie records that are handed out and not done"
            )
        self.next_offset = self.done_offset = position

    def finish(self, from_offset: int) -> None:
        """Take note that the batch beginning there is done; a second time changes nothing.

        Raises InvariantBroken for a batch that was never handed out.
        """
        found = self._unfinished.pop(from_offset, None)
        if found is None:
            if from_offset >= self.done_offset and from_offset not in self._done_ahead:
                raise InvariantBroken(f"{self._where}@{from_offset}: no batch was handed out there")
            return
        next_offset, records = found
        self.unfinished_records -= records
        self._done_ahead[from_offset] = next_offset
        while (end := self._done_ahead.pop(self.done_offset, None)) is not None:
            self.done_offset = end
