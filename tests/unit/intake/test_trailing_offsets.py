"""Offsets behind the last record: they are committed after two fetches agree that they hold none."""

from __future__ import annotations

import pytest

from runtime.kafka.intake.assignment import Assignment
from schemas.errors import InvariantBroken
from tests.support.intake_harness import A, B, Positions, harness, record
from tests.support.simulated_consumer import SimulatedConsumer

__all__ = ["harness"]


def open_assignment(start: int = 0, *, are_committed: bool = True) -> Assignment:
    now = Assignment(1, frozenset([A]))
    now.open({A: start}, are_committed=are_committed)
    return now


def test_what_two_fetches_agree_on_is_passed_over_and_committed():
    now = open_assignment()
    now.issue_batch(A, [record(A, 0)] * 10, 10, now.finish).mark_done()
    now.note_committed(now.committable())
    assert now.note_position(A, 17) == 10, "a first sight is not believed"
    assert now.committable() == {}
    assert now.note_position(A, 10) is None, "it has not been read again yet"
    assert now.note_position(A, 17) is None
    assert now.committable() == {A: 17}
    assert now.next_offset(A) == 17, "and the next batch begins behind it: that is not a gap"
    assert now.gaps.gap_offsets == 7


def test_only_the_stretch_that_both_looks_saw_is_passed_over():
    now = open_assignment(10)
    assert now.note_position(A, 17) == 10
    assert now.note_position(A, 30) == 17, "what came behind it is a first sight"
    assert now.committable() == {A: 17}
    assert now.note_position(A, 25) is None
    assert now.committable() == {A: 25}


def test_records_that_come_at_the_second_look_are_what_counts():
    now = open_assignment(10)
    assert now.note_position(A, 17) == 10
    batch = now.issue_batch(A, [record(A, 0)] * 7, 17, now.finish)  # the client had lost them
    assert now.idle_partitions() == []
    batch.mark_done()
    assert now.committable() == {A: 17}
    assert now.note_position(A, 20) == 17, "the first look was at another place"
    assert now.committable() == {A: 17}


def test_nothing_unfinished_is_ever_passed_over():
    now = open_assignment(10)
    assert now.note_position(A, 17) == 10
    ahead = [
        now.issue_batch(A, [record(A, 0)], next_offset, now.finish) for next_offset in (12, 17)
    ]
    assert now.idle_partitions() == []
    progress = now._progress[A]
    with pytest.raises(InvariantBroken):
        progress.skip_to(20)
    ahead[1].mark_done()
    with pytest.raises(InvariantBroken):
        progress.skip_to(20)
    assert (progress.done_offset, progress.next_offset) == (10, 17)
    ahead[0].mark_done()
    progress.skip_to(20)
    assert (progress.done_offset, progress.next_offset) == (20, 20)


def test_a_gap_is_left_to_its_own_comparison():
    now = open_assignment(10)
    assert now.gaps.must_refetch(A, 10, 15)
    assert now.note_position(A, 17) is None
    assert now.note_position(A, 17) is None
    assert now.committable() == {}


def test_the_group_is_never_ahead_of_who_keeps_the_position():
    # A ledger that is behind its group is taken for an older copy, and refused.
    now = open_assignment(10, are_committed=False)
    assert now.note_position(A, 17) == 10, "what the client lost is fetched again here, too"
    assert now.agreed_ends() == []
    assert now.note_position(A, 20) == 10
    assert now.agreed_ends() == [A]
    assert now.committable() == {A: 10}
    assert now.next_offset(A) == 10
    status = now.status(None)[A]
    assert (status.done_offset, status.reached_offset) == (10, 20), "but it is not lag"
    batch = now.issue_agreed_end(A, now.finish)
    assert batch is not None
    assert (batch.from_offset, batch.next_offset, batch.count) == (10, 17, 0)
    assert now.agreed_ends() == []
    assert now.committable() == {A: 10}
    batch.mark_done()
    assert now.committable() == {A: 17}


def test_an_agreed_end_is_forgotten_where_records_have_come():
    now = open_assignment(10, are_committed=False)
    assert now.note_position(A, 17) == 10
    assert now.note_position(A, 17) is None
    now.issue_batch(A, [record(A, 10)], 18, now.finish).mark_done()
    assert now.issue_agreed_end(A, now.finish) is None
    assert now.next_offset(A) == 18


async def test_the_end_of_an_aborted_transaction_is_committed(harness):
    consumer = SimulatedConsumer({A: [*range(10)], B: []})
    consumer.tails = {A: 17, B: 4}
    async with harness({}, consumer=consumer) as h:
        consumer.give(A, B)
        (await h.take()).mark_done()
        await h.until(lambda: consumer.group_offsets == {A: 17, B: 4})
        consumer.logs[A] += [17, 18]
        batch = await h.take()
        assert (batch.from_offset, batch.next_offset) == (17, 19)
        assert h.intake.gap_offsets == 11


@pytest.mark.parametrize("positions", [None, Positions({A: 0})])
async def test_records_that_the_client_lost_at_the_end_of_the_log_are_fetched_again(
    harness, positions
):
    async with harness({A: [*range(10)]}, positions=positions) as h:
        h.consumer.to_lose[A] = 10  # all, so that no later one tells of them
        h.consumer.give(A)
        batch = await h.take()
        assert [record.offset for record in batch.records] == [*range(10)]
        assert not any(h.consumer.group_offsets.values())


async def test_who_keeps_positions_gets_the_end_of_an_aborted_transaction_as_a_batch(harness):
    consumer = SimulatedConsumer({A: [*range(10)], B: []})
    consumer.tails = {A: 17, B: 4}
    async with harness({}, consumer=consumer, positions=Positions({A: 0, B: 0})) as h:
        consumer.give(A, B)
        batches = [await h.take() for _ in range(2)]
        [first] = [batch for batch in batches if batch.tp == A]
        [nothing] = [batch for batch in batches if batch.tp == B]
        assert (nothing.from_offset, nothing.next_offset, nothing.count) == (0, 4, 0)
        assert not any(consumer.group_offsets.values())
        first.mark_done()
        nothing.mark_done()
        tail = await h.take()
        assert (tail.tp, tail.from_offset, tail.next_offset, tail.count) == (A, 10, 17, 0)
        tail.mark_done()
        await h.until(lambda: consumer.group_offsets == {A: 17, B: 4})
        consumer.logs[A] += [17, 18]
        batch = await h.take()
        assert (batch.from_offset, batch.next_offset) == (17, 19)
