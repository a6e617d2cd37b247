"""Watermarks of partitions, and several partitions merged into one order by event time. Pure.

A partition's watermark is its newest event time less the grace. A record before its own partition's
watermark is late. That depends on the partition's log alone, so live, shadow and replay agree on
which records are late, however the partitions' records interleave. A merge releases what lies
before the lowest watermark of its inputs, in the order (event time, input, offset). No clock is
read: an idle partition raises its watermark by HEARTBEAT records of its log.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from fraud_agents.windows.sliding import Arrival
from schemas.errors import UsageError

T = TypeVar("T")

InputId: TypeAlias = tuple[str, int]
"""Topic and partition of an input."""

NOT_STARTED: Final = -(2**62)
"""Watermark of an input that has had no record: it holds every merge back."""


class PartitionWatermark(msgspec.Struct, array_like=True):
    """Event time up to which a partition is complete, but for `grace_ms`."""

    grace_ms: int
    newest_ms: int = NOT_STARTED
    late: int = 0

    @property
    def watermark_ms(self) -> int:
        """No record that is not late can come with an event time below this."""
        return NOT_STARTED if self.newest_ms == NOT_STARTED else self.newest_ms - self.grace_ms

    def observe(self, at_ms: int) -> bool:
        """Take in a record's event time; return False for a late one, which is counted."""
        if at_ms < self.watermark_ms:
            self.late += 1
            return False
        self.newest_ms = max(self.newest_ms, at_ms)
        return True

    def beat(self, at_ms: int) -> None:
        """Take in the event time of a heartbeat; it is never late."""
        self.newest_ms = max(self.newest_ms, at_ms)


class Released(NamedTuple, Generic[T]):
    """A record that a merge has released."""

    at_ms: int
    source: InputId
    offset: int
    place: int
    """Place among the items of one record."""
    item: T


class MergeState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot of a merge without its items, which the caller encodes beside it."""

    watermarks: list[PartitionWatermark]
    places: list[tuple[int, int, int, int]]
    """Event time, number of the input, offset and index of each waiting item, in release order."""


class OrderedMerge(Generic[T]):
    """Several partitions in one order by event time.

    Late items go to a side output, `take_late`, in the order of their arrival.
    """

    def __init__(self, inputs: Sequence[InputId], grace_ms: int) -> None:
        if not inputs or len(set(inputs)) != len(inputs):
            raise UsageError(f"a merge needs inputs that differ, not {list(inputs)}")
        if grace_ms < 0:
            raise UsageError(f"grace_ms {grace_ms} is negative")
        self.inputs = tuple(inputs)
        self._number_of = {name: number for number, name in enumerate(self.inputs)}
        self._watermarks = [PartitionWatermark(grace_ms) for _ in self.inputs]
        self._lowest_ms = NOT_STARTED
        self._waiting: list[tuple[int, int, int, int]] = []
        self._items: dict[tuple[int, int, int], T] = {}
        self._late: list[Released[T]] = []

    def push(self, source: InputId, at_ms: int, offset: int, items: Sequence[T]) -> Arrival:
        """Add the items of one record. Raises UsageError for a record that was added before."""
        number = self._number_of[source]
        mark = self._watermarks[number]
        newest_ms = mark.newest_ms
        is_late = not mark.observe(at_ms)
        if mark.newest_ms != newest_ms:
            self._note_raised(newest_ms - mark.grace_ms)
        if is_late:
            self._late += [
                Released(at_ms, source, offset, index, item) for index, item in enumerate(items)
            ]
            return Arrival.LATE
        if not items:
            return Arrival.COUNTED
        for index, item in enumerate(items):
            place = (number, offset, index)
            if place in self._items:
                raise UsageError(f"{source[0]}-{source[1]}@{offset} is in the merge already")
            self._items[place] = item
            heappush(self._waiting, (at_ms, *place))
        return Arrival.COUNTED

    def beat(self, source: InputId, at_ms: int) -> None:
        """Raise the watermark of an input without a record, for a heartbeat of its log."""
        mark = self._watermarks[self._number_of[source]]
        before_ms = mark.watermark_ms
        mark.beat(at_ms)
        self._note_raised(before_ms)

    def _note_raised(self, before_ms: int) -> None:
        # Only the input that was the slowest can let the others go on.
        if before_ms <= self._lowest_ms:
            self._lowest_ms = min(mark.watermark_ms for mark in self._watermarks)

    @property
    def watermark_ms(self) -> int:
        """The lowest watermark of the inputs."""
        return self._lowest_ms

    @property
    def newest_ms(self) -> int:
        """The newest event time of any input; `NOT_STARTED` before the first."""
        return max(mark.newest_ms for mark in self._watermarks)

    @property
    def first_waiting_ms(self) -> int | None:
        """Event time of the next item that is to be released; None where none waits."""
        return self._waiting[0][0] if self._waiting else None

    def last_waiting_ms(self, before_ms: int) -> int | None:
        """Return the event time of the last item that waits and is before a time; None without."""
        return max((place[0] for place in self._waiting if place[0] < before_ms), default=None)

    @property
    def late_counts(self) -> dict[InputId, int]:
        """Late records of each input so far."""
        return {name: mark.late for name, mark in zip(self.inputs, self._watermarks, strict=True)}

    def drain(self) -> list[Released[T]]:
        """Return the items before the watermark, in order, each once.

        An item exactly at the watermark waits: another of the same time may still come, from an
        input that stands before its own in the order.
        """
        watermark, waiting = self._lowest_ms, self._waiting
        out: list[Released[T]] = []
        while waiting and waiting[0][0] < watermark:
            at_ms, number, offset, index = heappop(waiting)
            item = self._items.pop((number, offset, index))
            out.append(Released(at_ms, self.inputs[number], offset, index, item))
        return out

    def take_late(self) -> list[Released[T]]:
        """Return the late items since the last call."""
        late, self._late = self._late, []
        return late

    def dump(self) -> tuple[MergeState, list[T]]:
        """Return the state and the waiting items in release order; take the late ones first."""
        places = sorted(self._waiting)
        items = [self._items[number, offset, index] for _, number, offset, index in places]
        return MergeState([msgspec.structs.replace(m) for m in self._watermarks], places), items

    def restore(self, state: MergeState, items: Sequence[T]) -> None:
        """Take over a dump of a merge with the same inputs. Raises ValueError for another one."""
        if len(state.watermarks) != len(self.inputs) or len(items) != len(state.places):
            raise ValueError(f"a merge of {len(state.watermarks)} inputs; here {len(self.inputs)}")
        self._watermarks = list(state.watermarks)
        self._lowest_ms = min(mark.watermark_ms for mark in self._watermarks)
        self._waiting = list(state.places)  # sorted, hence a heap
        self._items = {
            (place[1], place[2], place[3]): item
            for place, item in zip(state.places, items, strict=True)
        }
