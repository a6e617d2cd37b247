"""Intakes on the real broker: workers that note down what they handle, and what a test does to the broker beside them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
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
from tests.support.topics import make_topics

PARTITIONS = 4
PATIENCE_S = 120.0
"""Nothing waits for it but a test that fails: a group that is joined on a busy machine takes its time."""

LOOK_MS_MAX = 250
"""So much time passes at most between two looks of a watchdog whose clock `Looks` has."""


class Cluster:
    """What a test does to the broker beside the code under test."""

    def __init__(
        self, runtime: Runtime, admin: AIOKafkaAdminClient, producer: BatchProducer
    ) -> None:
        self.runtime, self.admin, self.producer = runtime, admin, producer
        self.group = runtime.group("work")

    async def create(self, *names: str, partitions: int = PARTITIONS) -> None:
        topics = [NewTopic(self.runtime.topic(name), partitions, 1) for name in names]
        await make_topics(self.runtime.broker, *topics)

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


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            met = condition()
            if await met if asyncio.iscoroutine(met) else met:
                return
            await asyncio.sleep(0.02)


class Looks:
    """The clock of all watchdogs: it stands still but for the times that a test lets pass.

    A watchdog ends a worker that does not move for so long. Limits of a second are short enough for a test to
    wait for, and no busy machine is to be taken for a stall: while a worker joins its group no time passes, and
    a look that comes late is counted as one.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._looked_at_ms: dict[StallDetector, int] = {}
        self._passed_ms: Counter[StallDetector] = Counter()
        self._is_running = False
        observe = StallDetector.observe

        def observe_by_this_clock(
            detector: StallDetector, now_ms: int, samples: Mapping[TopicPartition, LagSample]
        ) -> list[Stall]:
            if self._is_running:
                since_ms = now_ms - self._looked_at_ms.get(detector, now_ms)
                self._passed_ms[detector] += min(since_ms, LOOK_MS_MAX)
            self._looked_at_ms[detector] = now_ms
            return observe(detector, self._passed_ms[detector], samples)

        monkeypatch.setattr(StallDetector, "observe", observe_by_this_clock)

    async def go_on_for(self, passed_ms: int, *workers: Worker) -> None:
        """Let twice so long a time pass for each worker's watchdog, from now on, or until one has ended its worker."""
        before = self._passed_ms.copy()

        def has_passed() -> bool:
            spans = [passed - before[detector] for detector, passed in self._passed_ms.items()]
            has_ended = any(worker.app.crashed for worker in workers)
            return has_ended or (len(spans) == len(workers) and min(spans) >= 2 * passed_ms)

        self._is_running = True
        try:
            await until(has_passed)
        finally:
            self._is_running = False


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
