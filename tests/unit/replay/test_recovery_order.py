"""The log over all partitions in the order of its times, and each partition in its own order."""

from __future__ import annotations

import random

from replay.recovery.order import OrderedLog, first_time_ms
from schemas import codec
from schemas.events import WalletTransaction
from schemas.topics import TRANSACTIONS
from tests.support.ledger_events import bet
from tests.support.memory_log import MemoryLog, MemoryRecord


def make_log(seed: int) -> MemoryLog:
    rng = random.Random(seed)
    encode = codec.encoder(WalletTransaction)
    rows: dict[int, list[MemoryRecord]] = {0: [], 1: [], 2: []}
    for number in range(60):
        some = rows[rng.randrange(3)]
        offset = some[-1].offset + rng.choice([1, 1, 5]) if some else rng.randrange(3)
        value = b"rubbish" if number % 17 == 0 else encode(bet(f"b{number}", 1))
        some.append(MemoryRecord(offset, 1_000 + number, b"k", value))
    return MemoryLog({TRANSACTIONS: rows}, block_records=7)


def test_records_come_in_the_order_of_their_times_from_their_starts():
    for seed in range(5):
        log = make_log(seed)
        ends = {number: end for number, (_, end) in log.bounds(TRANSACTIONS).items()}
        starts = {0: 4, 1: 0, 2: ends[2]}
        found = [*OrderedLog(log, TRANSACTIONS, starts, ends)]
        wanted = sorted(
            (row.timestamp_ms, number, row.offset)
            for number, rows in log.records[TRANSACTIONS].items()
            for row in rows
            if row.offset >= starts[number]
        )
        places = [(one.timestamp_ms, one.source.partition, one.source.offset) for one in found]
        assert places == wanted
        assert first_time_ms(log, TRANSACTIONS, starts, ends) == wanted[0][0]
        assert all((one.event is None) == ((one.timestamp_ms - 1_000) % 17 == 0) for one in found)


def test_a_partition_whose_times_go_back_keeps_its_order():
    encode = codec.encoder(WalletTransaction)
    rows = [MemoryRecord(n, at, b"k", encode(bet(f"b{n}", 1))) for n, at in enumerate([9, 3, 5])]
    other = [MemoryRecord(0, 4, b"k", encode(bet("x", 1)))]
    log = MemoryLog({TRANSACTIONS: {0: rows, 1: other}})
    found = [*OrderedLog(log, TRANSACTIONS, {0: 0, 1: 0}, {0: 3, 1: 1})]
    assert [(one.source.partition, one.source.offset) for one in found] == [
        (1, 0),
        (0, 0),
        (0, 1),
        (0, 2),
    ]
