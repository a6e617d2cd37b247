"""Groups get smaller while the database is slow, down to one event, and grow again."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ledger_sink.booking.committer import Committer
from ledger_sink.booking.group_size import GroupSize
from ledger_sink.store.groups import AppliedGroup, Slice, split_slice
from ledger_sink.store.log_check import checksum
from runtime.postgres.database import StatementTimeout
from schemas.errors import Fenced, Unavailable
from tests.support.ledger_events import deposit, log_event

TIMEOUT_S = 30.0


def slice_of(partition: int, count: int, step: int = 1) -> Slice:
    """Events at every `step`-th offset; between them are records that are not events."""
    events = [log_event(deposit(f"{partition}-{n}", 1), partition, n * step) for n in range(count)]
    records: list[Any] = [
        SimpleNamespace(offset=n, timestamp=1_000 + n, key=b"k", value=b"%d" % n)
        for n in range(count * step)
    ]
    last = records[-1]
    tie = (last.timestamp, checksum(last.key, last.value))
    return Slice(partition, 0, count * step, events, *tie, records)


@pytest.mark.parametrize("event_s", [0.0005, 0.002, 0.02, 0.2, 2.0, 20.0])
def test_some_event_is_booked_within_two_time_outs_whatever_the_pace(event_s):
    size, failures = GroupSize(10_000), 0
    while size.events * event_s > TIMEOUT_S:
        size.note_failure(size.events, TIMEOUT_S, timed_out=True)
        failures += 1
    assert failures <= {0.0005: 0, 0.002: 0, 0.02: 1, 0.2: 2, 2.0: 3, 20.0: 4}[event_s]
    assert size.events >= 1


def test_a_time_out_halves_at_least_whatever_it_took():
    size = GroupSize(1_000)
    for expected in (500, 250, 125, 62, 31, 15, 7, 3, 1, 1):
        assert size.note_failure(size.events, 0.01, timed_out=True)
        assert size.events == expected


def test_an_error_that_comes_at_once_is_no_sign_of_a_slow_database():
    size = GroupSize(1_000)
    assert not size.note_failure(1_000, 0.2, timed_out=False)
    assert size.events == 1_000
    assert size.note_failure(1_000, 40.0, timed_out=False)
    assert size.events == 50


def test_groups_grow_only_if_full_ones_are_quick():
    size = GroupSize(1_000)
    size.note_failure(1_000, TIMEOUT_S, timed_out=True)
    assert size.events == 66
    size.note_commit(10, 0.01)
    assert size.events == 66
    size.note_commit(66, 1.5)
    assert size.events == 66
    for expected in (132, 264, 528, 1_000, 1_000):
        size.note_commit(size.events, 0.5)
        assert size.events == expected
    assert not size.is_reduced
    size.note_commit(1_000, 20.0)
    assert size.events == 100


def test_time_outs_sooner_than_the_target_are_rare_and_forgotten():
    size, time_outs, commits = GroupSize(10_000), 0, 0
    for _ in range(300):  # 2 ms an event, and a time-out after 0.25 s
        if size.events * 0.002 > 0.25:
            size.note_failure(size.events, 0.25, timed_out=True)
            time_outs += 1
        else:
            size.note_commit(size.events, size.events * 0.002)
            commits += 1
    assert 5 < time_outs < commits / 8
    for _ in range(100):
        size.note_commit(size.events, size.events * 0.00003)
    assert size.events == 10_000


@pytest.mark.parametrize("events_max", [1, 2, 3, 7])
def test_the_pieces_of_a_slice_join_and_each_knows_its_last_record(events_max):
    whole, pieces = slice_of(0, 7, step=3), []
    rest: Slice | None = whole
    while rest is not None:
        piece, rest = split_slice(rest, events_max)
        pieces.append(piece)
    assert [one for piece in pieces for one in piece.events] == whole.events
    assert pieces[0].from_offset == 0
    assert [one.next_offset for one in pieces[:-1]] == [one.from_offset for one in pieces[1:]]
    assert pieces[-1].next_offset == 21
    for piece in pieces:
        assert len(piece.events) <= events_max
        last = whole.records[piece.next_offset - 1]
        assert piece.last_timestamp_ms == last.timestamp
        assert piece.last_checksum == checksum(last.key, last.value)


class Store:
    """Takes so many events in one transaction, and notes each transaction."""

    def __init__(self, events_max: int) -> None:
        self.events_max = events_max
        self.error: Exception = StatementTimeout("too slow")
        self.groups: list[list[Slice]] = []
        self.ends: dict[int, int] = {}

    async def commit_group(self, slices: list[Slice], following: list[Slice]) -> AppliedGroup:
        await asyncio.sleep(0)
        assert not {one.partition for one in slices} & {one.partition for one in following}
        if sum(len(one.events) for one in slices) > self.events_max:
            raise self.error
        for one in slices:
            assert self.ends.get(one.partition, 0) == one.from_offset
            self.ends[one.partition] = one.next_offset
        self.groups.append(slices)
        return AppliedGroup(newly_committed=slices)


class Sink:
    async def enqueue(self, applied: AppliedGroup) -> None:
        pass


async def submit_until_committed(committer: Committer, slice_: Slice) -> int:
    """Submit what is left again after each retriable error; return how many there were."""
    reached, errors = [slice_.from_offset], 0
    while True:
        left = [one for one in slice_.events if one.source.offset >= reached[-1]]
        rest = Slice(slice_.partition, reached[-1], slice_.next_offset, left)
        try:
            await committer.submit(rest, reached.append)
        except Unavailable:
            errors += 1
        else:
            assert reached == sorted(reached)
            return errors


@pytest.mark.parametrize("events_max", [1, 3, 100])
async def test_every_partition_is_booked_in_order_by_what_the_database_takes(events_max):
    store: Any = Store(events_max)
    sink: Any = Sink()
    committer = Committer(store, sink, events_max=50)
    running = asyncio.create_task(committer.run())
    slices = [slice_of(partition, 40) for partition in range(6)]
    async with asyncio.timeout(60):
        errors = await asyncio.gather(*(submit_until_committed(committer, one) for one in slices))
    running.cancel()
    assert store.ends == dict.fromkeys(range(6), 40)
    assert max(sum(len(one.events) for one in group) for group in store.groups) <= events_max
    # 50, 25, 12, 6, 3, 1: a slice that waited meanwhile is cut before it is tried.
    assert (sum(errors) == 0) == (events_max == 100)


async def test_an_error_that_is_not_retriable_reaches_each_of_its_slices_and_shrinks_nothing():
    store: Any = Store(10)
    store.error = Fenced("another worker")
    sink: Any = Sink()
    committer = Committer(store, sink, events_max=50)
    running = asyncio.create_task(committer.run())
    with pytest.raises(Fenced):
        await committer.submit(slice_of(0, 20))
    assert not committer._size.is_reduced
    running.cancel()
