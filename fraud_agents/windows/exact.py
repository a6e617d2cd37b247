"""Sliding windows exact to the millisecond, over events that are kept whole. Pure.

For the few events of a key that a rule sums or compares: deposits, logins, withdrawals. A window is
(end - size, end], open below and closed above, and each one that ends at an event is looked at;
others hold no more. `sliding` is the cheaper form for every bet of a log.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import attrgetter

import msgspec

from fraud_agents.windows.sliding import Arrival
from schemas.errors import UsageError

_at_ms = attrgetter("at_ms")


class WindowEntry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One event of a window: `value` is summed, `label` is compared.

    `subject` is whose event it is, where a key has those of several.
    """

    at_ms: int
    offset: int
    event_id: str
    value: int = 0
    label: str = ""
    subject: str = ""


class ExactSpec(msgspec.Struct, frozen=True):
    """What a window remembers.

    `horizon_ms`: events are kept, and their ids known, for this long behind the newest.
    `capacity`: at most this many are kept. Raises UsageError for a horizon that cannot hold the
    grace.
    """

    grace_ms: int
    horizon_ms: int
    capacity: int = 1_000

    def __post_init__(self) -> None:
        if not 0 <= self.grace_ms < self.horizon_ms or self.capacity < 1:
            raise UsageError(
                f"grace {self.grace_ms} ms, horizon {self.horizon_ms} ms, {self.capacity} events"
            )


class EventWindow(msgspec.Struct, array_like=True):
    """The retained events of one key, ordered by event time, then by arrival."""

    entries: list[WindowEntry] = msgspec.field(default_factory=list)
    late: int = 0
    duplicates: int = 0
    floor_ms: int | None = None
    """Events before this were dropped for want of space; none of them is taken again."""

    def add(self, entry: WindowEntry, spec: ExactSpec) -> Arrival:
        """Add an event; a known one, or a late one, is only counted as such."""
        entries = self.entries
        if any(known.event_id == entry.event_id for known in entries):
            self.duplicates += 1
            return Arrival.DUPLICATE
        newest_ms = entries[-1].at_ms if entries else entry.at_ms
        is_before_floor = self.floor_ms is not None and entry.at_ms < self.floor_ms
        if entry.at_ms < newest_ms - spec.grace_ms or is_before_floor:
            self.late += 1
            return Arrival.LATE
        entries.insert(bisect_right(entries, entry.at_ms, key=_at_ms), entry)
        expired = bisect_left(entries, entries[-1].at_ms - spec.horizon_ms, key=_at_ms)
        del entries[:expired]
        if len(entries) > spec.capacity:
            del entries[: len(entries) - spec.capacity]
            self.floor_ms = entries[0].at_ms
        return Arrival.COUNTED

    def runs(self, at_ms: int, size_ms: int) -> Iterator[Sequence[WindowEntry]]:
        """Yield the windows that contain `at_ms` and end at an event, by their ends."""
        entries = self.entries
        place = bisect_left(entries, at_ms, key=_at_ms)
        while place < len(entries) and entries[place].at_ms < at_ms + size_ms:
            end_ms = entries[place].at_ms
            high = bisect_right(entries, end_ms, key=_at_ms)
            yield entries[bisect_right(entries, end_ms - size_ms, key=_at_ms) : high]
            place = high

    def ending(self, end_ms: int, size_ms: int) -> Sequence[WindowEntry]:
        """Return the events of (end_ms - size_ms, end_ms]."""
        entries = self.entries
        low = bisect_right(entries, end_ms - size_ms, key=_at_ms)
        return entries[low : bisect_right(entries, end_ms, key=_at_ms)]
