"""The consumer loop that the simulated workers of all roles share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeAlias, cast

from aiokafka import TopicPartition

from lab.simulator.broker import Broker
from lab.simulator.process import Process
from lab.simulator.tables import Server
from runtime.kafka.batches import RecordBatch
from schemas.errors import PartitionStuck, Unavailable
from schemas.policies import LedgerPolicy
from streams.normalise.mapping.normaliser import Normaliser

NORMALISE, LEDGER, RESOLVE = "normalise", "ledger", "resolve"
FETCH_MAX: Final = 40
_FETCH_AGAIN_SHARE: Final = 0.5
"""How often a batch is fetched again before a retry. It may then end at another offset, and overlap
with what is already committed of it.
"""
_RETRY_S: Final = 0.2
_DRAIN_TIMEOUT_S: Final = 15.0

Partition: TypeAlias = TopicPartition


@dataclass(frozen=True)
class SimulationEnvironment:
    """Servers and settings that all processes of a simulation share."""

    broker: Broker
    server: Server
    normaliser: Normaliser
    policies: Mapping[str, LedgerPolicy]
    raw_topics: tuple[str, ...]
    now_ms: Callable[[], int]
    rng: Random


class SimulatedWorker(ABC):
    """Process of a role and the partitions that it believes to own."""

    role: str

    def __init__(self, environment: SimulationEnvironment, process: Process) -> None:
        self.environment = environment
        self.process = process
        self.partition_tasks: dict[Partition, asyncio.Task[Any]] = {}
        self._busy: set[Partition] = set()
        self._stopping = False
        self._assigned: tuple[Partition, ...] = ()
        self._starting: asyncio.Task[Any] | None = None

    @abstractmethod
    async def start_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """Return the offset from which to read each partition. Raises Unavailable."""

    @abstractmethod
    async def handle(self, batch: RecordBatch) -> None:
        """Make the effects of a batch durable. Raises Unavailable, PartitionStuck."""

    @abstractmethod
    async def release(self, partitions: Collection[Partition]) -> None:
        """Release partitions that were revoked."""

    def assign(self, partitions: Collection[Partition]) -> None:
        """Start reading partitions; an error ends the process."""
        self._assigned = tuple(partitions)
        self._starting = self.process.start(self._start(self._assigned))

    async def _start(self, partitions: Collection[Partition]) -> None:
        while True:
            try:
                starts = await self.start_offsets(partitions)
                break
            except Unavailable:
                await asyncio.sleep(_RETRY_S)
        for partition, start in starts.items():
            self.partition_tasks[partition] = self.process.start(self._consume(partition, start))

    async def revoke(self) -> None:
        """Stop reading, give batches in progress some time, release all partitions."""
        self._stopping = True
        for partition, task in self.partition_tasks.items():
            if partition not in self._busy:
                task.cancel()
        tasks = [*self.partition_tasks.values(), *([self._starting] if self._starting else [])]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_DRAIN_TIMEOUT_S)
            for task in late:
                task.cancel()
        released, self._assigned, self.partition_tasks, self._starting = (
            self._assigned,
            (),
            {},
            None,
        )
        self._stopping = False
        self._busy.clear()
        if released:
            await self.release(released)

    async def _consume(self, topic_partition: Partition, start: int) -> None:
        """Handle the batches of one partition, one at a time and in order."""
        topic, partition = topic_partition
        log = self.environment.broker.topics[topic][partition]
        position = start
        while not self._stopping:
            records, after = log.between(position, self.environment.rng.randint(1, FETCH_MAX))
            if after <= position:
                log.has_grown.clear()
                await log.has_grown.wait()
                continue
            self._busy.add(topic_partition)
            await self.process.reach("fetched")
            batch = RecordBatch(topic, partition, position, after, cast("Any", records), 0)
            while True:
                try:
                    await self.handle(batch)
                    break
                except (Unavailable, PartitionStuck):
                    self._busy.discard(topic_partition)  # a revocation does not wait for it
                    await asyncio.sleep(_RETRY_S)
                    self._busy.add(topic_partition)
                if self.environment.rng.random() < _FETCH_AGAIN_SHARE:
                    records, after = log.between(
                        position, self.environment.rng.randint(1, FETCH_MAX)
                    )
                    batch = RecordBatch(topic, partition, position, after, cast("Any", records), 0)
            position = after
            await self.process.reach("commit offsets")
            self.environment.broker.committed[self.role, topic, partition] = position
            self._busy.discard(topic_partition)
