"""What the intake does where a fetch fails, and where records are lost, damaged or not what was asked for."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError, KafkaException

from runtime.kafka.intake import corrupt_records
from runtime.kafka.intake.corrupt_records import TRIES
from schemas.errors import OffsetHole
from tests.support.intake_harness import A, B, Positions, harness, short_waits
from tests.support.simulated_consumer import SimulatedConsumer, message

__all__ = ["harness", "short_waits"]


async def test_records_that_the_client_loses_are_fetched_again(harness):  # rule 7
    async with harness({A: [*range(10)]}) as h:
        h.consumer.to_lose[A] = 4
        h.consumer.give(A)
        batch = await h.take()
        assert [r.offset for r in batch.records] == [*range(10)]
        assert h.intake.gap_offsets == 0


async def test_a_gap_of_the_log_is_accepted_after_a_second_look_and_counted(harness):  # rule 7
    async with harness({A: [*range(12, 20)]}, committed={A: 5}) as h:
        h.consumer.give(A)
        batch = await h.take()
        assert (batch.from_offset, batch.next_offset) == (5, 20), "the gap is inside the batch"
        assert h.intake.gap_offsets == 7


async def test_records_deleted_before_they_were_read_end_the_process(harness):  # rule 7
    consumer = SimulatedConsumer({A: [*range(12, 20)]}, {A: 5})
    consumer.log_starts[A] = 12
    async with harness({}, consumer=consumer) as h:
        consumer.give(A)
        await h.until(lambda: h.intake.crashed)
        assert isinstance(h.intake.crash_reason, OffsetHole)
        assert "t-0@5" in str(h.intake.crash_reason)
        assert h.channel.queue.empty()


async def test_two_fetches_that_contradict_each_other_end_the_process(harness):  # rule 7
    consumer = SimulatedConsumer({A: [*range(12, 20)]}, {A: 5})
    async with harness({}, consumer=consumer) as h:
        consumer.to_lose[A] = 3
        consumer.give(A)
        await h.until(lambda: h.intake.crashed)
        assert isinstance(h.intake.crash_reason, OffsetHole)
        assert "began at 15, the next at 12" in str(h.intake.crash_reason)


@pytest.mark.parametrize("code", [KafkaError._BAD_MSG, KafkaError._TRANSPORT])
async def test_a_failed_fetch_loses_nothing(harness, code):
    # The client goes on behind what it could not read.
    consumer = SimulatedConsumer({A: [*range(5)], B: [*range(10)]})
    async with harness({}, consumer=consumer) as h:
        consumer.give(A, B)
        read = 0
        while read < 15:
            batch = await h.take()
            read += batch.count
            batch.mark_done()
        consumer.logs[A] += range(5, 20)
        consumer.fail_fetch(A, code, skipped=7)
        second = [await h.take(), await h.take()]
        assert [r.offset for batch in second for r in batch.records] == [*range(5, 20)]
        assert h.intake.gap_offsets == 0


class Damaged(SimulatedConsumer):
    """A log whose records in `damaged` cannot be read, as they lie in one damaged batch."""

    damaged = range(7, 10)
    failures = 0

    def on_prefetch(self) -> None:
        start = self.started.get(A)
        if start is not None and start in self.damaged and start < self.end(A):
            self.failures += 1
            self.fail_fetch(A, KafkaError._BAD_MSG, skipped=3)


async def read_offsets(h, tp, count: int) -> list[int]:
    """Offsets of that many records of a partition, read and done; those of others are done too."""
    offsets: list[int] = []
    while len(offsets) < count:
        batch = await h.take()
        batch.mark_done()
        offsets += [record.offset for record in batch.records if batch.tp == tp]
    return offsets


@pytest.fixture
def quick_retries(monkeypatch):
    monkeypatch.setattr(corrupt_records, "RETRY_S", 0.01)
    monkeypatch.setattr(corrupt_records, "STUCK_RETRY_S", 0.02)


async def test_records_that_stay_damaged_stop_their_partition_and_no_other(harness, quick_retries):
    consumer = Damaged({A: [*range(7)], B: [*range(5)]})
    async with harness({}, consumer=consumer) as h:
        consumer.give(A, B)
        assert await read_offsets(h, A, 7) == [*range(7)]
        consumer.logs[A] += range(7, 20)
        await h.until(lambda: h.intake.status()[A].waiting)
        assert h.intake.status()[A].waiting.startswith("PARTITION_STUCK: t-0@7 cannot be read")
        assert consumer.failures >= TRIES
        consumer.logs[B] += range(5, 40)
        assert await read_offsets(h, B, 35)
        assert h.intake.status()[A].done_offset == 7
        assert h.intake.status()[B].waiting is None
        assert not h.intake.crashed
        await h.until(lambda: any("PARTITION_STUCK: t-0@7" in n for n in consumer.liveness_notes))


async def test_a_log_that_is_repaired_is_read_on(harness, quick_retries):
    consumer = Damaged({A: [*range(20)]})
    async with harness({}, consumer=consumer) as h:
        consumer.logs[A] = [*range(7)]
        consumer.give(A)
        assert await read_offsets(h, A, 7) == [*range(7)]
        consumer.logs[A] += range(7, 20)
        await h.until(lambda: h.intake.status()[A].waiting)
        consumer.damaged = range(0)
        assert await read_offsets(h, A, 13) == [*range(7, 20)]
        assert h.intake.status()[A].waiting is None


async def test_an_operator_s_skip_leads_behind_what_cannot_be_read(harness, quick_retries):
    consumer = Damaged({A: [*range(7)]})
    async with harness({}, consumer=consumer) as h:
        consumer.give(A)
        assert await read_offsets(h, A, 7) == [*range(7)]
        consumer.logs[A] += range(7, 20)
        await h.until(lambda: h.intake.status()[A].waiting)
        h.intake.skip_unreadable(TopicPartition(A.topic, A.partition), 6, "by ann: another place")
        assert await h.nothing_comes()
        h.intake.skip_unreadable(TopicPartition(A.topic, A.partition), 7, "by ann: a broken disk")
        assert await read_offsets(h, A, 10) == [*range(10, 20)]
        await h.until(lambda: consumer.group_offsets.get(A) == 20)
        assert h.intake.status()[A].waiting is None


async def test_a_skip_of_a_record_that_can_be_read_changes_nothing(harness, quick_retries):
    consumer = SimulatedConsumer({A: [*range(20)]})
    async with harness({}, consumer=consumer) as h:
        h.intake.skip_unreadable(TopicPartition(A.topic, A.partition), 7, "by ann: a mistake")
        consumer.give(A)
        assert await read_offsets(h, A, 20) == [*range(20)]


async def test_where_a_position_is_claimed_a_skip_is_not_obeyed(harness, quick_retries):
    # The component that keeps the position would find a hole.
    consumer = Damaged({A: [*range(20)]})
    async with harness({}, consumer=consumer, positions=Positions({A: 7})) as h:
        h.intake.skip_unreadable(TopicPartition(A.topic, A.partition), 7, "by ann: a broken disk")
        consumer.give(A)
        await h.until(lambda: A in h.intake.status() and h.intake.status()[A].waiting)
        assert await h.nothing_comes()


async def test_a_fetch_that_may_not_be_made_ends_the_process(harness):  # rule 10
    async with harness({A: [*range(10)]}) as h:
        h.consumer.give(A)
        await h.take()
        h.consumer.fail_fetch(A, KafkaError.TOPIC_AUTHORIZATION_FAILED, skipped=0)
        await h.until(lambda: h.intake.crashed)
        assert isinstance(h.intake.crash_reason, KafkaException)


@pytest.mark.parametrize("committed", [30, 3])
async def test_a_position_outside_the_log_ends_the_process(harness, committed):
    consumer = SimulatedConsumer({A: [*range(5, 10)]}, {A: committed})
    consumer.log_starts[A] = 5
    async with harness({}, consumer=consumer) as h:
        h.consumer.give(A)
        await h.until(lambda: h.intake.crashed)
        assert isinstance(h.intake.crash_reason, OffsetHole)
        assert f"t-0@{committed}" in str(h.intake.crash_reason)


async def test_an_error_from_before_a_seek_counts_for_nothing(harness):
    # librdkafka gives an offset that is outside of the log no version, so that it outlives a seek.
    async with harness({A: [*range(10)]}) as h:
        h.consumer.give(A)
        (await h.take()).mark_done()
        h.consumer.errors.append(message(A, 99, KafkaError._AUTO_OFFSET_RESET))
        await h.until(lambda: not h.consumer.errors)
        h.consumer.logs[A] += range(10, 15)
        assert [r.offset for r in (await h.take()).records] == [*range(10, 15)]
        assert not h.intake.crashed


async def test_what_was_prefetched_before_a_seek_is_not_handed_out(harness):  # rule 7
    # Behind the lost records others are fetched, and handed over, before the partition is sought.
    async with harness({A: [*range(10)]}) as h:
        h.consumer.give(A)
        (await h.take()).mark_done()
        h.consumer.to_lose[A] = 3
        h.consumer.logs[A] += range(10, 15)
        await asyncio.sleep(0)
        h.consumer.logs[A] += range(15, 20)
        read: list[int] = []
        while len(read) < 10:
            batch = await h.take()
            read += [r.offset for r in batch.records]
            batch.mark_done()
        assert read == [*range(10, 20)]
        assert h.consumer.seeks == [(A, 10)]
        assert h.intake.gap_offsets == 0


async def test_markers_between_batches_are_gaps_that_the_log_confirms(harness):  # rule 7
    async with harness({A: [*range(5)]}) as h:
        h.consumer.give(A)
        (await h.take()).mark_done()
        h.consumer.logs[A] += range(6, 10)
        batch = await h.take()
        assert (batch.from_offset, batch.next_offset, batch.count) == (5, 10, 4)
        assert h.intake.gap_offsets == 1
