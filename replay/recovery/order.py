"""The log's records over all partitions, in the order of their times.

A ledger books within milliseconds of the append, so this is the order in which it was booked, as
far as anything still says so: the rows that recorded the order of commits are what was lost. Only
what crosses partitions depends on it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from ledger_sink.store.log_check import checksum
from replay.log.blocks import LogSource
from schemas import codec
from schemas.errors import Rejected
from schemas.events import Position, WalletTransaction
from schemas.registry import UnknownSchema, our_schema_ids

_WINDOW_OFFSETS: Final = 8_192


class OrderedRecord(NamedTuple):
    """A record of the log. `event` is None for what is not an event, or is a newer release's."""

    source: Position
    timestamp_ms: int
    checksum: int
    event: WalletTransaction | None
    newer: str | None = None
    """Why only a newer release can read it."""


class OrderedLog:
    """Records of `[starts, ends)` of each partition, merged by time; within one in its order."""

    def __init__(
        self, source: LogSource, topic: str, starts: Mapping[int, int], ends: Mapping[int, int]
    ) -> None:
        self._source = source
        self._topic = topic
        self._reached = dict(starts)
        self._ends = ends
        self._waiting: dict[int, deque[OrderedRecord]] = {number: deque() for number in starts}
        self._decode = codec.decoder(WalletTransaction)

    def __iter__(self) -> Iterator[OrderedRecord]:
        """Yield the records. Raises LogGap, Unavailable."""
        heads: list[tuple[int, int]] = []
        for partition in self._waiting:
            self._push_head(heads, partition)
        while heads:
            _, partition = heapq.heappop(heads)
            yield self._waiting[partition].popleft()
            self._push_head(heads, partition)

    def _push_head(self, heads: list[tuple[int, int]], partition: int) -> None:
        waiting = self._waiting[partition]
        while not waiting and self._reached[partition] < self._ends[partition]:
            begin = self._reached[partition]
            end = min(self._ends[partition], begin + _WINDOW_OFFSETS)
            waiting.extend(self._read(partition, begin, end))
            self._reached[partition] = end
        if waiting:
            heapq.heappush(heads, (waiting[0].timestamp_ms, partition))

    def _read(self, partition: int, begin: int, end: int) -> Iterator[OrderedRecord]:
        for block in self._source.read(self._topic, partition, begin, end):
            for index, offset in enumerate(block.offsets):
                place = Position(self._topic, partition, offset)
                value = block.values[index]
                event, newer = self._event(value)
                crc = checksum(block.keys[index], value)
                yield OrderedRecord(place, block.timestamps_ms[index], crc, event, newer)

    def _event(self, value: Any) -> tuple[WalletTransaction | None, str | None]:
        try:
            return self._decode(value or b""), None
        except UnknownSchema as error:
            return None, str(error) if error.schema_id in our_schema_ids() else None
        except Rejected:
            return None, None


def first_time_ms(
    source: LogSource, topic: str, starts: Mapping[int, int], ends: Mapping[int, int]
) -> int | None:
    """Return the time of the earliest first record of the partitions; None without a record."""
    firsts = []
    for partition, start in starts.items():
        for block in source.read(topic, partition, start, ends[partition]):
            if block.timestamps_ms:
                firsts.append(block.timestamps_ms[0])
                break
    return min(firsts, default=None)
