"""Lag in records and in seconds, from what the intake knows."""

from __future__ import annotations

from types import SimpleNamespace

from aiokafka.structs import TopicPartition

from runtime.kafka.intake.assignment import Assignment, PartitionStatus
from runtime.telemetry.lag import LagMeter, PartitionLagNow
from tests.support.intake_harness import A, B, harness, record

__all__ = ["harness"]

T0 = TopicPartition("t", 0)


class Watch:
    def __init__(self) -> None:
        self.ends: dict[TopicPartition, int] = {}
        self.statuses: dict[TopicPartition, PartitionStatus] = {}
        self.intake = SimpleNamespace(
            settings=SimpleNamespace(group="g"), status=lambda: self.statuses
        )

    async def fetch_ends(self) -> dict[TopicPartition, int]:
        return self.ends


async def test_lag_is_from_what_is_durable_to_the_end_and_its_age_is_that_of_the_oldest_record():
    watch = Watch()
    meter = LagMeter([watch])
    watch.statuses[T0] = PartitionStatus(10, 10, 2, None, oldest_ms=4_000)
    watch.ends[T0] = 25
    assert await meter.measure(5_500) == [PartitionLagNow("g", "t", 0, 15, 1.5, None)]
    samples = {sample.name: sample.value for sample in meter.samples()}
    assert samples == {
        "pitboss.lag.records": 15,
        "pitboss.lag": 1.5,
        "pitboss.partition.waiting": 0,
    }


async def test_nothing_waits_at_the_end_of_the_log():
    watch = Watch()
    watch.statuses[T0] = PartitionStatus(25, 25, 0, "paused")
    watch.ends[T0] = 25
    [lag] = await LagMeter([watch]).measure(5_500)
    assert (lag.records, lag.seconds, lag.waiting) == (0, 0.0, None)


async def test_the_age_of_what_was_not_fetched_counts_from_when_it_was_seen():
    watch = Watch()
    meter = LagMeter([watch])
    watch.statuses[T0] = PartitionStatus(10, 10, 0, "UNAVAILABLE: no broker")
    watch.ends[T0] = 11
    ages = [(await meter.measure(now_ms))[0].seconds for now_ms in (1_000, 3_000)]
    assert ages == [0.0, 2.0]
    assert {s.value for s in meter.samples() if s.name == "pitboss.partition.waiting"} == {1}
    watch.statuses[T0] = PartitionStatus(11, 11, 0, None)
    assert (await meter.measure(4_000))[0].seconds == 0.0
    watch.statuses[T0], watch.ends[T0] = PartitionStatus(11, 11, 0, None), 12
    assert (await meter.measure(5_000))[0].seconds == 0.0


async def test_what_is_not_known_is_not_shown():
    watch = Watch()
    meter = LagMeter([watch])
    watch.statuses[T0] = PartitionStatus(None, None, 0, None)
    [lag] = await meter.measure(1)
    assert (lag.records, lag.seconds) == (None, None)
    assert {sample.name for sample in meter.samples()} == {"pitboss.partition.waiting"}


def test_an_assignment_knows_the_time_of_its_oldest_unfinished_record():
    assignment = Assignment(1, frozenset({A, B}))
    assignment.open({A: 0, B: 0})
    first, second = record(A, 0), record(A, 1)
    batches = [
        assignment.issue_batch(A, [one], one.offset + 1, assignment.finish)
        for one in (first, second)
    ]
    handed_over = {A: 7_000, B: 8_000}.get

    def oldest() -> int | None:
        return assignment.status(None, handed_over)[A].oldest_ms

    assert oldest() == first.timestamp
    assert assignment.status(None, handed_over)[B].oldest_ms == 8_000
    assignment.finish(batches[1])
    assert oldest() == first.timestamp
    assignment.finish(batches[0])
    assert oldest() == 7_000
    assert assignment.status(None)[A].oldest_ms is None


async def test_an_intake_shows_the_time_of_a_record_until_it_is_done(harness):
    async with harness({A: [0, 1]}) as h:
        h.consumer.give(A)
        batch = await h.take()
        assert h.intake.status()[A].oldest_ms == batch.records[0].timestamp
        batch.mark_done()
        await h.until(lambda: h.intake.status()[A].oldest_ms is None)
