"""Workers that stand still, wait or are not let in, on the real broker: which of them end, and with what reason."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from confluent_kafka import KafkaError, KafkaException

from runtime.kafka.batches import RecordBatch
from runtime.kafka.broker_queries import fetch_group_commits
from schemas.errors import Stalled, Unavailable
from tests.support.intake_cluster import (
    Worker,
    cluster,
    looks,
    running,
    until,
)

__all__ = ["cluster", "looks"]

pytestmark = pytest.mark.integration


async def test_a_worker_that_stands_still_ends_with_its_reason(cluster):
    await cluster.create("in", partitions=1)
    topic = cluster.runtime.topic("in")
    await cluster.fill("in", 100)
    worker = Worker(
        cluster,
        topics=[topic],
        watchdog={"stall_ms": 1_000, "interval_ms": 200},
        settings={"drain_timeout_ms": 100},
    )

    async def stuck(batch: RecordBatch) -> None:
        await asyncio.Event().wait()

    worker.on_batch = stuck
    async with running(worker):
        await until(lambda: worker.app.crashed)
    assert isinstance(worker.app.crash_reason, Stalled)
    assert f"{topic}-0 (held by this worker) is at 0, the log's end is 100" in str(
        worker.app.crash_reason
    )


async def test_waiting_for_a_database_is_reported_and_not_killed(cluster, looks):
    await cluster.create("in", partitions=1)
    topic = cluster.runtime.topic("in")
    await cluster.fill("in", 100)
    worker = Worker(cluster, topics=[topic], watchdog={"stall_ms": 500, "interval_ms": 100})
    is_down = True

    async def needs_database(batch: RecordBatch) -> None:
        if is_down:
            raise Unavailable("the database is down")

    worker.on_batch = needs_database
    async with running(worker):
        tp = TopicPartition(topic, 0)
        await until(lambda: tp in worker.intake.status() and worker.intake.status()[tp].waiting)
        await looks.go_on_for(500, worker)
        assert not worker.app.crashed
        await until(
            lambda: worker.intake.status()[tp].waiting == "UNAVAILABLE: the database is down"
        )
        is_down = False
        await until(lambda: len(worker.records) == 100)
        assert worker.intake.status()[tp].waiting is None


async def test_lag_on_a_partition_that_no_worker_reads_ends_a_worker(cluster):
    # The worker is in the group and has nothing: its twin holds the only partition and does not move.
    await cluster.create("in", partitions=1)
    topic = cluster.runtime.topic("in")
    await cluster.fill("in", 100)
    # Whichever of the two has nothing after the rebalance: member ids, which decide, are random.
    limits = {"unheld_stall_ms": 1_000, "interval_ms": 200}
    holder = Worker(cluster, topics=[topic], settings={"drain_timeout_ms": 100}, watchdog=limits)

    async def stuck(batch: RecordBatch) -> None:
        await asyncio.Event().wait()

    holder.on_batch = stuck
    async with running(holder):
        await until(holder.intake.status)
        other = Worker(cluster, topics=[topic], watchdog=limits)
        other.on_batch = stuck
        async with running(other):
            await until(lambda: holder.app.crashed or other.app.crashed)
            idle = other if other.app.crashed else holder
            assert isinstance(idle.app.crash_reason, Stalled)
            assert "not held by this worker" in str(idle.app.crash_reason)


async def test_lag_of_a_partition_that_waits_at_its_holder_ends_no_other_worker(cluster, looks):
    await cluster.create("in", partitions=2)
    topic = cluster.runtime.topic("in")
    limits = {"stall_ms": 2_000, "unheld_stall_ms": 2_000, "interval_ms": 200}
    workers = [Worker(cluster, topics=[topic], watchdog=limits) for _ in range(2)]
    waits_for: str | None = "its dead letters have no place to go"

    async def waits_for_something(batch: RecordBatch) -> None:
        if batch.partition == 0 and waits_for:
            raise Unavailable(waits_for)

    for worker in workers:
        worker.on_batch = waits_for_something
    async with running(*workers):
        await until(lambda: all(len(worker.intake.status()) == 1 for worker in workers))
        await cluster.fill("in", 100)
        [holder, other] = sorted(
            workers, key=lambda worker: TopicPartition(topic, 0) not in worker.intake.status()
        )
        await until(
            lambda: other.records and holder.intake.status()[TopicPartition(topic, 0)].waiting
        )
        await looks.go_on_for(2_000, *workers)
        assert not any(worker.app.crashed for worker in workers)
        tp = TopicPartition(topic, 0)
        commits = await fetch_group_commits(cluster.admin, cluster.group, [tp])
        assert (commit := commits[tp]) is not None
        assert commit.metadata.endswith(waits_for), "others are not committed what it waits for"
        waits_for = None
        await until(lambda: len(holder.records) + len(other.records) == 100)


async def test_a_worker_that_the_group_does_not_let_in_ends_with_the_reason(cluster):
    # It never has a partition to fetch from, and only who fetches is committed.
    await cluster.create("in", partitions=1)
    topic = cluster.runtime.topic("in")
    async with running(member := Worker(cluster, topics=[topic])):
        await until(member.intake.status)
        stranger = Worker(cluster, topics=[topic], settings={"is_co_partitioned": True})
        async with running(stranger):
            await until(lambda: stranger.app.crashed)
            assert isinstance(stranger.app.crash_reason, KafkaException)
            code = stranger.app.crash_reason.args[0].code()
            assert code == KafkaError.INCONSISTENT_GROUP_PROTOCOL
        assert not member.app.crashed


async def test_workers_that_all_wait_for_their_start_positions_end_none_of_them(cluster, looks):
    """They have nothing to commit yet, so they can tell each other nothing."""
    await cluster.create("in", partitions=2)
    topic = cluster.runtime.topic("in")

    class Away:
        async def claim(self, _: Any) -> dict[TopicPartition, int]:
            raise Unavailable("the database is down")

        async def release(self, _: Any) -> None: ...

    limits = {"stall_ms": 1_000, "unheld_stall_ms": 1_000, "interval_ms": 100}
    workers = [Worker(cluster, topics=[topic], watchdog=limits, positions=Away()) for _ in range(2)]
    async with running(*workers):
        await until(lambda: all(len(worker.intake.status()) == 1 for worker in workers))
        await cluster.fill("in", 100)
        await looks.go_on_for(1_000, *workers)
        assert not any(worker.app.crashed for worker in workers)
