from __future__ import annotations

import asyncio
import gc
from collections import deque
from itertools import pairwise
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.agent_loop import take_batch
from runtime.kafka.app import AppSettings, create_app
from runtime.kafka.batches import BatchChannel, RecordBatch, join_batches
from runtime.kafka.intake.assignment import TRY_MAX_S, Assignment
from runtime.kafka.intake.progress import PartitionProgress
from runtime.kafka.stalls import LagSample, StallDetector
from runtime.kafka.tasks import Backoff
from runtime.postgres.database import SILENCE_MAX_S
from runtime.security import BrokerAddress
from schemas.errors import InvariantBroken

TP = TopicPartition("t", 0)
RECORD = ConsumerRecord("t", 0, 0, 0, 0, b"k", b"v", None, 1, 1, ())


@given(
    start=st.integers(0, 1000),
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    order=st.randoms(use_true_random=False),
    finished=st.integers(0, 30),
)
def test_only_the_unbroken_run_of_done_batches_is_committable(start, sizes, order, finished):
    progress = PartitionProgress(start)
    bounds = []
    for size in sizes:
        end = progress.next_offset + size
        bounds.append((progress.issue(end, size), end))
    assert [end for _, end in bounds[:-1]] == [begin for begin, _ in bounds[1:]], "batches join"

    shuffled = bounds[:]
    order.shuffle(shuffled)
    done = set()
    for begin, end in shuffled[:finished]:
        before = progress.done_offset
        progress.finish(begin)
        done.add((begin, end))
        first_unfinished = next((b for b, e in bounds if (b, e) not in done), progress.next_offset)
        assert progress.done_offset == first_unfinished, (
            "everything before it is done, and it is not"
        )
        assert progress.done_offset >= before
    assert progress.unfinished_batches == len(bounds) - len(done)
    assert progress.unfinished_records == sum(end - begin for begin, end in set(bounds) - done)


def test_done_twice_changes_nothing():
    progress = PartitionProgress(10)
    first, second = progress.issue(20, 10), progress.issue(30, 10)
    progress.finish(second)
    progress.finish(second)
    assert progress.done_offset == 10
    progress.finish(first)
    progress.finish(first)
    assert (progress.done_offset, progress.unfinished_batches) == (30, 0)


def test_done_of_a_batch_that_never_was_is_a_bug():
    progress = PartitionProgress(10)
    progress.issue(20, 10)
    with pytest.raises(InvariantBroken):
        progress.finish(11)
    with pytest.raises(InvariantBroken):
        progress.issue(20, 10)


def test_a_batch_of_another_assignment_marks_nothing_done():
    old, new = Assignment(1, frozenset({TP})), Assignment(2, frozenset({TP}))
    for assignment in (old, new):
        assignment.open({TP: 5})
    stale = old.issue_batch(TP, (), 9, new.finish)
    new.issue_batch(TP, (), 9, new.finish)
    stale.mark_done()
    assert new.committable() == {}
    assert not new.begin(stale)


def test_a_closed_assignment_issues_and_begins_nothing():
    assignment = Assignment(1, frozenset({TP}))
    assert assignment.next_offset(TP) is None, "the start is not known yet"
    assignment.open({TP: 5})
    batch = assignment.issue_batch(TP, (), 9, assignment.finish)
    assignment.close()
    assert assignment.next_offset(TP) is None
    assert not assignment.has_room(TP, 2)
    assert not assignment.begin(batch)
    batch.mark_done()
    assert assignment.committable() == {TP: 9}, (
        "work that ends while the partition is let go still counts"
    )


def test_a_partition_with_too_many_unfinished_records_has_no_room():
    assignment = Assignment(1, frozenset({TP}))
    assignment.open({TP: 0})
    first = assignment.issue_batch(TP, [RECORD] * 3, 3, assignment.finish)
    assert assignment.has_room(TP, 3)
    assignment.issue_batch(TP, [RECORD], 4, assignment.finish)
    assert not assignment.has_room(TP, 3)
    first.mark_done()
    assert assignment.has_room(TP, 3)


def test_a_joined_batch_covers_its_parts_and_is_done_with_all_of_them():
    assignment = Assignment(1, frozenset({TP}))
    assignment.open({TP: 5})
    parts = [assignment.issue_batch(TP, [RECORD], end, assignment.finish) for end in (7, 8, 12)]
    whole = join_batches(parts)
    assert str(whole) == "t-0@[5,12)"
    assert len(whole.records) == 3
    assert assignment.begin(whole)
    whole.mark_done()
    assert assignment.committable() == {TP: 12}
    assert join_batches(parts[:1]) is parts[0]


@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=20),
    breaks=st.sets(st.integers(0, 20)),
    records_max=st.integers(1, 30),
)
def test_batches_are_joined_in_order_without_gaps_and_up_to_the_limit(sizes, breaks, records_max):
    lane: deque[RecordBatch] = deque()
    offset = 0
    for index, size in enumerate(sizes):
        # At a break either the assignment changed or something lies between.
        assignment = sum(1 for at in breaks if at <= index and at % 2)
        offset += 5 if index in breaks and index % 2 == 0 else 0
        lane.append(RecordBatch("t", 0, offset, offset + size + 1, [RECORD] * size, assignment))
        offset += size + 1
    before, taken = list(lane), []
    while lane:
        taken.append(take_batch(lane, records_max))
    covered = [n for batch in taken for n in range(batch.from_offset, batch.next_offset)]
    assert covered == [n for batch in before for n in range(batch.from_offset, batch.next_offset)]
    starts = {batch.from_offset: batch for batch in before}
    for batch in taken:
        first = starts[batch.from_offset]
        assert len(batch.records) <= max(records_max, len(first.records))
        assert batch.assignment == first.assignment
    for one, other in pairwise(taken):
        follows = one.next_offset == other.from_offset and one.assignment == other.assignment
        assert (
            not follows or len(one.records) + len(starts[other.from_offset].records) > records_max
        )


def test_a_wait_lasts_through_the_next_try_but_not_through_one_that_does_not_end():
    now_s = 0.0
    assignment = Assignment(1, frozenset({TP}), clock=lambda: now_s)
    assignment.open({TP: 0})
    batch = assignment.issue_batch(TP, [RECORD], 3, assignment.finish)
    assert assignment.begin(batch)
    assert assignment.status(None)[TP].waiting is None, (
        "the first try waits for nothing that is known"
    )
    assignment.end(batch, "the database is down")
    now_s = 1_000.0
    assert assignment.status(None)[TP].waiting == "the database is down", (
        "a pause between two tries is a wait"
    )
    for _ in range(3):
        assert assignment.begin(batch)
        now_s += TRY_MAX_S - 1
        assert assignment.status(None)[TP].waiting == "the database is down", (
            "so is a try for the same"
        )
        now_s += 1
        assert assignment.status(None)[TP].waiting is None, "a try that never ends is a stall"
        assert assignment.status("paused")[TP].waiting == "paused"
        assignment.end(batch, "the database is down")
        assert assignment.status(None)[TP].waiting == "the database is down"
    assert assignment.begin(batch)
    assignment.end(batch, None)
    assert assignment.status(None)[TP].waiting is None


def test_a_query_of_a_start_position_that_never_ends_is_a_stall_too():
    now_s = 0.0
    assignment = Assignment(1, frozenset({TP}), clock=lambda: now_s)
    assignment.begin_try([TP])
    assignment.end_try([TP], "the database is down")
    assignment.begin_try([TP])
    assert assignment.status(None)[TP].waiting == "the database is down"
    now_s = TRY_MAX_S
    assert assignment.status(None)[TP].waiting is None


def test_a_try_may_last_as_long_as_a_database_may_be_silent():
    assert TRY_MAX_S == SILENCE_MAX_S


@pytest.mark.parametrize("try_s", [20.0, 30.0, 39.0])
def test_what_is_tried_in_vain_for_long_stretches_is_no_stall(try_s):
    """A lock that is held runs into its time-out again and again; the watchdog rarely looks in between."""
    now_s = 0.0
    assignment = Assignment(1, frozenset({TP}), clock=lambda: now_s)
    assignment.open({TP: 0})
    batch = assignment.issue_batch(TP, [RECORD], 3, assignment.finish)
    detector, backoff, looks_at = StallDetector(60_000, 120_000), Backoff(), 0.0
    while now_s < 600:
        assert assignment.begin(batch)
        tried_until_s = now_s + try_s
        for until_s in (tried_until_s, tried_until_s + backoff.next_s()):
            while looks_at < until_s:
                now_s = looks_at
                status = assignment.status(None)[TP]
                sample = LagSample(10, status.reached_offset, is_held=True, waiting=status.waiting)
                assert not detector.observe(int(now_s * 1000), {TP: sample})
                looks_at += 5.02
            now_s = until_s
            if until_s == tried_until_s:
                assignment.end(batch, "a row is locked")


def test_what_waits_gives_signs_of_life_each_unlike_the_last():
    assignment = Assignment(1, frozenset({TP}))
    assert assignment.liveness_notes("paused") == {}, "before its start is known"
    assignment.open({TP: 7})
    assert assignment.liveness_notes(None) == {}
    assignment.end_try([TP], "x" * 10_000)
    signs = [assignment.liveness_notes(None)[TP] for _ in range(3)]
    assert {offset for offset, _ in signs} == {7}
    assert len({text for _, text in signs}) == 3
    assert all(len(text.encode()) < 4_096 for _, text in signs)
    assignment.end_try([TP], None)
    assert assignment.liveness_notes("paused")[TP][1].endswith("paused")


def test_trailing_markers_count_as_reached_only_while_nothing_is_unfinished():
    assignment = Assignment(1, frozenset({TP}))
    assignment.open({TP: 0})
    batch = assignment.issue_batch(TP, (), 3, assignment.finish)
    batch.mark_done()
    assignment.note_position(TP, 5)
    assert assignment.status(None)[TP].reached_offset == 5
    assignment.issue_batch(TP, (), 7, assignment.finish)
    assert assignment.status(None)[TP].reached_offset == 3


@pytest.fixture
def app():
    return create_app(AppSettings("test", BrokerAddress("127.0.0.1:1")))


async def test_faust_can_neither_clear_nor_suspend_the_channel(app):
    channel = BatchChannel(app, maxsize=4)
    await channel.put([RecordBatch("t", 0, 0, 1, (), 1)])
    app.flow_control.suspend()
    app.flow_control.clear()
    app.flow_control.resume()
    await asyncio.wait_for(channel.put([RecordBatch("t", 0, 1, 2, (), 1)]), 60)
    assert channel.queue.qsize() == 2


async def test_every_clone_of_the_channel_is_the_same_queue(app):
    channel = BatchChannel(app, maxsize=4)
    reader = aiter(channel.clone().clone())
    await channel.put([RecordBatch("t", 0, 0, 1, (), 1)])
    read: Any = await anext(reader)
    assert [str(batch) for batch in read] == ["t-0@[0,1)"]
    gc.collect()
    assert channel.queue.empty()


async def test_a_full_channel_makes_the_writer_wait(app):
    channel = BatchChannel(app, maxsize=1)
    await channel.put([RecordBatch("t", 0, 0, 1, (), 1)])
    second = asyncio.ensure_future(channel.put([RecordBatch("t", 0, 1, 2, (), 1)]))
    await asyncio.sleep(0)
    assert not second.done()
    await channel.get()
    await asyncio.wait_for(second, 60)


def test_an_app_has_no_web_server_topics_or_kafka_of_its_own(app):
    app.finalize()
    assert not app.conf.web_enabled
    assert not app.conf.topic_allow_declare
    assert app.conf.topic_disable_leader
    assert not app.conf.autodiscover
    assert [*app.boot_strategy.server()] == [app.agents]


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=10),
    steps=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 200), st.booleans()), max_size=40),
)
def test_the_done_part_of_a_batch_counts_only_behind_finished_ones(sizes, steps):
    """Offsets that are done one by one are the model."""
    assignment = Assignment(1, frozenset({TP}))
    assignment.open({TP: 0})
    batches, end = [], 0
    for size in sizes:
        end += size
        batches.append(assignment.issue_batch(TP, [RECORD] * size, end, assignment.finish))
    done = 0
    finished = set()
    for index, offset, is_whole in steps:
        batch = batches[index % len(batches)]
        if is_whole:
            batch.mark_done()
            finished.add(batch)
        else:
            batch.mark_reached(offset)
            if batch.from_offset <= done and batch not in finished:
                done = max(done, min(offset, batch.next_offset))
        while one := next((b for b in finished if b.from_offset <= done < b.next_offset), None):
            done = one.next_offset
        assert assignment.status(None)[TP].done_offset == done
        assert assignment.committable() == ({TP: done} if done else {})


def test_a_joined_batch_shows_its_done_part_too():
    assignment = Assignment(1, frozenset({TP}))
    assignment.open({TP: 0})
    batches = [
        assignment.issue_batch(TP, [RECORD] * 5, end, assignment.finish) for end in (5, 10, 15)
    ]
    joined = join_batches(batches)
    joined.mark_reached(7)
    assert assignment.committable() == {TP: 7}
    joined.mark_reached(10)
    assert assignment.committable() == {TP: 10}
    joined.mark_done()
    assert assignment.committable() == {TP: 15}
    assert not assignment.status(None)[TP].unfinished_batches
