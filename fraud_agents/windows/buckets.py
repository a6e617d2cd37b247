"""Windows that close at a watermark: tumbling, hopping and session windows. Pure.

Every window is half-open, [start, end): an event at its end belongs to the next one. A window is
complete once the watermark has reached its end, since whatever comes later with an earlier event
time is late. Late events are counted and belong to no window.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from fraud_agents.windows.sliding import Arrival
from schemas.errors import UsageError


class Bounds(NamedTuple):
    """A window, [start_ms, end_ms), epoch milliseconds."""

    start_ms: int
    end_ms: int


class ClosedWindow(NamedTuple):
    """What a complete window holds."""

    bounds: Bounds
    events: int
    total: int


class WindowAssigner(Protocol):
    """Maps an event time to the windows that contain it."""

    def windows_of(self, at_ms: int) -> Sequence[Bounds]:
        """Return the windows of an event time, earliest first."""


class Tumbling(msgspec.Struct, frozen=True):
    """Windows side by side; they begin at multiples of `size_ms` plus `offset_ms`.

    Raises UsageError for a size that is not positive.
    """

    size_ms: int
    offset_ms: int = 0

    def __post_init__(self) -> None:
        if self.size_ms <= 0:
            raise UsageError(f"size_ms {self.size_ms} is not positive")

    def windows_of(self, at_ms: int) -> Sequence[Bounds]:
        """Return the only window of an event time."""
        start_ms = at_ms - (at_ms - self.offset_ms) % self.size_ms
        return (Bounds(start_ms, start_ms + self.size_ms),)


class Hopping(msgspec.Struct, frozen=True):
    """Windows of `size_ms`, one beginning at each multiple of `hop_ms`.

    Raises UsageError unless the size is a multiple of the hop: otherwise events would lie in
    different numbers of windows.
    """

    size_ms: int
    hop_ms: int

    def __post_init__(self) -> None:
        if self.hop_ms <= 0 or self.size_ms <= 0 or self.size_ms % self.hop_ms:
            raise UsageError(f"size_ms {self.size_ms} is not a multiple of hop_ms {self.hop_ms}")

    def windows_of(self, at_ms: int) -> Sequence[Bounds]:
        """Return the windows of an event time, earliest first."""
        last_ms = at_ms - at_ms % self.hop_ms
        first_ms = last_ms - self.size_ms + self.hop_ms
        return [
            Bounds(start_ms, start_ms + self.size_ms)
            for start_ms in range(first_ms, last_ms + 1, self.hop_ms)
        ]


class WindowedSums:
    """Count and sum of each open window of one key."""

    def __init__(self, assigner: WindowAssigner) -> None:
        self._assigner = assigner
        self._open: dict[Bounds, tuple[int, int]] = {}
        self.watermark_ms: int | None = None
        self.late = 0

    def add(self, at_ms: int, value: int = 0) -> Arrival:
        """Count an event in each of its windows; one before the watermark is only counted late."""
        if self.watermark_ms is not None and at_ms < self.watermark_ms:
            self.late += 1
            return Arrival.LATE
        for bounds in self._assigner.windows_of(at_ms):
            count, total = self._open.get(bounds, (0, 0))
            self._open[bounds] = (count + 1, total + value)
        return Arrival.COUNTED

    def advance(self, watermark_ms: int) -> list[ClosedWindow]:
        """Raise the watermark; return the windows that are complete now, by end, then start."""
        if self.watermark_ms is not None and watermark_ms <= self.watermark_ms:
            return []
        self.watermark_ms = watermark_ms
        complete = [bounds for bounds in self._open if bounds.end_ms <= watermark_ms]
        complete.sort(key=lambda bounds: (bounds.end_ms, bounds.start_ms))
        return [ClosedWindow(bounds, *self._open.pop(bounds)) for bounds in complete]


class _Session(msgspec.Struct, array_like=True, order=True):
    first_ms: int
    last_ms: int
    count: int
    total: int


class SessionWindows:
    """Sessions of one key: runs of events with less than `gap_ms` between one and the next.

    A session is [first, last + gap): an event exactly `gap_ms` after the last begins another one.
    An event between two sessions that is near both makes them one.
    """

    def __init__(self, gap_ms: int) -> None:
        if gap_ms <= 0:
            raise UsageError(f"gap_ms {gap_ms} is not positive")
        self.gap_ms = gap_ms
        self._sessions: list[_Session] = []
        self.watermark_ms: int | None = None
        self.late = 0

    def add(self, at_ms: int, value: int = 0) -> Arrival:
        """Add an event to its session, or begin one."""
        if self.watermark_ms is not None and at_ms < self.watermark_ms:
            self.late += 1
            return Arrival.LATE
        own = _Session(at_ms, at_ms, 1, value)
        place = bisect_right(self._sessions, own)
        for near in self._sessions[max(0, place - 1) : place + 1]:
            if (
                near.first_ms - self.gap_ms < own.last_ms
                and own.first_ms < near.last_ms + self.gap_ms
            ):
                self._sessions.remove(near)
                own = _Session(
                    min(near.first_ms, own.first_ms),
                    max(near.last_ms, own.last_ms),
                    near.count + own.count,
                    near.total + own.total,
                )
        insort(self._sessions, own)
        return Arrival.COUNTED

    def advance(self, watermark_ms: int) -> list[ClosedWindow]:
        """Raise the watermark; return the sessions that no event can join any more, in order."""
        if self.watermark_ms is not None and watermark_ms <= self.watermark_ms:
            return []
        self.watermark_ms = watermark_ms
        kept, closed = [], []
        for session in self._sessions:
            bounds = Bounds(session.first_ms, session.last_ms + self.gap_ms)
            if bounds.end_ms <= watermark_ms:
                closed.append(ClosedWindow(bounds, session.count, session.total))
            else:
                kept.append(session)
        self._sessions = kept
        return closed
