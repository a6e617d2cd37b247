"""The rules of the intake against a consumer whose faults can be chosen; what Kafka itself does is tested with Kafka.

The numbers beside the tests: 1 the consumer, 2 batches, 3 done, 4 commit, 5 revoke, 6 assign, 7 holes, 8 watchdog,
9 control, 10 errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

import pytest
from aiokafka.structs import TopicPartition
from confluent_kafka import Consumer, KafkaError, KafkaException

from runtime.kafka.app import AppSettings, create_app
from runtime.kafka.batches import BatchChannel
from runtime.kafka.intake import client as client_module
from runtime.kafka.intake import mailbox
from runtime.kafka.intake.consumer import consumer_options
from runtime.kafka.intake.intake import Intake, IntakeSettings
from runtime.security import BrokerAddress
from schemas.errors import InvariantBroken, LogMismatch, Unavailable
from tests.support.intake_harness import A, B, Positions, harness, short_waits
from tests.support.simulated_consumer import SimulatedConsumer

__all__ = ["harness", "short_waits"]


def test_the_consumer_never_commits_resets_or_leaves_by_itself():  # rule 1
    settings = IntakeSettings(
        BrokerAddress("b"), "g", group_instance_id="worker-1", is_co_partitioned=True
    )
    options = consumer_options(settings)
    assert options["enable.auto.commit"] is False
    assert options["enable.auto.offset.store"] is False
    assert options["auto.offset.reset"] == "error"
    assert options["isolation.level"] == "read_committed"
    assert int(options["topic.metadata.refresh.interval.ms"]) <= 10_000
    assert options["group.instance.id"] == "worker-1"
    assert settings.drain_timeout_ms < int(options["max.poll.interval.ms"]) <= 86_400_000
    assert options["partition.assignment.strategy"] == "range"
    assert (
        consumer_options(IntakeSettings(BrokerAddress("b"), "g"))["partition.assignment.strategy"]
        == "roundrobin"
    )


@pytest.mark.parametrize("session_timeout_ms", [10_000, 60_000])
def test_the_client_takes_the_options(session_timeout_ms):
    settings = IntakeSettings(
        BrokerAddress("127.0.0.1:1"),
        "g",
        group_instance_id="a",
        session_timeout_ms=session_timeout_ms,
    )
    Consumer(dict(consumer_options(settings))).close()


async def test_a_client_that_does_not_start_says_why():
    app = create_app(AppSettings("test", BrokerAddress("127.0.0.1:1")))
    settings = IntakeSettings(BrokerAddress("127.0.0.1:1"), "g", session_timeout_ms=-1)
    intake = Intake(settings, BatchChannel(app), topics=["t"])
    with pytest.raises(KafkaException, match=r"session\.timeout\.ms"):
        await asyncio.wait_for(intake.start(), 60)


async def test_without_a_broker_a_client_is_unavailable(monkeypatch):
    monkeypatch.setattr(client_module, "CONNECT_TIMEOUT_S", 0.1)
    app = create_app(AppSettings("test", BrokerAddress("127.0.0.1:1")))
    intake = Intake(
        IntakeSettings(BrokerAddress("127.0.0.1:1"), "g"), BatchChannel(app), topics=["t"]
    )
    with pytest.raises(Unavailable, match=r"no Kafka broker answers at 127\.0\.0\.1:1"):
        await asyncio.wait_for(intake.start(), 60)


async def test_batches_join_and_cover_what_has_no_record(harness):  # rule 2
    # 3 and 4 were compacted away, 8 and 9 are the markers of a transaction.
    consumer = SimulatedConsumer({A: [0, 1, 2, 5, 6, 7]})
    consumer.tails[A] = 10
    async with harness({}, consumer=consumer, batch_records_max=4) as h:
        consumer.give(A)
        first, second = await h.take(), await h.take()
        assert (first.from_offset, first.next_offset) == (0, 6)
        assert (second.from_offset, second.next_offset) == (6, 8)
        assert [r.offset for r in (*first.records, *second.records)] == [0, 1, 2, 5, 6, 7]
        first.mark_done()
        second.mark_done()
        await h.until(lambda: consumer.group_offsets == {A: 10})
        assert consumer.seeks == [(A, 8)], "an end without a record is looked at twice"
        consumer.logs[A] += [10]
        assert (await h.take()).from_offset == 10


async def test_what_is_there_of_all_partitions_is_sent_together(harness):
    async with harness({A: [0, 1], B: [0]}) as h:
        h.intake.pause("until both are there")
        h.consumer.give(A, B)
        await h.until(lambda: len([*h.intake._handed_over.with_records()]) == 2)
        h.intake.resume()
        assert sorted(map(str, await h.take_read())) == ["t-0@[0,2)", "t-1@[0,1)"]


async def test_only_done_batches_are_committed_and_only_in_a_row(harness):  # rules 3 and 4
    async with harness({A: [*range(30)]}, records_ahead_max=30) as h:
        h.consumer.give(A)
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
        h.consumer.give(A, B)
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
        h.consumer.commit_errors.append(KafkaError.REBALANCE_IN_PROGRESS)
        h.consumer.give(A)
        (await h.take()).mark_done()
        await h.until(lambda: h.consumer.commits)
        assert h.consumer.group_offsets == {A: 10}


async def test_revoke_waits_for_work_commits_it_and_forgets_the_rest(harness):  # rule 5
    async with harness({A: [*range(20)]}, drain_timeout_ms=60_000, commit_interval_ms=60_000) as h:
        h.consumer.give(A)
        in_work, queued = await h.take(), await h.take()
        assert h.intake.begin(in_work)
        before = h.intake.assignment
        revoked = asyncio.ensure_future(h.consumer.rebalance(A))
        await h.until(lambda: not h.intake._current.is_open)
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


async def test_a_rejoin_commits_what_is_done_and_takes_what_no_member_held(harness):
    """A static member that only joined again had what it had before (issue 12)."""
    async with harness({A: [0, 1, 2], B: [0]}) as h:
        h.consumer.give(A)
        batch = await h.take()
        batch.mark_done()
        h.intake.rejoin()
        assert (await h.take()).tp == B
        assert set(h.intake.status()) == {A, B}
        assert h.consumer.group_offsets[A] == 3
        assert await h.nothing_comes(), "what was done is not read again"


async def test_revoke_waits_only_a_bounded_time(harness):  # rule 5
    async with harness({A: [*range(10)]}, drain_timeout_ms=30) as h:
        h.consumer.give(A)
        stuck = await h.take()
        assert h.intake.begin(stuck)
        await asyncio.wait_for(h.consumer.rebalance(A), 60)
        stuck.mark_done()
        assert h.consumer.commits == []
        assert (await h.take()).from_offset == 0


async def test_assign_begins_at_claimed_else_committed_else_earliest(harness):  # rule 6
    c = TopicPartition("t", 2)
    logs = {A: [*range(50)], B: [*range(50)], c: [*range(20, 50)]}
    consumer = SimulatedConsumer(logs, {A: 7, B: 30})
    consumer.log_starts[c] = 20
    async with harness(
        {},
        consumer=consumer,
        positions=Positions({A: 33}),
        batch_records_max=100,
        records_ahead_max=200,
    ) as h:
        consumer.give(A, B, c)
        starts = {(batch := await h.take()).tp: batch.from_offset for _ in range(3)}
        assert starts == {A: 33, B: 30, c: 20}


async def test_a_claimed_start_is_committed_so_that_the_lag_shown_is_true(harness):  # rule 4
    # Killed between its own commit and Kafka's, a worker once showed lag until the next record came.
    async with harness({A: [*range(10)]}, positions=Positions({A: 10}), commit_interval_ms=10) as h:
        h.consumer.give(A)
        await h.until(lambda: h.consumer.commits)
        assert h.consumer.commits[0] == {A: 10}


async def test_a_claim_is_tried_again_and_does_not_hold_up_heartbeats(harness):  # rule 6
    positions = Positions({A: 5}, failures=2)
    async with harness({A: [*range(10)]}, positions=positions) as h:
        h.consumer.give(A)  # returns at once
        await h.until(lambda: A in h.intake.status() and h.intake.status()[A].waiting)
        assert "the database is down" in h.intake.status()[A].waiting
        assert (await h.take()).from_offset == 5
        assert len(positions.claims) == 3
        await h.consumer.rebalance()
        assert positions.released == [{A}]


async def test_a_revocation_cancels_a_claim(harness):
    positions = Positions({}, failures=1_000)
    async with harness({A: [*range(10)]}, positions=positions) as h:
        h.consumer.give(A)
        await h.until(lambda: positions.claims)
        await h.consumer.rebalance()
        tries = len(positions.claims)
        assert await h.nothing_comes()
        assert len(positions.claims) == tries
        assert positions.released == [{A}]


async def test_a_position_is_never_guessed(harness):
    async with harness({A: [1]}, positions=Positions({}), start="none") as h:
        h.consumer.give(A)
        await h.until(lambda: h.intake.crashed)
        assert isinstance(h.intake.crash_reason, LogMismatch)


async def test_what_fails_in_a_rebalance_ends_the_process(harness):
    class Broken(Positions):
        async def release(self, partitions) -> None:
            raise InvariantBroken("released twice")

    async with harness({A: [1]}, positions=Broken({A: 0})) as h:
        h.consumer.give(A)
        await h.take()
        h.consumer.revoke()
        await h.until(lambda: h.intake.crashed)
        assert isinstance(h.intake.crash_reason, InvariantBroken)


async def test_a_database_that_is_down_does_not_hold_up_a_revocation(harness):
    class Down(Positions):
        async def release(self, partitions) -> None:
            raise Unavailable("the database is down")

    async with harness({A: [*range(5)]}, positions=Down({A: 0})) as h:
        h.consumer.give(A)
        await h.take()
        await h.consumer.rebalance(A)
        assert (await h.take()).from_offset == 0
        assert not h.intake.crashed


async def test_nothing_is_claimed_by_a_consumer_that_joins_once_more_on_its_way_out(harness):
    positions = Positions({A: 0})
    async with harness({A: [*range(5)]}, positions=positions) as h:
        h.consumer.give(A)
        await h.take()
        await h.intake.stop()
        h.intake.on_assigned(h.intake.assignment, frozenset({A}))
        await asyncio.sleep(0.02)
        assert len(positions.claims) == 1


async def test_a_partition_that_cannot_be_sought_is_assigned_anew(harness):
    class Stuck(SimulatedConsumer):
        refusals = 0

        def seek(self, place) -> None:
            self.refusals += 1
            raise KafkaException(KafkaError(KafkaError._STATE))

    consumer = Stuck({A: [*range(10)]})
    async with harness({}, consumer=consumer) as h:
        consumer.to_lose[A] = 4
        consumer.give(A)
        assert [r.offset for r in (await h.take()).records] == [*range(10)]
        assert consumer.refusals == 1


async def test_pause_feeds_nothing_and_says_so_and_resume_goes_on(harness):  # rule 9
    async with harness({A: [*range(10)]}) as h:
        h.intake.pause("by an operator")
        h.consumer.give(A)
        assert await h.nothing_comes()
        assert h.intake.status()[A].waiting == "by an operator"
        h.intake.resume()
        assert (await h.take()).from_offset == 0
        assert h.intake.status()[A].waiting is None


async def test_stop_lets_go_of_everything_in_order(harness):
    positions = Positions({A: 0})
    async with harness({A: [*range(10)]}, positions=positions, commit_interval_ms=60_000) as h:
        h.consumer.give(A)
        (await h.take()).mark_done()
    assert h.consumer.group_offsets == {A: 10}
    assert positions.released == [{A}]
    assert h.consumer.is_closed


async def test_gaps_are_counted_over_assignments(harness):
    async with harness({A: [*range(12, 20)]}, committed={A: 5}) as h:
        h.consumer.give(A)
        (await h.take()).mark_done()
        await h.consumer.rebalance(A)
        assert h.intake.gap_offsets == 7


async def test_a_revocation_during_a_commit_commits_what_was_finished_since(harness):  # rule 5
    class Slow(SimulatedConsumer):
        """Answers a commit only after the rebalance."""

        held: ClassVar[list[Callable[[], None]]] = []

        def commit(self, offsets=None, asynchronous=True):
            answer = super().commit(offsets, asynchronous)
            if asynchronous:
                self.held.append(self._events.pop())
            return answer

        def _revoke_group(self) -> None:
            super()._revoke_group()
            self._events.extendleft(self.held)
            self.held.clear()

    consumer = Slow({A: [*range(20)]})
    async with harness({}, consumer=consumer, batch_records_max=10, records_ahead_max=20) as h:
        consumer.give(A)
        first, second = await h.take(), await h.take()
        first.mark_done()
        await h.until(lambda: consumer.commits == [{A: 10}])
        second.mark_done()
        await consumer.rebalance(A)
        await h.until(lambda: h.intake.status()[A].done_offset == 20)
        assert consumer.commits == [{A: 10}, {A: 20}]
        consumer.logs[A] += [20]
        (await h.take()).mark_done()
        await h.until(lambda: consumer.group_offsets == {A: 21})


async def test_a_lost_assignment_commits_nothing_and_makes_its_batches_stale(harness):  # rule 5
    positions = Positions({A: 0})
    async with harness({A: [*range(20)]}, positions=positions, commit_interval_ms=60_000) as h:
        h.consumer.give(A)
        done, in_work = await h.take(), await h.take()
        done.mark_done()
        assert h.intake.begin(in_work)
        h.consumer.lose()
        await h.until(lambda: positions.released)
        assert not h.intake.is_current(in_work)
        in_work.mark_done()
        h.consumer.give(A)
        again = await h.take()
        assert (again.from_offset, h.consumer.commits) == (0, [])
        assert h.intake.status()[A].done_offset == 0


async def test_the_group_goes_on_while_every_partition_is_full(harness, monkeypatch):
    monkeypatch.setattr(mailbox, "UNREAD_RECORDS_MAX", 15)
    monkeypatch.setattr(client_module, "FULL_POLL_S", 0.02)
    async with harness({A: [*range(100)], B: [*range(100)]}) as h:
        h.consumer.give(A, B)
        await h.until(lambda: h.consumer.paused == {A, B})
        assert not await h.nothing_comes()
        sent = h.channel.queue.qsize()
        assert not await h.nothing_comes()
        assert h.channel.queue.qsize() == sent
        await asyncio.wait_for(h.consumer.rebalance(A, B), 60)
        read: dict[TopicPartition, list[int]] = {A: [], B: []}
        while min(map(len, read.values())) < 100:
            batch = await h.take()
            if h.intake.begin(batch):
                read[batch.tp] += [r.offset for r in batch.records]
                batch.mark_done()
                h.intake.end(batch)
        assert read == {A: [*range(100)], B: [*range(100)]}, "librdkafka keeps a pause"
        assert h.consumer.paused == set()


async def test_a_slow_partition_is_paused_when_others_would_wait_for_it(harness, monkeypatch):
    monkeypatch.setattr(mailbox, "UNREAD_RECORDS_MAX", 15)
    monkeypatch.setattr(client_module, "FULL_POLL_S", 10)
    async with harness({A: [*range(100)], B: []}) as h:
        h.consumer.give(A, B)
        slow = [await h.take(), await h.take()]
        await h.until(lambda: h.consumer.paused == {A})
        h.consumer.logs[B] += range(50)
        read = 0
        while read < 50:
            batch = await h.take()
            assert batch.tp == B
            read += batch.count
            batch.mark_done()
        for batch in slow:
            batch.mark_done()
        assert (await h.take()).from_offset == slow[-1].next_offset
        await h.until(lambda: not h.consumer.paused)


async def test_an_event_loop_that_does_not_answer_is_not_waited_for_without_end(
    harness, caplog, monkeypatch
):
    monkeypatch.setattr(client_module, "MEMBER_GRACE_MS", 15)
    async with harness({A: [*range(10)]}, drain_timeout_ms=10) as h:
        h.consumer.give(A)
        (await h.take()).mark_done()
        monkeypatch.setattr(h.intake, "on_revoking", lambda *_: None)
        await asyncio.wait_for(h.consumer.rebalance(A), 60)
        assert "has not answered" in caplog.text
        h.consumer.logs[A] += [10]
        assert (await h.take()).assignment == 1
