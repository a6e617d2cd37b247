"""Booking around what cannot be booked, by the ledger's own handler over the simulator's database."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from lab.simulator.database import SimulatedDatabase
from lab.simulator.process import Process
from lab.simulator.tables import TEXT_MAX, Server
from ledger_sink.booking.committer import Committer
from ledger_sink.booking.handler import LedgerHandler
from ledger_sink.booking.positions import claim_positions
from ledger_sink.rules import adjustments
from ledger_sink.rules.leg_rules import LEG_RULES
from ledger_sink.store.event_decoder import EventDecoder
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.log_check import checksum
from runtime.kafka.batches import RecordBatch
from schemas import codec
from schemas.errors import Fenced, PartitionStuck
from schemas.events import Leg, Position, WalletTransaction
from schemas.identity import quarantined_record
from schemas.topics import TRANSACTIONS
from streams.providers.registry import policies
from tests.support.ledger_events import deposit, quarantine, transaction

ENCODE = codec.encoder(WalletTransaction)
UNKNOWN = transaction("teleport", "t", Leg("TELEPORT"))


class Publisher:
    async def enqueue(self, applied: Any) -> None:
        """Take what was committed."""


class Log:
    """The records of all partitions, and what was read of them beside the batches."""

    def __init__(self) -> None:
        self.records: dict[int, list[Any]] = {}
        self.reads: list[tuple[int, int]] = []

    def append(self, partition: int, *events: WalletTransaction | bytes) -> None:
        records = self.records.setdefault(partition, [])
        for event in events:
            value = event if isinstance(event, bytes) else ENCODE(event)
            record = SimpleNamespace(
                topic=TRANSACTIONS,
                partition=partition,
                offset=len(records),
                timestamp=5,
                key=b"k",
                value=value,
            )
            records.append(record)

    def batch(self, partition: int, first: int = 0) -> RecordBatch:
        records = self.records[partition]
        return RecordBatch(TRANSACTIONS, partition, first, len(records), records[first:], 1)

    def quarantine(self, partition: int, offset: int) -> None:
        record = self.records[partition][offset]
        name = quarantined_record(
            Position(TRANSACTIONS, partition, offset), checksum(record.key, record.value)
        )
        self.append(partition, quarantine("proposed", name, "ann"))
        self.append(partition, quarantine("approved", name, "bob"))

    async def read_on(self, partition: int, from_offset: int):
        self.reads.append((partition, from_offset))
        for record in self.records[partition][from_offset:]:
            yield record


class Ledger:
    def __init__(self, server: Server, log: Log) -> None:
        self.server, self.log = server, log
        database = SimulatedDatabase(server, Process("ledger", Random(1), lambda _: None), "store")
        self.store = PostgresLedger(database, policies(), topic=TRANSACTIONS)
        self.committer = Committer(self.store, Publisher())  # type: ignore[arg-type]
        decoder = EventDecoder(None)  # type: ignore[arg-type]  # nothing is rejected here
        self.handler = LedgerHandler(self.committer, decoder, log)

    async def claim(self) -> None:
        claims = await claim_positions(self.store.database, [0, 1], topic=TRANSACTIONS)
        self.store.epochs.update({number: claim.epoch for number, claim in claims.items()})

    def answers(self, partition: int = 0) -> list[str]:
        rows = [
            row
            for name in ("entry", "repeat")
            for row in self.server.tables[name].rows.values()
            if row["part"] == partition
        ]
        return [row["reason"] for row in sorted(rows, key=lambda row: row["source_offset"])]


@asynccontextmanager
async def started(server: Server, log: Log):
    ledger = Ledger(server, log)
    running = asyncio.create_task(ledger.committer.run())
    await ledger.claim()
    try:
        yield ledger
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_is_before_it_is_booked_and_other_partitions_are_not_touched():
    log = Log()
    log.append(0, deposit("a", 1), deposit("b", 1), UNKNOWN, deposit("c", 1))
    log.append(1, deposit("d", 1, player="p-2"), deposit("e", 1, player="p-2"))
    async with started(Server(), log) as ledger:
        other = asyncio.create_task(ledger.handler.handle(log.batch(1)))
        with pytest.raises(PartitionStuck) as raised:
            await ledger.handler.handle(log.batch(0))
        await other
        assert raised.value.retriable
        stuck = str(raised.value)
        assert f"{TRANSACTIONS}-0@2: no posting rule for kind 'TELEPORT'" in stuck
        assert f"pitboss ledger quarantine {TRANSACTIONS}-0@2" in stuck
        assert ledger.answers(0) == ["BOOKED"] * 2
        assert ledger.answers(1) == ["BOOKED"] * 2
        assert log.reads == [(0, 3)], "of its own partition, and only behind the record"


async def test_a_new_try_reads_on_where_the_last_one_had_searched_and_decides_nothing_again():
    log = Log()
    log.append(0, UNKNOWN, deposit("a", 1), deposit("b", 1))
    async with started(Server(), log) as ledger:
        batch = log.batch(0)
        for _ in range(3):
            with pytest.raises(PartitionStuck):
                await ledger.handler.handle(batch)
        assert log.reads == [(0, 1), (0, 3), (0, 3)]
        log.quarantine(0, 0)
        await ledger.handler.handle(batch)
        assert ledger.answers() == ["QUARANTINED", "BOOKED", "BOOKED"]
        await ledger.handler.handle(log.batch(0, 3))
        assert ledger.answers()[3:] == ["NOTED", "RECORD_QUARANTINED"]


async def test_a_release_that_knows_the_kind_books_it(monkeypatch):
    log, server = Log(), Server()
    log.append(0, deposit("a", 1), UNKNOWN, deposit("b", 1))
    async with started(server, log) as ledger:
        with pytest.raises(PartitionStuck):
            await ledger.handler.handle(log.batch(0))
    monkeypatch.setitem(LEG_RULES, "TELEPORT", adjustments.note_event)
    async with started(server, log) as ledger:
        await ledger.handler.handle(log.batch(0, 1))
        assert ledger.answers() == ["BOOKED", "NOTED", "BOOKED"]


async def test_a_worker_that_takes_over_finds_the_same_place_and_its_quarantine():
    log, server = Log(), Server()
    log.append(0, deposit("a", 1), UNKNOWN, deposit("b", 1))
    async with started(server, log) as first:
        with pytest.raises(PartitionStuck):
            await first.handler.handle(log.batch(0))
        async with started(server, log) as second:
            with pytest.raises(PartitionStuck):
                await second.handler.handle(log.batch(0, 1))
            log.quarantine(0, 1)
            await second.handler.handle(log.batch(0, 1))
            assert second.answers()[:3] == ["BOOKED", "QUARANTINED", "BOOKED"]
        with pytest.raises(Fenced):
            await first.handler.handle(log.batch(0))


@pytest.mark.parametrize("before", range(5))
async def test_the_event_that_the_database_refuses_is_found_among_any_others(before):
    log = Log()
    names = [f"n{number}" for number in range(before)] + ["x" * (TEXT_MAX + 1), "y", "z"]
    log.append(0, *[deposit(name, 1) for name in names])
    async with started(Server(), log) as ledger:
        with pytest.raises(PartitionStuck, match=rf"{TRANSACTIONS}-0@{before}: .* too long"):
            await ledger.handler.handle(log.batch(0))
        assert ledger.answers() == ["BOOKED"] * before
        log.quarantine(0, before)
        await ledger.handler.handle(log.batch(0))
        assert ledger.answers()[before:-2] == ["QUARANTINED", "BOOKED", "BOOKED"]
