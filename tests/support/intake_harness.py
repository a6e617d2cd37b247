"""An intake over a consumer whose faults a test can choose."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Sequence

import pytest
from aiokafka.structs import TopicPartition

from runtime.kafka.app import AppSettings, create_app
from runtime.kafka.batches import BatchChannel, RecordBatch
from runtime.kafka.intake import client as client_module
from runtime.kafka.intake import intake as intake_module
from runtime.kafka.intake.intake import Intake, IntakeSettings
from runtime.kafka.records import FetchedRecord
from runtime.security import BrokerAddress
from schemas.errors import Unavailable
from tests.support.simulated_consumer import SimulatedConsumer, message

A, B = TopicPartition("t", 0), TopicPartition("t", 1)
PATIENCE_S = 180
"""Nothing waits for it but a test that fails: a busy machine may take seconds for what is done in a millisecond."""


def record(tp: TopicPartition, offset: int) -> FetchedRecord:
    return FetchedRecord(tp.topic, tp.partition, offset, message(tp, offset))


class Positions:
    def __init__(self, offsets: dict[TopicPartition, int], failures: int = 0) -> None:
        self.offsets = offsets
        self.failures = failures
        self.claims: list[set[TopicPartition]] = []
        self.released: list[set[TopicPartition]] = []

    async def claim(self, partitions):
        self.claims.append(set(partitions))
        if self.failures:
            self.failures -= 1
            raise Unavailable("the database is down")
        return {tp: offset for tp, offset in self.offsets.items() if tp in partitions}

    async def release(self, partitions) -> None:
        self.released.append(set(partitions))


class Harness:
    def __init__(self, intake: Intake, consumer: SimulatedConsumer, channel: BatchChannel) -> None:
        self.intake, self.consumer, self.channel = intake, consumer, channel
        self._taken: deque[RecordBatch] = deque()

    async def take(self) -> RecordBatch:
        if not self._taken:
            self._taken += await self.take_read()
        return self._taken.popleft()

    async def take_read(self) -> Sequence[RecordBatch]:
        """Batches that were read together."""
        return await asyncio.wait_for(self.channel.queue.get(), PATIENCE_S)

    async def nothing_comes(self) -> bool:
        for _ in range(30):
            await asyncio.sleep(0.002)
        return not self._taken and self.channel.queue.empty()

    async def until(self, condition) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110  # a condition has no event to wait for
                await asyncio.sleep(0.002)


@pytest.fixture
def harness(monkeypatch):
    @contextlib.asynccontextmanager
    async def make(
        logs, *, committed=None, positions=None, consumer=None, reader=None, **settings
    ) -> AsyncIterator[Harness]:
        consumer = consumer or SimulatedConsumer(logs, committed)
        consumer.install(monkeypatch)
        monkeypatch.setattr(client_module, "POLL_S", consumer.tick_s)
        app = create_app(AppSettings("test", BrokerAddress("127.0.0.1:1")))
        channel = BatchChannel(app)
        defaults = {
            "commit_interval_ms": 10,
            "drain_timeout_ms": 100,
            "batch_records_max": 10,
            "records_ahead_max": 20,
        }
        intake = Intake(
            IntakeSettings(BrokerAddress("127.0.0.1:1"), "g", **{**defaults, **settings}),
            channel,
            topics=["t"],
            positions=positions,
            reader=reader,
        )
        await intake.start()
        try:
            yield Harness(intake, consumer, channel)
        finally:
            await intake.stop()

    return make


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Used by each test of a module that imports it."""
    monkeypatch.setattr(intake_module, "RETRY_S", 0.01)
    monkeypatch.setattr(intake_module, "PAUSE_AFTER_S", 0.01)
