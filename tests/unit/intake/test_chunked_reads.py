"""Records that are read in pieces as they come: batches are what they were, and nothing is read that is not handed out.

The consumer is that of `tests.support.intake_harness`.
"""

from __future__ import annotations

import asyncio

import pytest
from confluent_kafka import KafkaError

from runtime.kafka.intake import intake as intake_module
from runtime.kafka.intake.assignment import Assignment
from runtime.kafka.intake.chunked_reads import join_chunks, read_chunk
from tests.support.intake_harness import A, B, harness, record

__all__ = ["harness"]

PIECE = 3


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(intake_module, "CHUNK_RECORDS", PIECE)
    monkeypatch.setattr(intake_module, "RETRY_S", 0.01)


def offsets_of(_topic, records):
    return [r.offset for r in records]


async def test_pieces_are_read_one_by_one_and_handed_out_as_one_batch(harness):
    async with harness({A: [*range(10)]}, reader=offsets_of, batch_records_max=8) as h:
        h.consumer.give(A)
        first, second = await h.take(), await h.take()
        assert first.readings == [[0, 1, 2], [3, 4, 5], [6, 7]]
        assert (str(first), first.count, list(first.records)) == ("t-0@[0,8)", 8, [])
        assert (str(second), second.count) == ("t-0@[8,10)", 2)
        second.mark_done()
        first.mark_done()
        await h.until(lambda: h.consumer.group_offsets == {A: 10})


async def test_others_have_their_turn_while_much_is_read(harness, monkeypatch):
    monkeypatch.setattr(intake_module, "YIELD_RECORDS", 2 * PIECE)
    turns, seen = 0, []

    async def another() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def reader(_topic, records):
        seen.append(turns)
        return [r.offset for r in records]

    async with harness(
        {A: [*range(24)]}, reader=reader, batch_records_max=24, records_ahead_max=48
    ) as h:
        beside = asyncio.create_task(another())
        h.consumer.give(A)
        batch = await h.take()
        beside.cancel()
    assert batch.count == 24
    turns_at_every_second = seen[::2]
    assert turns_at_every_second == sorted(set(turns_at_every_second)), (
        "another task ran after each two chunks"
    )
    assert seen[::2] == seen[1::2], "and none within them"


async def test_partitions_that_share_a_piece_have_batches_of_their_own(harness):
    async with harness({A: [0, 1], B: [*range(9)]}, reader=offsets_of, batch_records_max=8) as h:
        h.consumer.give(A, B)
        batches = [await h.take() for _ in range(3)]
        read = {
            tp: [x for b in batches if b.tp == tp for piece in b.readings for x in piece]
            for tp in (A, B)
        }
        assert read == {A: [0, 1], B: [*range(9)]}


async def test_a_partition_is_read_no_further_in_pieces_either(harness):
    async with harness(
        {A: [*range(100)]}, reader=offsets_of, batch_records_max=8, records_ahead_max=16
    ) as h:
        h.consumer.give(A)
        taken = [await h.take() for _ in range(2)]
        assert await h.nothing_comes()
        assert sum(batch.count for batch in taken) == 16


async def test_pieces_from_before_a_rebalance_come_again(harness):
    seen: list[int] = []

    def reader(_topic, records):
        if not seen:
            h.intake._current.close()  # as a revocation does between two pieces
        seen.extend(r.offset for r in records)
        return [r.offset for r in records]

    async with harness({A: [*range(9)]}, reader=reader) as h:
        h.consumer.give(A)
        stale = await h.take()
        assert seen == [0, 1, 2], "no piece is read for an assignment that ends"
        assert not h.intake.begin(stale)
        await h.consumer.rebalance(A)
        batch = await h.take()
        assert h.intake.begin(batch)
        assert batch.readings == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
        h.intake.end(batch)


async def test_a_failure_between_two_pieces_loses_neither(harness):
    async with harness({A: [*range(5)]}, reader=offsets_of, batch_records_max=9) as h:
        h.consumer.give(A)
        first = await h.take()
        h.consumer.logs[A] += range(5, 9)
        h.consumer.fail_fetch(A, KafkaError._BAD_MSG, skipped=2)
        second = await h.take()
        assert [*first.readings, *second.readings] == [[0, 1, 2], [3, 4], [5, 6, 7], [8]]
        assert (str(first), str(second)) == ("t-0@[0,5)", "t-0@[5,9)")


async def test_a_reader_that_fails_ends_the_worker(harness):
    def fail(_topic, _records):
        raise ZeroDivisionError

    async with harness({A: [0]}, reader=fail) as h:
        h.consumer.give(A)
        await h.until(lambda: h.intake.crashed)
        assert h.channel.queue.empty()
        assert h.consumer.commits == []


def test_pieces_of_two_assignments_are_never_one_batch():
    pieces = []
    for number in (1, 2):
        assignment = Assignment(number, frozenset({A}))
        assignment.open({A: 0})
        for end in (1, 2):
            piece = assignment.issue_batch(A, [record(A, end - 1)], end, assignment.finish)
            pieces.append(read_chunk(offsets_of, piece))
    old, new = join_chunks(pieces)
    assert (old.assignment, old.readings) == (1, [[0], [1]])
    assert (new.assignment, new.readings) == (2, [[0], [1]])
