"""Kafka's part, in memory: partitioned topics, offsets with holes in them, what groups have
committed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from lab.simulator.process import Process
from ledger_sink.store.log_check import StoredPosition, find_mismatch
from runtime.kafka.partitioner import partition_for
from schemas.errors import LogMismatch

OFFSET_GAP_SHARE = 0.01
"""So many offsets in a hundred are no records: the markers of somebody's transactions."""


class SimulatedRecord(NamedTuple):
    """A record as a consumer gets it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


class PartitionLog:
    """Records of one partition; `end` is the next offset."""

    def __init__(self) -> None:
        self.records: list[SimulatedRecord] = []
        self.end = 0
        self.has_grown = asyncio.Event()

    def between(self, first: int, count: int) -> tuple[list[SimulatedRecord], int]:
        """At most `count` records from an offset on, and the offset to go on from."""
        low, high = 0, len(self.records)
        while low < high:
            middle = (low + high) // 2
            if self.records[middle].offset < first:
                low = middle + 1
            else:
                high = middle
        found = self.records[low : low + count]
        is_all = low + count >= len(self.records)
        return found, self.end if is_all else found[-1].offset + 1


class Broker:
    """All topics. Timestamps are the broker's clock, which chance may set back."""

    def __init__(self, partitions: int, chance: Random) -> None:
        self.partitions = partitions
        self.topics: defaultdict[str, list[PartitionLog]] = defaultdict(
            lambda: [PartitionLog() for _ in range(self.partitions)]
        )
        self.committed: dict[tuple[str, str, int], int] = {}
        self._chance = chance

    def append(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        headers: Sequence[tuple[str, bytes]],
        now_ms: int,
    ) -> SimulatedRecord:
        """Add a record to its key's partition."""
        part = partition_for(key, self.partitions)
        partition = self.topics[topic][part]
        if self._chance.random() < OFFSET_GAP_SHARE:
            partition.end += 1
        record = SimulatedRecord(topic, part, partition.end, now_ms, key, value, headers)
        partition.records.append(record)
        partition.end += 1
        partition.has_grown.set()
        return record

    async def send(
        self, process: Process, topic: str, records: Iterable[tuple[bytes, bytes]], now_ms: int
    ) -> None:
        """Append as a producer does, record by record; whoever dies in the middle leaves a part of
        them.
        """
        await process.reach(f"send {topic}")
        for key, value in records:
            if process.is_dead:
                break
            self.append(topic, key, value, (), now_ms)
            await process.reach(f"sending {topic}")
        await process.reach(f"sent {topic}")

    def ends(self, topics: Iterable[str]) -> dict[str, int]:
        """Where the partitions of topics end, by "topic-partition"."""
        return {
            f"{topic}-{part}": partition.end
            for topic in topics
            for part, partition in enumerate(self.topics[topic])
        }

    def verify(self, group: str, topic: str, stored: Mapping[int, StoredPosition]) -> None:
        """What a worker proves of its log before it goes on. Raises LogMismatch."""
        for part, position in stored.items():
            partition = self.topics[topic][part]
            found, _ = partition.between(position.next_offset - 1, 1)
            last = found[0] if found and position.next_offset else None
            committed = self.committed.get((group, topic, part), 0)
            why = find_mismatch(f"{topic}-{part}", position, (0, partition.end), last, committed)  # type: ignore[arg-type]
            if why is not None:
                raise LogMismatch(why)
