"""An intake over a consumer whose faults a test can choose."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from runtime.kafka.app import AppSettings, create_app
from runtime.kafka.batches import BatchChannel, RecordBatch
from runtime.kafka.intake import intake as intake_module
from runtime.kafka.intake import start_offsets as starts
from runtime.kafka.intake.intake import Intake, IntakeSettings
from schemas.errors import Unavailable

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


def record(tp: TopicPartition, offset: int) -> ConsumerRecord:
    return ConsumerRecord(tp.topic, tp.partition, offset, 0, 0, b"k", b"v", None, 1, 1, ())


class FakeConsumer:
    """Consumer with aiokafka's rules for positions: a fetch moves them, even if its records are lost."""

    def __init__(
        self,
        logs: dict[TopicPartition, list[int]],
        committed: dict[TopicPartition, int] | None = None,
    ) -> None:
        self.logs = logs
        self.group_offsets = dict(committed or {})
        self.commits: list[dict[TopicPartition, int]] = []
        self.liveness_notes: list[str] = []
        self.positions: dict[TopicPartition, int] = {}
        self.assigned: set[TopicPartition] = set()
        self.to_lose: dict[TopicPartition, int] = {}
        self.to_raise: list[Exception] = []
        self.commit_errors: list[Exception] = []
        self.log_starts: dict[TopicPartition, int] = {}
        self.markers: dict[TopicPartition, int] = {}
        self.tails: dict[TopicPartition, int] = {}
        """End offsets of logs whose last offsets hold no record."""
        self.listener: Intake
        self.stopped = False
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.stopped = True

    def subscribe(self, topics=(), pattern=None, listener=None) -> None:
        self.listener = listener

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def assign(self, *tps: TopicPartition) -> None:
        self.assigned = set(tps)
        self.positions = dict.fromkeys(tps, 0)
        self.listener.on_partitions_assigned(self.assigned)

    async def rebalance(self, *tps: TopicPartition) -> None:
        await self.listener.on_partitions_revoked(self.assigned)
        self.assign(*tps)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        assert tp in self.assigned
        self.positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        return self.positions[tp]

    async def committed(self, tp: TopicPartition) -> int | None:
        return self.group_offsets.get(tp)

    async def query_group(self, bootstrap_servers, group, tps) -> dict[TopicPartition, int | None]:
        return {tp: self.group_offsets.get(tp) for tp in tps}

    async def beginning_offsets(self, tps) -> dict[TopicPartition, int]:
        return {tp: self.log_starts.get(tp, 0) for tp in tps}

    async def end_offsets(self, tps) -> dict[TopicPartition, int]:
        return {tp: self.logs[tp][-1] + 1 if self.logs[tp] else 0 for tp in tps}

    async def commit(self, offsets) -> None:
        if self.commit_errors:
            raise self.commit_errors.pop()
        committed = {
            tp: offset if isinstance(offset, int) else offset[0] for tp, offset in offsets.items()
        }
        self.commits.append(committed)
        self.liveness_notes += [
            offset[1] for offset in offsets.values() if not isinstance(offset, int)
        ]
        self.group_offsets.update(committed)

    async def getmany(
        self, *tps, timeout_ms=0, max_records=None
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        await self.flowing.wait()
        found, left = {}, max_records
        for tp in tps:
            ready = [
                offset
                for offset in self.logs.get(tp, ())
                if offset >= self.positions.get(tp, 1 << 60)
            ][:left]
            if not ready:
                if tp in self.tails and self.positions.get(tp, 1 << 60) < self.tails[tp]:
                    self.positions[tp] = self.tails[tp]
                continue
            left -= len(ready)
            self.positions[tp] = ready[-1] + 1
            if ready[-1] == self.logs[tp][-1]:
                self.positions[tp] += self.markers.get(tp, 0)
            lost = self.to_lose.pop(tp, 0)
            if ready[lost:]:
                found[tp] = [record(tp, offset) for offset in ready[lost:]]
        if self.to_raise:
            raise self.to_raise.pop()
        if not found:
            await asyncio.sleep(min(timeout_ms, 2) / 1000)
        return found


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
    def __init__(self, intake: Intake, consumer: FakeConsumer, channel: BatchChannel) -> None:
        self.intake, self.consumer, self.channel = intake, consumer, channel

    async def take(self) -> RecordBatch:
        return await asyncio.wait_for(self.channel.queue.get(), 2)

    async def nothing_comes(self) -> bool:
        for _ in range(30):
            await asyncio.sleep(0.002)
        return self.channel.queue.empty()

    async def until(self, condition) -> None:
        async with asyncio.timeout(3):
            while not condition():  # noqa: ASYNC110  # a condition has no event to wait for
                await asyncio.sleep(0.002)


@pytest.fixture
def harness(monkeypatch):
    @contextlib.asynccontextmanager
    async def make(
        logs, *, committed=None, positions=None, consumer=None, reader=None, **settings
    ) -> AsyncIterator[Harness]:
        consumer = consumer or FakeConsumer(logs, committed)
        monkeypatch.setattr(intake_module, "new_consumer", lambda _: consumer)
        monkeypatch.setattr(starts, "query_group_offsets", consumer.query_group)
        app = create_app(AppSettings("test", "127.0.0.1:1"))
        channel = BatchChannel(app)
        defaults = {
            "commit_interval_ms": 10,
            "drain_timeout_ms": 100,
            "batch_records_max": 10,
            "records_ahead_max": 20,
        }
        intake = Intake(
            IntakeSettings("127.0.0.1:1", "g", **{**defaults, **settings}),
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
