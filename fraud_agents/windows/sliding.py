"""Sliding windows over event time, one for each key, exact to the second.

They are pure and independent of batches.

A window is any run of whole seconds of the given length, [s, s + 60) for 60 s: tumbling minutes
would miss 499 + 499 across a border. An event that arrives among the retained seconds of its key is
checked in every window that contains it. Only what is older than the key's own newest event by more
than the grace is late: it is counted as late and not checked. Everything here follows from the
records and their order; no clock is read.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

import msgspec

from schemas.errors import UsageError

SECOND_MS: Final = 1_000

Label: TypeAlias = tuple[str, ...]
"""Values by which evidence counts events; many events share one label."""


class WindowSpec(msgspec.Struct, frozen=True):
    """Length of a window, and what is remembered around it.

    Raises UsageError for a combination that cannot be exact.
    """

    window_ms: int
    grace_ms: int
    """An event may be this much older than the newest of its key and still be checked."""
    dedup_horizon_ms: int
    """An event id is known for this long after its event, in event time of its key."""
    capacity: int
    """Events kept for each key; beyond it the oldest are dropped: a flood costs bounded memory."""

    def __post_init__(self) -> None:
        if self.window_ms <= 0 or self.window_ms % SECOND_MS:
            raise UsageError(
                f"window_ms {self.window_ms} is not a positive number of whole seconds"
            )
        if self.grace_ms < 0:
            raise UsageError(f"grace_ms {self.grace_ms} is negative")
        if self.dedup_horizon_ms < self.window_ms + self.grace_ms:
            # With less, a window could hold both copies of one event.
            raise UsageError(
                f"dedup_horizon_ms {self.dedup_horizon_ms} is less than window and grace together, "
                f"{self.window_ms + self.grace_ms}"
            )
        if self.capacity < 1:
            raise UsageError(f"capacity {self.capacity} holds no event")


class Arrival(Enum):
    """Result of adding an event to a window."""

    COUNTED = "counted"
    DUPLICATE = "duplicate"
    LATE = "late"


class Span(NamedTuple):
    """One window and how many distinct events it holds, [start_ms, end_ms), epoch milliseconds."""

    start_ms: int
    end_ms: int
    size: int


class Contribution(NamedTuple):
    """One event of a window."""

    at_ms: int
    offset: int
    event_id: str
    label: Label
    value: int = 0


class WindowBuffers(NamedTuple):
    """The retained events of one key, column by column; all of one length."""

    times: array[int]
    offsets: array[int]
    values: array[int]
    ids: list[str]
    labels: list[Label]


class SlidingWindow:
    """The retained events of one key, ordered by event time, then by arrival."""

    __slots__ = (
        "_ids",
        "_known",
        "_labels",
        "_offsets",
        "_spec",
        "_times",
        "_values",
        "duplicates",
        "floor_ms",
        "late",
        "touched_ms",
    )

    def __init__(self, spec: WindowSpec) -> None:
        self._spec = spec
        # Machine integers in arrays: a third of the memory of objects, and a snapshot copies the
        # buffer.
        self._times = array("q")
        self._offsets = array("q")
        self._values = array("q")
        self._ids: list[str] = []
        self._labels: list[Label] = []
        self._known: set[str] = set()
        self.late = 0
        self.duplicates = 0
        self.floor_ms: int | None = None
        self.touched_ms = 0

    def __len__(self) -> int:
        return len(self._times)

    def add(self, at_ms: int, event_id: str, offset: int, label: Label, value: int = 0) -> Arrival:
        """Add an event; one whose id is known, or that is late, is only counted as such.

        `value` is what the events of a window are summed by: a whole number of 64 bits.
        """
        if event_id in self._known:
            self.duplicates += 1
            return Arrival.DUPLICATE
        times = self._times
        if not times or at_ms >= times[-1]:
            times.append(at_ms)
            self._offsets.append(offset)
            self._values.append(value)
            self._ids.append(event_id)
            self._labels.append(label)
            horizon = at_ms - self._spec.dedup_horizon_ms
            if times[0] < horizon:
                self._drop_first(bisect_left(times, horizon))
        elif at_ms < times[-1] - self._spec.grace_ms or (
            self.floor_ms is not None and at_ms < self.floor_ms
        ):
            self.late += 1
            return Arrival.LATE
        else:
            place = bisect_right(times, at_ms)
            times.insert(place, at_ms)
            self._offsets.insert(place, offset)
            self._values.insert(place, value)
            self._ids.insert(place, event_id)
            self._labels.insert(place, label)
        self._known.add(event_id)
        if len(times) > self._spec.capacity:
            # An eighth at once: dropping one at a time would move the whole buffer for every event
            # of a flood.
            self._drop_first(1 + self._spec.capacity // 8)
            self.floor_ms = times[0] if times else at_ms
        return Arrival.COUNTED

    def peak(self, at_ms: int, at_least: int) -> Span | None:
        """Return the fullest window that contains `at_ms`, the earliest of equals.

        Return None if it holds fewer than `at_least` events.
        """
        times = self._times
        if len(times) < at_least:
            return None
        end_ms = (at_ms // SECOND_MS + 1) * SECOND_MS
        if end_ms <= times[-1]:
            return self._peak_among(end_ms, at_least)
        # Nothing is retained after this second, so the window that ends with it holds as much as
        # any other could.
        start_ms = end_ms - self._spec.window_ms
        size = len(times) - bisect_left(times, start_ms)
        return Span(start_ms, end_ms, size) if size >= at_least else None

    def _peak_among(self, end_ms: int, at_least: int) -> Span | None:
        times, window_ms = self._times, self._spec.window_ms
        last_ms = end_ms + window_ms - SECOND_MS
        if bisect_left(times, last_ms) - bisect_left(times, end_ms - window_ms) < at_least:
            return None  # not even all windows together hold enough
        best: Span | None = None
        while end_ms <= last_ms:
            high = bisect_left(times, end_ms)
            size = high - bisect_left(times, end_ms - window_ms)
            if size >= at_least and (best is None or size > best.size):
                best = Span(end_ms - window_ms, end_ms, size)
            if high == len(times):
                break
            # A window that ends in a second without events holds no more than one that ends before
            # it.
            end_ms = (times[high] // SECOND_MS + 1) * SECOND_MS
        return best

    def contributions(self, start_ms: int, end_ms: int) -> Iterator[Contribution]:
        """Yield the retained events of [start_ms, end_ms), by event time, then by arrival."""
        for place in range(bisect_left(self._times, start_ms), bisect_left(self._times, end_ms)):
            yield Contribution(
                self._times[place],
                self._offsets[place],
                self._ids[place],
                self._labels[place],
                self._values[place],
            )

    def first_offset(self) -> int:
        """Return the lowest offset of the retained events; there must be one."""
        return min(self._offsets)

    def _drop_first(self, count: int) -> None:
        self._known.difference_update(self._ids[:count])
        for own in (self._times, self._offsets, self._values, self._ids, self._labels):
            del own[:count]

    def buffers(self) -> WindowBuffers:
        """Return what is retained, for a snapshot; not to be changed."""
        return WindowBuffers(self._times, self._offsets, self._values, self._ids, self._labels)

    def restore(self, buffers: WindowBuffers) -> None:
        """Take over the buffers of an equal window."""
        self._times, self._offsets, self._values, self._ids, self._labels = buffers
        self._known = set(buffers.ids)


class KeyedWindows:
    """The windows of all keys of one partition, and the partition's watermark.

    A key that stays silent while the log's event time moves on by `idle_ms` is forgotten. That is
    measured on the log, not on the key's own times: a provider that lags behind the others by an
    hour keeps its windows, as long as it continues to send. One that delivers the records of an
    hour together, every hour, is checked hour by hour.
    """

    def __init__(self, spec: WindowSpec, idle_ms: int) -> None:
        if idle_ms < spec.dedup_horizon_ms:
            raise UsageError(
                f"idle_ms {idle_ms} forgets keys before dedup_horizon_ms {spec.dedup_horizon_ms}"
            )
        self.spec = spec
        self.idle_ms = idle_ms
        self.watermark_ms = 0
        # In order of the last touch; the watermark only rises, so the first is always the one idle
        # for longest.
        self._windows: OrderedDict[str, SlidingWindow] = OrderedDict()
        self._touched_since_ms = 0  # no key has its last touch before this

    def __len__(self) -> int:
        return len(self._windows)

    def advance(self, at_ms: int) -> Sequence[str]:
        """Raise the watermark to a record's event time; return the forgotten keys."""
        if at_ms <= self.watermark_ms:
            return ()
        self.watermark_ms = at_ms
        return (
            self._forget(at_ms - self.idle_ms)
            if at_ms - self.idle_ms > self._touched_since_ms
            else ()
        )

    def _forget(self, idle_since_ms: int) -> list[str]:
        forgotten: list[str] = []
        self._touched_since_ms = idle_since_ms
        while self._windows:
            key = next(iter(self._windows))
            if (touched_ms := self._windows[key].touched_ms) >= idle_since_ms:
                self._touched_since_ms = touched_ms
                break
            del self._windows[key]
            forgotten.append(key)
        return forgotten

    def touch(self, key: str) -> SlidingWindow:
        """Return the window of a record's key, made if it is missing, and mark it as used."""
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = SlidingWindow(self.spec)
        else:
            self._windows.move_to_end(key)
        window.touched_ms = self.watermark_ms
        return window

    def items(self) -> Iterator[tuple[str, SlidingWindow]]:
        """Yield keys and windows, the longest idle first."""
        yield from self._windows.items()

    def get(self, key: str) -> SlidingWindow | None:
        """Return the window of a key, without marking it as used."""
        return self._windows.get(key)


class WindowState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One key's window.

    Times, offsets and values are runs of 8-byte little-endian integers, label numbers of 4 bytes.
    """

    key: str
    touched_ms: int
    floor_ms: int | None
    late: int
    duplicates: int
    times: bytes
    offsets: bytes
    ids: list[str]
    label_numbers: bytes
    values: bytes = b""


class KeyedState(msgspec.Struct, frozen=True, array_like=True):
    """All windows of a partition, the longest idle first.

    Labels are listed once, in the order of first use.
    """

    watermark_ms: int
    labels: list[Label]
    windows: list[WindowState]


def _bytes_of(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = array(numbers.typecode, numbers)
        numbers.byteswap()
    return numbers.tobytes()


def _numbers_of(typecode: str, data: bytes) -> array[int]:
    numbers: array[int] = array(typecode)
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def dump_windows(keyed: KeyedWindows) -> KeyedState:
    """Return everything that the windows' future answers depend on.

    Equal windows give equal states.
    """
    known: dict[Label, int] = {}
    windows: list[WindowState] = []
    for key, window in keyed.items():
        held = window.buffers()
        numbers = array("I", [known.setdefault(label, len(known)) for label in held.labels])
        windows.append(
            WindowState(
                key=key,
                touched_ms=window.touched_ms,
                floor_ms=window.floor_ms,
                late=window.late,
                duplicates=window.duplicates,
                times=_bytes_of(held.times),
                offsets=_bytes_of(held.offsets),
                ids=held.ids,
                label_numbers=_bytes_of(numbers),
                values=_bytes_of(held.values),
            )
        )
    return KeyedState(keyed.watermark_ms, list(known), windows)


def restore_windows(keyed: KeyedWindows, state: KeyedState) -> None:
    """Restore a state into windows that are still empty; they then equal the dumped ones."""
    for saved in state.windows:
        # touch() in the order of the state makes the order of idleness the same again.
        window = keyed.touch(saved.key)
        _restore_window(window, saved, state.labels)
    keyed.watermark_ms = state.watermark_ms


def _restore_window(window: SlidingWindow, saved: WindowState, labels: list[Label]) -> None:
    window.touched_ms, window.floor_ms = saved.touched_ms, saved.floor_ms
    window.late, window.duplicates = saved.late, saved.duplicates
    window.restore(
        WindowBuffers(
            _numbers_of("q", saved.times),
            _numbers_of("q", saved.offsets),
            _numbers_of("q", saved.values),
            saved.ids,
            [labels[number] for number in _numbers_of("I", saved.label_numbers)],
        )
    )
