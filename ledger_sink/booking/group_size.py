"""How many events a transaction of the ledger takes: fewer while the database is slow. Pure."""

from __future__ import annotations

from typing import Final

TRANSACTION_TARGET_S: Final = 2.0
"""A group that took longer is followed by smaller ones; mostly the largest takes 0.3 s."""

RELAXED_BY: Final = 1.05
"""After each commit the next may take so much longer, where time-outs come sooner than the target:
some dozens of commits lie between two tries of what has timed out."""


class GroupSize:
    """The number of events of the next group, from the times of those before it.

    It goes down to one event and up to `events_max`. A transaction that ends without a commit and
    has taken long is the sign of a slow database, whatever error ended it: each statement has a
    time-out, and so has the whole transaction.
    """

    def __init__(self, events_max: int, target_s: float = TRANSACTION_TARGET_S) -> None:
        """Begin with the largest groups; `target_s` is the time that one should take at most."""
        self._events_max = events_max
        self._longest_s = self._target_s = target_s
        self.events = events_max
        """Events of the next group, at most."""

    @property
    def is_reduced(self) -> bool:
        """Whether groups are smaller than they may be."""
        return self.events < self._events_max

    def note_commit(self, events: int, elapsed_s: float) -> None:
        """Note that a group of so many events was committed in that time."""
        if elapsed_s > self._target_s:
            self.events = self._fitting(events, elapsed_s)
        elif elapsed_s <= self._target_s / 2 and events >= self.events:
            self.events = min(self._events_max, self.events * 2)
        self._target_s = min(self._longest_s, self._target_s * RELAXED_BY)

    def note_failure(self, events: int, elapsed_s: float, *, timed_out: bool) -> bool:
        """Note that a group was not committed; return whether the next ones are smaller for it.

        `timed_out`: a statement ran into its time-out. The next group is then at most half of this
        one, or what would have been done in time at the pace of the time-out.
        """
        if events and (timed_out or elapsed_s > self._target_s):
            # A time-out that comes sooner than the target bounds it for a while.
            self._target_s = min(self._target_s, max(elapsed_s / 2, 0.001))
            self.events = min(self._fitting(events, elapsed_s), max(1, events // 2), self.events)
            return True
        return False

    def _fitting(self, events: int, elapsed_s: float) -> int:
        fitting = int(events * self._target_s / elapsed_s) if elapsed_s > 0 else events
        return min(max(1, fitting), self._events_max)
