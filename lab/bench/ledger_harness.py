"""The ledger's own code over encoded batches, timed to its commits, and COPY of its rows."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, LiteralString, Self, cast

import psycopg
from aiokafka.structs import ConsumerRecord

from lab.bench.ledger_traffic import START_MS, EncodedRecord
from lab.bench.processes import machine_cpu_s
from lab.bench.rates import Rate
from ledger_sink.booking.committer import Committer
from ledger_sink.booking.handler import LedgerHandler
from ledger_sink.booking.positions import claim_positions
from ledger_sink.store.copy_rows import month_of
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.event_decoder import EventDecoder
from ledger_sink.store.groups import AppliedGroup
from ledger_sink.store.ledger import PostgresLedger
from runtime.dead_letters.sink import KafkaDeadLetterSink, Rejection
from runtime.kafka.batches import RecordBatch
from runtime.kafka.partitioner import partition_for
from runtime.postgres.statements import statements_of
from schemas.errors import PitbossError
from schemas.policies import DEFAULT_POLICY
from schemas.topics import PARTITIONS_DEFAULT, TRANSACTIONS

PARTITIONS: Final = PARTITIONS_DEFAULT
"""Every partition of a log: one worker owns all of them."""

BATCH_EVENTS: Final = 2_000
"""Of one partition: as much as a busy intake passes on at once."""

COPY_BYTES: Final = 1 << 18
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_SQL: Final = statements_of("lab.bench", "ledger")
MONTH: Final = month_of(START_MS)
_FILL_ROWS: Final = 500_000
"""Rows of a transaction, so that it can be seen how far the filling is."""

CopyRows = tuple[list[bytes], list[bytes]]
"""Rows of one transaction as COPY prints them: entries, transfers."""


class _FailingDeadLetterSink(KafkaDeadLetterSink):
    """A dead-letter sink without a broker: none of a bench's events may be rejected."""

    def __init__(self) -> None:
        pass

    async def publish_all(self, rejections: Sequence[Rejection]) -> None:
        """Raise PitbossError, since every record of a bench must be an event."""
        raise PitbossError(
            f"the bench made {len(rejections)} records that are not events: {rejections[0]}"
        )


class _PublishCounter:
    """Stands in for the publisher and sends nothing: the rate is measured up to the commit."""

    def __init__(self) -> None:
        self.transactions = 0
        self.transfers = 0

    async def enqueue(self, applied: AppliedGroup) -> None:
        """Count the group's transaction and its transfers."""
        self.transactions += 1
        self.transfers += len(applied.book.new_transfers)


@dataclass(frozen=True)
class LedgerRun:
    """One run of events through the ledger."""

    rate: Rate
    """In transfers; CPU of this process and of the database's, as far as it can be seen."""
    client_cpu_s: float
    transactions: int
    events: int
    batch_ms: Sequence[float] = ()
    """How long each batch took, from its handler to its commit."""


class LedgerHarness:
    """One ledger's database, written by the ledger's own handler, committer and store.

    Use it in `async with`.
    """

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self._database = LedgerDatabase(database_url, "pitboss.ledger")
        self._store = PostgresLedger(
            self._database, {"hub88": DEFAULT_POLICY, "adyen": DEFAULT_POLICY}
        )
        self._next = [0] * PARTITIONS
        self._sink = _PublishCounter()
        committer = Committer(self._store, cast("Any", self._sink))
        decoder, unread_log = EventDecoder(_FailingDeadLetterSink()), cast("Any", None)
        self._handler = LedgerHandler(committer, decoder, unread_log)
        self._committer = committer
        self._backend = 0

    async def __aenter__(self) -> Self:
        claims = await claim_positions(self._database, range(PARTITIONS))
        self._store.epochs.update({partition: claim.epoch for partition, claim in claims.items()})
        self._next = [claims[partition].next_offset for partition in range(PARTITIONS)]
        [(self._backend,)] = await self._database.query("SELECT pg_backend_pid()")
        self._running = asyncio.create_task(self._committer.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._database.close()

    def batches(
        self, records: Sequence[EncodedRecord], size: int = BATCH_EVENTS
    ) -> list[list[RecordBatch]]:
        """Split the records into batches by partition, as an intake would pass them on."""
        by_partition: list[list[EncodedRecord]] = [[] for _ in range(PARTITIONS)]
        for record in records:
            by_partition[partition_for(record[0], PARTITIONS)].append(record)
        return [
            list(self._to_batches(partition, partition_records, size))
            for partition, partition_records in enumerate(by_partition)
        ]

    def _to_batches(
        self, partition: int, records: Sequence[EncodedRecord], size: int
    ) -> Iterator[RecordBatch]:
        for start in range(0, len(records), size):
            first = self._next[partition]
            batch = [
                ConsumerRecord(
                    TRANSACTIONS,
                    partition,
                    first + n,
                    1_790_000_000_000,
                    1,
                    key,
                    value,
                    None,
                    len(key),
                    len(value),
                    (),
                )
                for n, (key, value) in enumerate(records[start : start + size])
            ]
            self._next[partition] += len(batch)
            yield RecordBatch(TRANSACTIONS, partition, first, self._next[partition], batch, 1)

    async def run(
        self, records: Sequence[EncodedRecord], report: Callable[[int, int], None]
    ) -> LedgerRun:
        """Book the records, a batch of each partition at a time, and time it to the last commit."""
        return await self._book(self.batches(records), len(records), report)

    async def run_one_in_flight(
        self, records: Sequence[EncodedRecord], report: Callable[[int, int], None]
    ) -> LedgerRun:
        """Book the records one by one, each committed before the next."""
        one_by_one = [batch for record in records for batch in self._to_single_batch(record)]
        return await self._book([one_by_one], len(records), report)

    def _to_single_batch(self, record: EncodedRecord) -> Iterator[RecordBatch]:
        return self._to_batches(partition_for(record[0], PARTITIONS), [record], 1)

    async def _book(
        self,
        sequences: Sequence[Sequence[RecordBatch]],
        records: int,
        report: Callable[[int, int], None],
    ) -> LedgerRun:
        before, start = (self._sink.transfers, self._sink.transactions), self._spent()
        handled = 0
        batch_ms: list[float] = []

        async def book_in_order(batches: Sequence[RecordBatch]) -> None:
            nonlocal handled
            for batch in batches:
                start_s = time.perf_counter()
                await self._handler.handle(batch)
                batch_ms.append((time.perf_counter() - start_s) * 1000)
                handled += len(batch.records)
                report(handled, records)

        await asyncio.gather(*(book_in_order(batches) for batches in sequences))
        spent = self._spent() - start
        transfers, transactions = (
            self._sink.transfers - before[0],
            self._sink.transactions - before[1],
        )
        return LedgerRun(spent.rate(transfers), spent.client_s, transactions, records, batch_ms)

    def _spent(self) -> CpuUsage:
        return CpuUsage.now(self._backend)

    async def rows(
        self, partition_ranges: Sequence[tuple[int, int]], transactions: int
    ) -> list[CopyRows]:
        """Return what the ledger wrote for an offset range of each partition.

        The rows are cut into so many transactions.
        """
        entries, transfers = [
            await self._copy_out(table, partition_ranges) for table in ("entry", "transfer")
        ]
        return [
            (
                entries[len(entries) * n // transactions : len(entries) * (n + 1) // transactions],
                transfers[
                    len(transfers) * n // transactions : len(transfers) * (n + 1) // transactions
                ],
            )
            for n in range(transactions)
        ]

    async def _copy_out(
        self, table: LiteralString, partition_ranges: Sequence[tuple[int, int]]
    ) -> list[bytes]:
        lines: list[bytes] = []
        for partition, (first, end) in enumerate(partition_ranges):
            where = f"part = {partition} AND source_offset >= {first} AND source_offset < {end}"
            query = f"COPY (SELECT * FROM {table} WHERE {where} ORDER BY source_offset) TO STDOUT"  # noqa: S608 - names and numbers of our own
            async with (
                self._database.transaction() as connection,
                connection.cursor() as cursor,
                cursor.copy(query.encode()) as copy,
            ):
                lines += [bytes(line) async for line in copy]
        return lines

    async def server_settings(self) -> dict[str, str]:
        """Return the server's settings that a rate depends on."""
        return dict(await self._database.query(_SQL["server"]))

    @property
    def next_offsets(self) -> list[int]:
        """The next offset of each partition."""
        return list(self._next)


@dataclass(frozen=True)
class CpuUsage:
    """Times at one moment, or the difference of two."""

    at_s: float
    client_s: float
    backend_s: float
    machine_s: float

    @classmethod
    def now(cls, backend_pid: int) -> CpuUsage:
        """Read the times now; the backend's are 0 where it runs on another machine."""
        try:
            stat = (
                Path(f"/proc/{backend_pid}/stat")
                .read_text(encoding="utf-8")
                .rpartition(")")[2]
                .split()
            )
        except OSError:
            stat = ["0"] * 13
        backend_s = (int(stat[11]) + int(stat[12])) / _TICKS_PER_S
        return cls(time.perf_counter(), time.process_time(), backend_s, machine_cpu_s())

    def __sub__(self, other: CpuUsage) -> CpuUsage:
        return CpuUsage(
            self.at_s - other.at_s,
            self.client_s - other.client_s,
            self.backend_s - other.backend_s,
            self.machine_s - other.machine_s,
        )

    def rate(self, count: int) -> Rate:
        """Return the rate of `count` things in this time."""
        cpu_s = self.client_s + self.backend_s
        return Rate(count, self.at_s, cpu_s, max(0.0, self.machine_s - cpu_s))


class CopyFloor:
    """Tables with the unique and primary keys only, filled by COPY over one connection."""

    def __init__(self, database_url: str) -> None:
        self._connection = psycopg.connect(
            database_url, autocommit=True, options="-c synchronous_commit=on"
        )
        self._connection.execute(_SQL["floor"])

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def run(self, transactions: Sequence[CopyRows]) -> Rate:
        """Copy rows that are ready in memory and return the rate in transfers.

        Each transfer goes with its entry.
        """
        # Joined beforehand: PostgreSQL's time must not hold the making and cutting of text.
        ready = [(b"".join(entries), b"".join(transfers)) for entries, transfers in transactions]
        start = CpuUsage.now(self._connection.info.backend_pid)
        for entries, transfers in ready:
            with self._connection.transaction():
                self._copy("COPY bare.entry FROM STDIN", entries)
                self._copy("COPY bare.transfer FROM STDIN", transfers)
        spent = CpuUsage.now(self._connection.info.backend_pid) - start
        return spent.rate(sum(len(transfers) for _, transfers in transactions))

    def _copy(self, statement: LiteralString, data: bytes) -> None:
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for start in range(0, len(data), COPY_BYTES):
                copy.write(data[start : start + COPY_BYTES])


def make_month(database_url: str) -> None:
    """Make the partition that all transfers of a measurement go to."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_SQL["make_month"], {"month": MONTH})


def fill_history(
    database_url: str, rows: int, players: int, report: Callable[[int, int], None]
) -> None:
    """Give a ledger in which each player has made a deposit a past of so many rows.

    They are as wide as those of play.
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        [(offset,)] = connection.execute("SELECT max(next_offset) FROM stream_position").fetchall()
        for first in range(0, rows, _FILL_ROWS):
            last = min(first + _FILL_ROWS, rows) - 1
            where = {
                "first": first,
                "last": last,
                "players": players,
                "offset": offset,
                "month": MONTH,
            }
            connection.execute(_SQL["fill_entries"], where)
            connection.execute(_SQL["fill_transfers"], where)
            report(last + 1, rows)
        connection.execute(_SQL["fill_wallets"])
        connection.execute(_SQL["fill_positions"], {"offset": offset, "rows": rows})
        for table in ("entry", "transfer", "wallet"):
            connection.execute(f"VACUUM (ANALYZE) {table}".encode())
        connection.execute("CHECKPOINT")
