"""The rules of the intake against a consumer whose faults can be chosen; what Kafka itself does is tested with Kafka.

The numbers beside the tests: 1 the consumer, 2 batches, 3 done, 4 commit, 5 revoke, 6 assign, 7 holes, 8 watchdog,
9 control, 10 errors.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import (
    CommitFailedError,
    CorruptRecordException,
    KafkaTimeoutError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import TopicPartition

from runtime.kafka.intake import consumer as consumer_module
from runtime.kafka.intake.intake import IntakeSettings
from schemas.errors import InvariantBroken, LogMismatch, OffsetHole, Unavailable, Unfetchable
from tests.support.intake_harness import A, B, FakeConsumer, Positions, harness

__all__ = ["harness"]


def test_the_consumer_never_commits_resets_or_leaves_by_itself(monkeypatch):  # rule 1
    given: dict[str, Any] = {}
    monkeypatch.setattr(
        consumer_module, "AIOKafkaConsumer", lambda **options: given.update(options)
    )
    consumer_module.new_consumer(
        IntakeSettings("b", "g", group_instance_id="worker-1", is_co_partitioned=True)
    )
    assert given["enable_auto_commit"] is False
    assert given["auto_offset_reset"] == "none"
    assert given["isolation_level"] == "read_committed"
    assert given["metadata_max_age_ms"] <= 10_000
    assert given["group_instance_id"] == "worker-1"
    assert given["max_poll_interval_ms"] > 24 * 60 * 60 * 1000
    assert given["rebalance_timeout_ms"] > IntakeSettings("b", "g").drain_timeout_ms
    (assignor,) = given["partition_assignment_strategy"]
    assert assignor.name == "range"


async def test_batches_join_and_cover_what_has_no_record(harness):  # rule 2
    # 3 and 4 were compacted away, 8 and 9 are the markers of a transaction.
    consumer = FakeConsumer({A: [0, 1, 2, 5, 6, 7]})
    consumer.markers[A] = 2
    async with harness({}, consumer=consumer, batch_records_max=4) as h:
        consumer.assign(A)
        first, second = await h.take(), await h.take()
        assert (first.from_offset, first.next_offset) == (0, 6)
        assert (second.from_offset, second.next_offset) == (6, 10)
        assert [r.offset for r in (*first.records, *second.records)] == [0, 1, 2, 5, 6, 7]


async def test_only_done_batches_are_committed_and_only_in_a_row(harness):  # rules 3 and 4
    async with harness({A: [*range(30)]}, records_ahead_max=30) as h:
        h.consumer.assign(A)
        first, second, third = [await h.take() for _ in range(3)]
        third.mark_done()
        second.mark_done()
        assert await h.nothing_comes()
        assert h.consumer.commits == []
        first.mark_done()
        await h.until(lambda: h.consumer.commits)
        assert h.consumer.commits == [{A: 30}]


async def test_a_partition_is_read_no_further_than_its_unfinished_records_allow(harness):
    async with harness({A: [*range(100)], B: [*range(100)]}, records_ahead_max=20) as h:
        h.consumer.assign(A, B)
        taken = [await h.take() for _ in range(4)]
        assert await h.nothing_comes()
        slow = next(batch for batch in taken if batch.tp == A)
        for batch in taken:
            if batch is not slow:
                batch.mark_done()
        more = [await h.take() for _ in range(3)]
        assert sorted(batch.partition for batch in more) == [0, 1, 1], (
            "the slow partition holds up only itself"
        )


async def test_commit_failures_of_a_rebalance_are_survived(harness):
    async with harness({A: [*range(10)]}) as h:
        h.consumer.commit_errors.append(CommitFailedError())
        h.consumer.assign(A)
        (await h.take()).mark_done()
        await h.until(lambda: h.consumer.commits)
        assert h.consumer.group_offsets == {A: 10}


async def test_revoke_waits_for_work_commits_it_and_forgets_the_rest(harness):  # rule 5
    async with harness({A: [*range(20)]}, drain_timeout_ms=2_000, commit_interval_ms=60_000) as h:
        h.consumer.assign(A)
        in_work, queued = await h.take(), await h.take()
        assert h.intake.begin(in_work)
        before = h.intake.assignment
        revoked = asyncio.ensure_future(h.consumer.rebalance(A))
        await asyncio.sleep(0.02)
        assert not revoked.done(), "the work in hand is waited for"
        assert not h.intake.begin(queued), "but nothing new begins"
        in_work.mark_done()
        h.intake.end(in_work)
        await revoked
        assert h.consumer.commits == [{A: 10}]
        assert h.intake.assignment == before + 1
        assert not h.intake.is_current(queued)

        queued.mark_done()
        again = await h.take()
        assert (again.from_offset, again.assignment) == (10, before + 1), (
            "it comes again, under the new assignment"
        )
        assert h.intake.status()[A].done_offset == 10, "a stale batch marks nothing done"


async def test_revoke_waits_only_a_bounded_time(harness):  # rule 5
    async with harness({A: [*range(10)]}, drain_timeout_ms=30) as h:
        h.consumer.assign(A)
        stuck = await h.take()
        assert h.intake.begin(stuck)
        await asyncio.wait_for(h.consumer.rebalance(A), 1)
        stuck.mark_done()
        assert h.consumer.commits == []
        assert (await h.take()).from_offset == 0


async def test_assign_begins_at_claimed_else_committed_else_earliest(harness):  # rule 6
    c = TopicPartition("t", 2)
    logs = {A: [*range(50)], B: [*range(50)], c: [*range(20, 50)]}
    consumer = FakeConsumer(logs, {A: 7, B: 30})
    consumer.log_starts[c] = 20
    async with harness(
        {},
        consumer=consumer,
        positions=Positions({A: 33}),
        batch_records_max=100,
        records_ahead_max=200,
    ) as h:
        consumer.assign(A, B, c)
        starts = {(batch := await h.take()).tp: batch.from_offset for _ in range(3)}
        assert starts == {A: 33, B: 30, c: 20}


async def test_a_claimed_start_is_committed_so_that_the_lag_shown_is_true(harness):  # rule 4
    # Killed between its own commit and Kafka's, a worker once showed lag until the next record came.
    async with harness({A: [*range(10)]}, positions=Positions({A: 10}), commit_interval_ms=10) as h:
        h.consumer.assign(A)
        await h.until(lambda: h.consumer.commits)
        assert h.consumer.commits[0] == {A: 10}


async def test_a_claim_is_tried_again_and_does_not_hold_up_heartbeats(harness):  # rule 6
    positions = Positions({A: 5}, failures=2)
    async with harness({A: [*range(10)]}, positions=positions) as h:
        h.consumer.assign(A)  # returns at once
        await h.until(lambda: h.intake.status()[A].waiting)
        assert "the database is down" in h.intake.status()[A].waiting
        assert (await h.take()).from_offset == 5
        assert len(positions.claims) == 3
        await h.consumer.rebalance()
        assert positions.released == [{A}]


async def test_a_revocation_cancels_a_claim(harness):
    positions = Positions({}, failures=1_000)
    async with harness({A: [*range(10)]}, positions=positions) as h:
        h.consumer.assign(A)
        await h.until(lambda: positions.claims)
        await h.consumer.rebalance()
        tries = len(positions.claims)
        assert await h.nothing_comes()
        assert len(positions.claims) == tries
        assert positions.released == [{A}]


async def test_a_position_is_never_guessed(harness):
    async with harness({A: [1]}, positions=Positions({}), start="none") as h:
        h.consumer.assign(A)
        await h.until(lambda: h.intake.crashed)
        assert isinstance(h.intake.crash_reason, LogMismatch)


async def test_what_a_rebalance_listener_raises_ends_the_process(harness):
    # aiokafka logs and swallows the exceptions of listeners.
    class Broken(Positions):
        async def release(self, partitions) -> None:
            raise InvariantBroken("released twice")

    async with harness({A: [1]}, positions=Broken({A: 0})) as h:
        h.consumer.assign(A)
        await h.take()
        await h.consumer.listener.on_partitions_revoked({A})
        assert isinstance(h.intake.crash_reason, InvariantBroken)


async def test_a_database_that_is_down_does_not_hold_up_a_revocation(harness):
    class Down(Positions):
        async def release(self, partitions) -> None:
            raise Unavailable("the database is down")

    async with harness({A: [*range(5)]}, positions=Down({A: 0})) as h:
        h.consumer.assign(A)
        await h.take()
        await h.consumer.rebalance(A)
        assert (await h.take()).from_offset == 0
        assert not h.intake.crashed


async def test_nothing_is_claimed_by_a_consumer_that_joins_once_more_on_its_way_out(harness):
    positions = Positions({A: 0})
    async with harness({A: [*range(5)]}, positions=positions) as h:
        h.consumer.assign(A)
        await h.take()
    h.consumer.assign(A)
    await asyncio.sleep(0.02)
    assert len(positions.claims) == 1


async def test_records_that_the_client_loses_are_fetched_again(harness):  # rule 7
    async with harness({A: [*range(10)]}) as h:
        h.consumer.to_lose[A] = 4
        h.consumer.assign(A)
        batch = await h.take()
        assert [r.offset for r in batch.records] == [*range(10)]
        assert h.intake.gap_offsets == 0


async def test_a_gap_of_the_log_is_accepted_after_a_second_look_and_counted(harness):  # rule 7
    async with harness({A: [*range(12, 20)]}, committed={A: 5}) as h:
        h.consumer.assign(A)
        batch = await h.take()
        assert (batch.from_offset, batch.next_offset) == (5, 20), "the gap is inside the batch"
        assert h.intake.gap_offsets == 7


async def test_records_deleted_before_they_were_read_end_the_process(harness):  # rule 7
    consumer = FakeConsumer({A: [*range(12, 20)]}, {A: 5})
    consumer.log_starts[A] = 12
    async with harness({}, consumer=consumer) as h:
        consumer.assign(A)
        await h.until(lambda: h.intake.crashed)
        assert isinstance(h.intake.crash_reason, OffsetHole)
        assert "t-0@5" in str(h.intake.crash_reason)
        assert h.channel.queue.empty()


async def test_two_fetches_that_contradict_each_other_end_the_process(harness):  # rule 7
    consumer = FakeConsumer({A: [*range(12, 20)]}, {A: 5})
    async with harness({}, consumer=consumer) as h:
        consumer.to_lose[A] = 3
        consumer.assign(A)
        await h.until(lambda: h.intake.crashed)
        assert isinstance(h.intake.crash_reason, OffsetHole)
        assert "began at 15, the next at 12" in str(h.intake.crash_reason)


async def test_a_failed_fetch_loses_nothing_of_the_others(harness):
    # aiokafka may have moved the positions of some partitions when the damage of another one raises.
    async with harness({A: [*range(10)], B: [*range(10)]}) as h:
        h.consumer.to_raise.append(CorruptRecordException())
        h.consumer.assign(A, B)
        batches = [await h.take(), await h.take()]
        assert {(batch.tp, batch.from_offset, len(batch.records)) for batch in batches} == {
            (A, 0, 10),
            (B, 0, 10),
        }


async def test_a_position_outside_the_log_ends_the_process(harness):
    async with harness({A: [*range(10)]}) as h:
        h.consumer.to_raise.append(OffsetOutOfRangeError({A: 0}))
        h.consumer.assign(A)
        await h.until(lambda: h.intake.crashed)
        assert isinstance(h.intake.crash_reason, OffsetHole)


@pytest.mark.parametrize("error", [NoOffsetForPartitionError(A), OffsetOutOfRangeError({A: 0})])
async def test_what_the_client_makes_of_a_partition_before_our_seek_counts_for_nothing(
    harness, error
):
    # A fetch that waits through a rebalance may return with the client's own idea of where to begin.
    positions = Positions({A: 5})
    async with harness({A: [*range(10)]}, positions=positions) as h:
        h.consumer.assign(A)
        (await h.take()).mark_done()
        h.consumer.flowing.clear()
        await asyncio.sleep(0.02)
        positions.failures = 1
        await h.consumer.rebalance(A)
        h.consumer.to_raise.append(error)
        h.consumer.flowing.set()
        batch = await h.take()
        assert (batch.from_offset, batch.assignment) == (5, h.intake.assignment)
        assert h.consumer.to_raise == []
        assert not h.intake.crashed


async def test_pause_feeds_nothing_and_says_so_and_resume_goes_on(harness):  # rule 9
    async with harness({A: [*range(10)]}) as h:
        h.intake.pause("by an operator")
        h.consumer.assign(A)
        assert await h.nothing_comes()
        assert h.intake.status()[A].waiting == "by an operator"
        h.intake.resume()
        assert (await h.take()).from_offset == 0
        assert h.intake.status()[A].waiting is None


async def test_stop_lets_go_of_everything_in_order(harness):
    positions = Positions({A: 0})
    async with harness({A: [*range(10)]}, positions=positions, commit_interval_ms=60_000) as h:
        h.consumer.assign(A)
        (await h.take()).mark_done()
    assert h.consumer.group_offsets == {A: 10}
    assert positions.released == [{A}]
    assert h.consumer.stopped


class Undecodable(FakeConsumer):
    """A fetch raises as soon as it would come to this record, as aiokafka's does at the name of a header."""

    at = (A, 7)
    searches = 0

    async def getmany(self, *tps, timeout_ms=0, max_records=None):
        tp, offset = self.at
        ready = [each for each in self.logs[tp] if each >= self.positions.get(tp, 1 << 60)][
            :max_records
        ]
        self.searches += max_records == 1
        if tp in tps and offset in ready:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return await super().getmany(*tps, timeout_ms=timeout_ms, max_records=max_records)


async def test_a_record_that_the_client_cannot_take_apart_ends_the_process_by_its_place(
    harness,
):  # rule 10
    consumer = Undecodable({A: [*range(10)], B: [*range(10)]}, {A: 3, B: 0})
    async with harness({}, consumer=consumer) as h:
        consumer.assign(A, B)
        await h.until(lambda: h.intake.crashed)
        error = h.intake.crash_reason
        assert isinstance(error, Unfetchable)
        assert str(error).startswith("t-0@7 has a header whose name is not UTF-8")
        assert "set its offset on that partition to 8" in str(error)
        assert consumer.searches > 1
        assert h.intake.status()[A].done_offset == 3


async def test_where_it_cannot_be_found_the_error_says_where_the_reading_stood(harness):  # rule 10
    async with harness({A: [*range(10)]}, committed={A: 4}) as h:
        h.consumer.to_raise += [
            KafkaTimeoutError(),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ]
        h.consumer.assign(A)
        await h.until(lambda: h.intake.crashed)
        assert isinstance(h.intake.crash_reason, Unfetchable)
        assert "at or after one of t-0@4 has" in str(h.intake.crash_reason)


async def test_gaps_are_counted_over_assignments(harness):
    async with harness({A: [*range(12, 20)]}, committed={A: 5}) as h:
        h.consumer.assign(A)
        (await h.take()).mark_done()
        await h.consumer.rebalance(A)
        assert h.intake.gap_offsets == 7
