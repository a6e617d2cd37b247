"""Intakes on the real broker: workers that note down what they handle, and what a test does to the broker beside them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import OffsetAndMetadata

from pitboss.settings import Runtime
from runtime.kafka.app import AppSettings, PitbossApp, add_agent, create_app
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.intake import Intake, IntakeSettings
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.stalls import LagSample, Stall, StallDetector
from runtime.kafka.watchdog import WatchdogSettings

PARTITIONS = 4


class Cluster:
    """What a test does to the broker beside the code under test."""

    def __init__(
        self, runtime: Runtime, admin: AIOKafkaAdminClient, producer: BatchProducer
    ) -> None:
        self.runtime, self.admin, self.producer = runtime, admin, producer
        self.group = runtime.group("work")

    async def create(self, *names: str, partitions: int = PARTITIONS) -> None:
        await self.admin.create_topics(
            [NewTopic(self.runtime.topic(name), partitions, 1) for name in names]
        )

    async def fill(self, name: str, count: int, first: int = 0) -> None:
        records = [(b"k%d" % (i % 50), b"%d" % i, (), None) for i in range(first, first + count)]
        await self.producer.send_keyed(self.runtime.topic(name), records)

    async def committed_offsets(self) -> dict[TopicPartition, int]:
        offsets: dict[
            TopicPartition, OffsetAndMetadata
        ] = await self.admin.list_consumer_group_offsets(self.group)
        return {tp: offset.offset for tp, offset in offsets.items()}


@pytest.fixture
async def cluster(runtime: Runtime) -> AsyncIterator[Cluster]:
    admin = AIOKafkaAdminClient(**runtime.broker.aiokafka_options())
    producer = BatchProducer(ProducerSettings(runtime.broker, "fill"))
    await admin.start()
    await producer.start()
    yield Cluster(runtime, admin, producer)
    await producer.stop()
    await admin.close()


class Worker:
    """An app with one agent that notes down what it handles."""

    def __init__(self, cluster: Cluster, **options: Any) -> None:
        runtime = cluster.runtime
        settings = {
            "commit_interval_ms": 50,
            "drain_timeout_ms": 5_000,
            **options.pop("settings", {}),
        }
        self.records: list[Any] = []
        self.batches: list[RecordBatch] = []
        self.on_batch: Callable[[RecordBatch], Any] | None = None
        self.app: PitbossApp = create_app(AppSettings("work", runtime.broker))
        self.producer = self.app.supervise(BatchProducer(ProducerSettings(runtime.broker, "work")))
        watchdog = WatchdogSettings(runtime.broker, **options.pop("watchdog", {}))
        self.intake: Intake = add_agent(
            self.app,
            IntakeSettings(runtime.broker, cluster.group, **settings),
            self.handle,
            name="work",
            watchdog=watchdog,
            **options,
        )

    async def handle(self, batch: RecordBatch) -> None:
        if self.on_batch is not None:
            await self.on_batch(batch)
        self.batches.append(batch)
        self.records += batch.records

    @property
    def values(self) -> list[bytes]:
        return [record.value for record in self.records]


@contextlib.asynccontextmanager
async def running(*workers: Worker) -> AsyncIterator[None]:
    for worker in workers:
        await worker.app.start()
    try:
        yield
    finally:
        for worker in workers:
            await worker.app.stop()


async def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            met = condition()
            if await met if asyncio.iscoroutine(met) else met:
                return
            await asyncio.sleep(0.02)


class Looks:
    """When each watchdog looked, by its own clock: only after a while does it show that it ends no worker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._at_ms: defaultdict[StallDetector, list[int]] = defaultdict(list)
        observe = StallDetector.observe

        def record(
            detector: StallDetector, now_ms: int, samples: Mapping[TopicPartition, LagSample]
        ) -> list[Stall]:
            stalls = observe(detector, now_ms, samples)
            self._at_ms[detector].append(now_ms)
            return stalls

        monkeypatch.setattr(StallDetector, "observe", record)

    async def go_on_for(self, passed_ms: int, *workers: Worker) -> None:
        """Until each worker's watchdog has seen twice so long a time pass, from now on, or one was ended by it."""
        before = {detector: len(looks) for detector, looks in self._at_ms.items()}

        def have_looked() -> bool:
            since = [looks[before.get(detector, 0) :] for detector, looks in self._at_ms.items()]
            spans = [looks[-1] - looks[0] for looks in since if looks]
            has_ended = any(worker.app.crashed for worker in workers)
            return has_ended or (len(spans) == len(workers) and min(spans) >= 2 * passed_ms)

        await until(have_looked)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


def numbers(count: int) -> set[bytes]:
    return {b"%d" % i for i in range(count)}


def assert_joined(batches: Sequence[RecordBatch]) -> None:
    ends: dict[TopicPartition, int] = defaultdict(int)
    for batch in batches:
        assert batch.from_offset == ends[batch.tp], (
            "each batch begins where the one before it ended"
        )
        assert all(
            batch.from_offset <= record.offset < batch.next_offset for record in batch.records
        )
        ends[batch.tp] = batch.next_offset
