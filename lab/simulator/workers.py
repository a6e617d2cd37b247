"""The workers: the real ledger, resolver and normaliser, wired to the broker and the database in
memory.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final, TypeAlias, cast

from aiokafka import TopicPartition

from lab.simulator.broker import Broker
from lab.simulator.process import Process
from lab.simulator.tables import Server
from runtime.kafka.batches import RecordBatch
from schemas.errors import Unavailable
from schemas.policies import LedgerPolicy
from streams.normalise.mapping.normaliser import Normaliser

NORMALISE, LEDGER, RESOLVE = "normalise", "ledger", "resolve"
FETCH_MAX: Final = 40
_CUT_ANEW: Final = 0.5
"""A batch that is fetched again need not be cut where it was: it overlaps with what is committed of
it.
"""
_RETRY_S: Final = 0.2
_GIVE_UP_S: Final = 15.0

Partition: TypeAlias = TopicPartition
Handle = Callable[[RecordBatch], Awaitable[None]]


@dataclass(frozen=True)
class SimulationEnvironment:
    """What all processes of a simulation share."""

    broker: Broker
    server: Server
    normaliser: Normaliser
    policies: Mapping[str, LedgerPolicy]
    raw_topics: tuple[str, ...]
    now_ms: Callable[[], int]
    rng: Random


class SimulatedWorker(ABC):
    """One process of a role and the partitions that it believes to have."""

    role: str

    def __init__(self, around: SimulationEnvironment, process: Process) -> None:
        self.environment = around
        self.process = process
        self.partition_tasks: dict[Partition, asyncio.Task[Any]] = {}
        self._busy: set[Partition] = set()
        self._stopping = False
        self._assigned: tuple[Partition, ...] = ()
        self._taking: asyncio.Task[Any] | None = None

    @abstractmethod
    async def start_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """Where to go on reading. Raises Unavailable."""

    @abstractmethod
    async def handle(self, batch: RecordBatch) -> None:
        """Make a batch's effects durable. Raises Unavailable."""

    @abstractmethod
    async def release(self, partitions: Collection[Partition]) -> None:
        """Forget partitions."""

    def assign(self, partitions: Collection[Partition]) -> None:
        """Begin with partitions; an error ends the process."""
        self._assigned = tuple(partitions)
        self._taking = self.process.start(self._take(self._assigned))

    async def _take(self, partitions: Collection[Partition]) -> None:
        while True:
            try:
                starts = await self.start_offsets(partitions)
                break
            except Unavailable:
                await asyncio.sleep(_RETRY_S)
        for partition, start in starts.items():
            self.partition_tasks[partition] = self.process.start(self._lane(partition, start))

    async def revoke(self) -> None:
        """Stop reading, give the batches in work some time, let go of everything."""
        self._stopping = True
        for partition, lane in self.partition_tasks.items():
            if partition not in self._busy:
                lane.cancel()
        working = [*self.partition_tasks.values(), *([self._taking] if self._taking else [])]
        if working:
            _, late = await asyncio.wait(working, timeout=_GIVE_UP_S)
            for task in late:
                task.cancel()
        let_go, self._assigned, self.partition_tasks, self._taking = self._assigned, (), {}, None
        self._stopping = False
        self._busy.clear()
        if let_go:
            await self.release(let_go)

    async def _lane(self, partition: Partition, start: int) -> None:
        """One partition, one batch at a time, in order."""
        topic, part = partition
        log = self.environment.broker.topics[topic][part]
        position = start
        while not self._stopping:
            records, after = log.between(position, self.environment.rng.randint(1, FETCH_MAX))
            if after <= position:
                log.has_grown.clear()
                await log.has_grown.wait()
                continue
            self._busy.add(partition)
            await self.process.reach("fetched")
            batch = RecordBatch(topic, part, position, after, cast("Any", records), 0)
            while True:
                try:
                    await self.handle(batch)
                    break
                except Unavailable:
                    await asyncio.sleep(_RETRY_S)
                if self.environment.rng.random() < _CUT_ANEW:
                    records, after = log.between(
                        position, self.environment.rng.randint(1, FETCH_MAX)
                    )
                    batch = RecordBatch(topic, part, position, after, cast("Any", records), 0)
            position = after
            await self.process.reach("commit offsets")
            self.environment.broker.committed[self.role, topic, part] = position
            self._busy.discard(partition)
