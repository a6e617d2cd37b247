"""Kafka in memory: partitioned topics, offsets with gaps, and committed offsets."""

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
"""The share of offsets without a record, as where Kafka keeps markers of transactions."""


class SimulatedRecord(NamedTuple):
    """Record as a consumer gets it."""

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
        """Return at most `count` records from offset `first` on, and the next offset to read."""
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
    """All topics. Timestamps are the broker's clock, which a fault may set back."""

    def __init__(self, partitions: int, rng: Random) -> None:
        self.partitions = partitions
        self.topics: defaultdict[str, list[PartitionLog]] = defaultdict(
            lambda: [PartitionLog() for _ in range(self.partitions)]
        )
        self.committed: dict[tuple[str, str, int], int] = {}
        self._rng = rng

    def append(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        headers: Sequence[tuple[str, bytes]],
        now_ms: int,
    ) -> SimulatedRecord:
        """Add a record to the partition of its key."""
        partition = partition_for(key, self.partitions)
        log = self.topics[topic][partition]
        if self._rng.random() < OFFSET_GAP_SHARE:
            log.end += 1
        record = SimulatedRecord(topic, partition, log.end, now_ms, key, value, headers)
        log.records.append(record)
        log.end += 1
        log.has_grown.set()
        return record

    async def send(
        self, process: Process, topic: str, records: Iterable[tuple[bytes, bytes]], now_ms: int
    ) -> None:
        """Append records one by one, as a producer does.

        A process that dies in the middle leaves the records that it has already sent.
        """
        await process.reach(f"send {topic}")
        for key, value in records:
            if process.is_dead:
                break
            self.append(topic, key, value, (), now_ms)
            await process.reach(f"sending {topic}")
        await process.reach(f"sent {topic}")

    def ends(self, topics: Iterable[str]) -> dict[str, int]:
        """Return the end offsets of the topics' partitions, by `topic-partition`."""
        return {
            f"{topic}-{partition}": log.end
            for topic in topics
            for partition, log in enumerate(self.topics[topic])
        }

    def verify(self, group: str, topic: str, stored: Mapping[int, StoredPosition]) -> None:
        """Compare stored positions with the log, as a worker does. Raises LogMismatch."""
        for partition, position in stored.items():
            log = self.topics[topic][partition]
            found, _ = log.between(position.next_offset - 1, 1)
            last = found[0] if found and position.next_offset else None
            committed = self.committed.get((group, topic, partition), 0)
            mismatch = find_mismatch(
                f"{topic}-{partition}",
                position,
                (0, log.end),
                last,  # type: ignore[arg-type]  # has what is read of a record
                committed,
            )
            if mismatch is not None:
                raise LogMismatch(mismatch)
