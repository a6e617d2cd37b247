"""The three roles: the real normaliser, ledger and resolver on the servers in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from lab.simulator.broker import Broker, SimulatedRecord
from lab.simulator.database import SimulatedDatabase
from lab.simulator.process import Process
from lab.simulator.workers import (
    LEDGER,
    NORMALISE,
    RESOLVE,
    Partition,
    SimulatedWorker,
    SimulationEnvironment,
)
from ledger_sink.booking.committer import Committer
from ledger_sink.booking.handler import LedgerHandler
from ledger_sink.booking.messages import Message
from ledger_sink.booking.positions import LedgerPositions, PositionGuard
from ledger_sink.booking.publisher import Publisher, TracedMessage
from ledger_sink.resolve.barriers import Bounds, EndOffsets
from ledger_sink.resolve.handler import ResolveHandler, ResolvePositions
from ledger_sink.resolve.resolver import Resolver, TracedRecord
from ledger_sink.store.event_decoder import EventDecoder
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.log_check import StoredPosition
from runtime.dead_letters.sink import KafkaDeadLetterSink, Rejection
from runtime.kafka.batches import RecordBatch
from runtime.security import BrokerAddress
from schemas.errors import InvariantBroken, Unavailable
from schemas.topics import ALERTS, BALANCES, OUTCOMES, SIGNALS, TRANSACTIONS, UNRESOLVED
from streams.normalise.mapping.normaliser import AcceptedTransaction, RejectedItem

SWEEP_S: Final = 0.5
MIN_AGE_MS: Final = 500


class _RefusingSink:
    """Dead-letter sink that fails: the normaliser writes only events, so none is rejected."""

    async def publish_all(self, rejections: Sequence[Rejection]) -> None:
        message = f"{len(rejections)} records of the log are not events: {rejections[0].detail}"
        raise InvariantBroken(message)


def _event_decoder() -> EventDecoder:
    return EventDecoder(cast("KafkaDeadLetterSink", _RefusingSink()))


@dataclass(frozen=True)
class _SimulatedGuard(PositionGuard):
    """Guard that compares stored positions with the log in memory."""

    simulated: Broker | None = None

    async def check_installation(self) -> None:
        """Accept: there is only one broker and one database."""

    async def verify(self, stored: Mapping[int, StoredPosition]) -> None:
        """Compare stored positions with the log. Raises LogMismatch."""
        assert self.simulated is not None
        self.simulated.verify(self.group, self.topic, stored)


async def _count_nothing() -> int:
    return 0


class SimulatedNormaliseWorker(SimulatedWorker):
    """Worker that turns raw records into events of the log."""

    role = NORMALISE

    async def start_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """Return the offsets that the group has committed."""
        await self.process.reach("assigned")
        return {
            (topic, partition): self.environment.broker.committed.get(
                (self.role, topic, partition), 0
            )
            for topic, partition in partitions
        }

    async def release(self, partitions: Collection[Partition]) -> None:
        """Do nothing: a normaliser keeps no state of a partition."""

    async def handle(self, batch: RecordBatch) -> None:
        """Append the events of a batch."""
        outgoing: dict[str, list[tuple[bytes, bytes]]] = {TRANSACTIONS: [], UNRESOLVED: []}
        for record in batch.records:
            for item in self.environment.normaliser.normalise(record):
                if isinstance(item, AcceptedTransaction):
                    outgoing[item.topic].append((item.key, item.value))
                elif isinstance(item, RejectedItem):
                    where = f"{batch.topic}-{batch.partition}@{record.offset}"
                    message = f"{where} was rejected: {item.detail}"
                    raise InvariantBroken(message)
        for topic, records in outgoing.items():
            if records:
                await self.environment.broker.send(
                    self.process, topic, records, self.environment.now_ms()
                )


class _SimulatedLogReader:
    """Reads partitions of the log beside the worker's own batches."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self._broker = broker
        self._process = process

    async def read_on(
        self, partition: int, from_offset: int
    ) -> AsyncGenerator[SimulatedRecord, None]:
        """Yield the records from an offset up to the present end."""
        await self._process.reach("read on")
        records, _ = self._broker.topics[TRANSACTIONS][partition].between(from_offset, 10**9)
        for record in records:
            yield record


class SimulatedLedgerWorker(SimulatedWorker):
    """Worker that books the log and publishes balances and outcomes."""

    role = LEDGER

    def __init__(self, environment: SimulationEnvironment, process: Process) -> None:
        super().__init__(environment, process)
        store_database, publishing, claiming = (
            SimulatedDatabase(environment.server, process, name)
            for name in ("store", "publisher", "claim")
        )
        few = environment.rng.choice((0, 200))  # exercises both ways of writing rows
        store = PostgresLedger(
            store_database, environment.policies, topic=TRANSACTIONS, few_events_max=few
        )
        self._publisher = Publisher(
            publishing,
            self._send,
            store.epochs,
            log_topic=TRANSACTIONS,
            balances_topic=BALANCES,
            outcomes_topic=OUTCOMES,
            alerts_topic=ALERTS,
            signals_topic=SIGNALS,
        )
        # Small groups make others wait, which are decided while the group before is written.
        committer = Committer(
            store, self._publisher, events_max=environment.rng.choice((1, 1, 15, 5_000))
        )
        guard = _SimulatedGuard(
            claiming,
            BrokerAddress("in memory"),
            self.role,
            TRANSACTIONS,
            _count_nothing,
            environment.broker,
        )
        self._positions = LedgerPositions(guard, store.epochs, self._publisher)
        self._handler = LedgerHandler(
            committer, _event_decoder(), _SimulatedLogReader(environment.broker, process)
        )
        for work in (committer.run(), self._publisher.run(), self._store_cursors()):
            process.start(work)

    async def _send(self, topic: str, records: Sequence[Message | TracedMessage]) -> None:
        if records:
            pairs = [(record[0], record[1]) for record in records]
            await self.environment.broker.send(
                self.process, topic, pairs, self.environment.now_ms()
            )

    async def _store_cursors(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            try:
                await self._publisher.store_cursors()
            except Unavailable:
                continue

    async def start_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """Claim positions, compare them with the log, publish what was not published."""
        return await self._positions.claim(partitions)

    async def handle(self, batch: RecordBatch) -> None:
        """Book a batch."""
        await self._handler.handle(batch)

    async def release(self, partitions: Collection[Partition]) -> None:
        """Publish what is committed and forget the partitions' epochs."""
        await self._positions.release(partitions)


class SimulatedResolveWorker(SimulatedWorker):
    """Worker that finds the players of events that name none."""

    role = RESOLVE

    def __init__(self, environment: SimulationEnvironment, process: Process) -> None:
        super().__init__(environment, process)
        database = SimulatedDatabase(environment.server, process, "resolver")
        self._resolver = Resolver(
            database,
            self._append,
            _SimulatedProgress(environment),
            topic=UNRESOLVED,
            log_topic=TRANSACTIONS,
            min_age_ms=MIN_AGE_MS,
        )
        guard = _SimulatedGuard(
            database,
            BrokerAddress("in memory"),
            self.role,
            UNRESOLVED,
            _count_nothing,
            environment.broker,
        )
        self._positions = ResolvePositions(guard, self._resolver)
        self._handler = ResolveHandler(self._resolver, _event_decoder())
        process.start(self._sweep())

    async def _append(self, records: Sequence[tuple[bytes, bytes] | TracedRecord]) -> None:
        pairs = [(one[0], one[1]) for one in records]
        await self.environment.broker.send(
            self.process, TRANSACTIONS, pairs, self.environment.now_ms()
        )

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self._resolver.sweep()
            except Unavailable:
                continue

    async def start_offsets(self, partitions: Collection[Partition]) -> Mapping[Partition, int]:
        """Claim positions and compare them with the topic."""
        return await self._positions.claim(partitions)

    async def handle(self, batch: RecordBatch) -> None:
        """Park the events of a batch."""
        await self._handler.handle(batch)

    async def release(self, partitions: Collection[Partition]) -> None:
        """Forget the partitions' epochs."""
        await self._positions.release(partitions)


class _SimulatedProgress:
    """Offsets of the pipeline, as the broker reports them to the resolver."""

    def __init__(self, environment: SimulationEnvironment) -> None:
        self._environment = environment

    async def raw_ends(self) -> EndOffsets:
        return self._environment.broker.ends(self._environment.raw_topics)

    async def raw_bounds(self, topics: Collection[str]) -> Bounds:
        ends = self._environment.broker.ends(sorted(topics))
        return {name: (0, end) for name, end in ends.items()}

    async def normalised_offsets(self) -> EndOffsets:
        committed = self._environment.broker.committed
        return {
            f"{topic}-{partition}": offset
            for (role, topic, partition), offset in committed.items()
            if role == NORMALISE
        }

    async def log_ends(self) -> EndOffsets:
        return self._environment.broker.ends([TRANSACTIONS])

    async def unresolved_ends(self) -> EndOffsets:
        return self._environment.broker.ends([UNRESOLVED])


WORKERS: Final[dict[str, type[SimulatedWorker]]] = {
    NORMALISE: SimulatedNormaliseWorker,
    LEDGER: SimulatedLedgerWorker,
    RESOLVE: SimulatedResolveWorker,
}
