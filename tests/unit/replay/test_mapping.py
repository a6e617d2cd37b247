"""Offsets of an earlier log found again in a mirror: by events, in their order, and nothing is guessed."""

from __future__ import annotations

import asyncio

import pytest

from ledger_sink.store.database import LedgerDatabase
from replay.log.blocks import LogGap
from replay.recovery.mapping import MappedLog, MappedRun, MirrorScan, PartitionMapping
from replay.recovery.survey import Obstacle, RecoveryRefused
from schemas import codec
from schemas.events import WalletTransaction
from schemas.topics import TRANSACTIONS
from tests.support.ledger_events import bet
from tests.support.memory_log import MemoryLog, MemoryRecord

EVENTS = [bet(f"b{number}", number + 1) for number in range(10)]
OLD = [3, 4, 5, 7, 8, 20, 21, 22, 30, 31]
"""Offsets of the events in the earlier log, markers between them."""


def mirror(offsets, events=EVENTS) -> MemoryLog:
    encode = codec.encoder(WalletTransaction)
    rows = [
        MemoryRecord(offset, 1_000 + offset, b"p-1", encode(event))
        for offset, event in zip(offsets, events, strict=True)
    ]
    return MemoryLog({TRANSACTIONS: {0: rows}})


def scan(source: MemoryLog, booked: int) -> PartitionMapping:
    """Map a mirror of which the first so many events are booked."""
    known = {
        (0, event.event_id, event.attempt): [offset]
        for event, offset in zip(EVENTS[:booked], OLD, strict=False)
    }
    scanning = MirrorScan(LedgerDatabase("", "none"), source, TRANSACTIONS, known)
    end = OLD[booked - 1] + 1
    bounds = source.bounds(TRANSACTIONS)[0]
    return asyncio.run(scanning.map_partition(0, end, bounds, OLD[:booked]))


def test_runs_follow_both_logs_and_the_position_is_behind_the_last_booked_record():
    found = scan(mirror(range(10)), 7)
    assert [(run.from_offset, run.next_offset, run.new_offset) for run in found.runs] == [
        (3, 6, 0),
        (7, 9, 3),
        (20, 22, 5),
    ]
    assert (found.booked, found.position, found.end) == (22, 7, 10)
    assert [found.translate(offset) for offset in (3, 5, 6, 8, 21, 22, 40)] == [0, 2, 3, 4, 6, 7, 7]


def test_a_mirror_may_begin_later_but_not_lack_what_is_behind():
    assert scan(mirror(range(6), EVENTS[4:]), 7).position == 3
    with pytest.raises(RecoveryRefused) as refused:
        scan(mirror(range(9), EVENTS[:3] + EVENTS[4:]), 7)
    assert refused.value.obstacle is Obstacle.LOG_ENDS_EARLIER
    with pytest.raises(RecoveryRefused) as refused:
        scan(mirror(range(5), EVENTS[:5]), 7)
    assert refused.value.obstacle is Obstacle.LOG_ENDS_EARLIER
    assert "lacks 2" in str(refused.value)


def test_an_event_that_is_not_booked_before_one_that_is_means_another_log():
    stranger = bet("stranger", 5)
    with pytest.raises(RecoveryRefused) as refused:
        scan(mirror(range(11), [*EVENTS[:3], stranger, *EVENTS[3:]]), 7)
    assert refused.value.obstacle is Obstacle.OTHER_RECORD


RUNS = {0: [MappedRun(0, 3, 6, 0), MappedRun(0, 7, 9, 3), MappedRun(0, 20, 22, 5)]}


def test_a_bound_log_is_read_in_the_offsets_of_the_rows():
    rest = [40, 41, 42]
    log = MappedLog(mirror([*range(7), *rest]), TRANSACTIONS, RUNS, {0: 40})
    read = [offset for block in log.read(TRANSACTIONS, 0, 3, 43) for offset in block.offsets]
    assert read == [*OLD[:7], *rest]
    assert [o for block in log.read(TRANSACTIONS, 0, 5, 21) for o in block.offsets] == [5, 7, 8, 20]
    assert log.bounds(TRANSACTIONS) == {0: (3, 43)}
    assert log.first_at(TRANSACTIONS, 1_004) == {0: 8}
    assert log.first_at(TRANSACTIONS, 1_041) == {0: 41}
    with pytest.raises(LogGap):
        [*log.read(TRANSACTIONS, 0, 0, 5)]
