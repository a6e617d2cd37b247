"""Events of recorded batches, read again in windows: any order of partitions, quarantines and all."""

from __future__ import annotations

import pytest

from ledger_sink.store.log_check import checksum
from replay.ledger import rebuild
from replay.ledger.rebuild import WindowReader
from schemas import codec
from schemas.errors import InvariantBroken
from schemas.events import Position, WalletTransaction
from schemas.identity import quarantined_record
from schemas.topics import TRANSACTIONS
from tests.support.ledger_events import bet, deposit, quarantine
from tests.support.memory_log import MemoryLog, MemoryRecord, transactions_log

encode, decode = codec.encoder(WalletTransaction), codec.decoder(WalletTransaction)
NEWER = codec.frame_of(810_099) + b"?"


def log_of(*values: bytes) -> MemoryLog:
    rows = [
        MemoryRecord(offset, 1_000 + offset, b"p-1", value) for offset, value in enumerate(values)
    ]
    return MemoryLog({TRANSACTIONS: {0: rows}}, block_records=2)


def approvals(offset: int, value: bytes) -> list[bytes]:
    place = Position(TRANSACTIONS, 0, offset)
    record = quarantined_record(place, checksum(b"p-1", value))
    return [
        encode(quarantine(step, record, who))
        for step, who in (("proposed", "ann"), ("approved", "bob"))
    ]


def events_of(reader: WindowReader, *batches: tuple[int, int, int]):
    return [list(slice_.events) for slice_ in reader.slices(batches)]


def test_batches_of_partitions_in_turns_get_exactly_their_events(monkeypatch):
    monkeypatch.setattr(rebuild, "_WINDOW_RECORDS", 16)
    log = transactions_log(TRANSACTIONS, 3, 120)
    bounds = {partition: end for partition, (_, end) in log.bounds(TRANSACTIONS).items()}
    batches, reached = [], dict.fromkeys(bounds, 0)
    for step in range(200):
        partition = step % 3
        begin, end = reached[partition], min(bounds[partition], reached[partition] + 1 + step % 40)
        if begin < end:
            batches.append((partition, begin, end))
            reached[partition] = end
    assert reached == bounds
    reader = WindowReader(log, TRANSACTIONS, bounds)
    for (partition, begin, end), events in zip(batches, events_of(reader, *batches), strict=True):
        expected = [r for r in log.records[TRANSACTIONS][partition] if begin <= r.offset < end]
        assert [one.source.offset for one in events] == [r.offset for r in expected]
        assert [one.logged_at for one in events] == [r.timestamp_ms for r in expected]
        assert [one.event for one in events] == [decode(r.value or b"") for r in expected]
    assert reader.events == 360


def test_a_quarantined_record_is_booked_as_the_ledger_did_and_its_approval_may_lie_far_behind():
    event = encode(bet("b", 1))
    log = log_of(encode(deposit("d", 5)), event, NEWER, *approvals(1, event), *approvals(2, NEWER))
    reader = WindowReader(log, TRANSACTIONS, {0: 3}, {(0, 1), (0, 2)})
    [(first, second, third)] = events_of(reader, (0, 0, 3))
    assert first.quarantine is None
    assert second.event.provider_tx_id == "b"
    assert second.quarantine is not None
    assert second.quarantine.approved_by == "bob"
    assert third.event.operation == "quarantined"
    assert (third.source.offset, third.logged_at) == (2, 1_002)


def test_what_cannot_be_booked_again_is_an_error_with_its_place():
    event = encode(bet("b", 1))
    with pytest.raises(InvariantBroken, match=f"{TRANSACTIONS}-0@1: .*the release that wrote it"):
        events_of(WindowReader(log_of(event, NEWER), TRANSACTIONS, {0: 2}), (0, 0, 2))
    with pytest.raises(InvariantBroken, match=f"{TRANSACTIONS}-0@0 is quarantined without"):
        events_of(WindowReader(log_of(event, event), TRANSACTIONS, {0: 2}, {(0, 0)}), (0, 0, 2))
    reader = WindowReader(log_of(event, b"{}"), TRANSACTIONS, {0: 2})
    assert [len(events) for events in events_of(reader, (0, 0, 2))] == [1]
    assert reader.unreadable == 1
