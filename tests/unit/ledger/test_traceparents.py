"""A record's `traceparent` is found after its group was committed, however that was done."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ledger_sink.booking.publisher import find_traceparents
from ledger_sink.rules.book import LogEvent
from ledger_sink.store.groups import AppliedGroup, PendingGroup, Slice, split_slice
from ledger_sink.store.reading import ReadSet
from ledger_sink.store.transaction import LedgerTransaction
from schemas.events import Position
from tests.support.ledger_events import bet

TOPIC = "wallet.transactions.v1"
FIRST, NEXT = 10, 16


def parent_of(offset: int) -> bytes:
    return b"00-%032x-%016x-01" % (offset, offset)


def slice_of_records() -> Slice:
    """Six records; one of two offsets is an event, and 12 is none but has a trace."""
    records: list[Any] = [
        SimpleNamespace(
            offset=offset,
            timestamp=offset,
            key=b"p",
            value=b"v",
            headers=[("traceparent", parent_of(offset))],
        )
        for offset in range(FIRST, NEXT)
        if offset != 11  # a gap of the log
    ]
    events = [
        LogEvent(bet(str(offset), 100), Position(TOPIC, 3, offset)) for offset in (10, 13, 15)
    ]
    return Slice(3, FIRST, NEXT, events, records=records)


def commit_after_locks(slices: list[Slice], committed: int) -> AppliedGroup:
    """What a group becomes whose positions were locked and read."""
    group = PendingGroup(slices, [], ReadSet())
    trips: Any = SimpleNamespace(connection=None)
    transaction = LedgerTransaction(trips, TOPIC, 4)
    return transaction.trim_committed(group, {3: (committed, 1)}, {3: 1})


@pytest.mark.parametrize(
    ("committed", "expected"),
    [(FIRST, [10, 12, 13, 14, 15]), (13, [13, 14, 15]), (14, [14, 15]), (NEXT, [])],
)
def test_a_group_that_was_read_keeps_the_traces_of_its_new_records(committed, expected):
    applied = commit_after_locks([slice_of_records()], committed)
    assert find_traceparents(applied) == {(3, offset): parent_of(offset) for offset in expected}
    assert [one.source.offset for own in applied.newly_committed for one in own.events] == [
        offset for offset in (10, 13, 15) if offset >= committed
    ]


def test_a_piece_of_a_slice_has_the_traces_of_its_own_records():
    first, rest = split_slice(slice_of_records(), 1)
    assert rest is not None
    found = [commit_after_locks([one], one.from_offset) for one in (first, rest)]
    assert [[offset for _, offset in find_traceparents(one)] for one in found] == [
        [10, 12],
        [13, 14, 15],
    ]
