"""The resolver's agent: batches of events without a player in, parked; what is found, onto the log."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from aiokafka import TopicPartition
from mode import Service

from ledger_sink.booking.positions import PositionGuard
from ledger_sink.resolve.progress import KafkaPipelineProgress
from ledger_sink.resolve.resolver import CONSUMER, ParkedEvent, Resolver
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.event_decoder import EventDecoder
from ledger_sink.store.log_check import checksum
from runtime.dead_letters.sink import KafkaDeadLetterSink
from runtime.kafka.app import AppSettings, PitbossApp, add_agent, create_app
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.intake import IntakeSettings
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.tasks import crash_on_stray_cancel
from schemas.errors import Unavailable
from schemas.topics import TRANSACTIONS, UNRESOLVED, qualified_name

GROUP = "ledger.resolve"


@dataclass(frozen=True)
class ResolveSettings:
    """What a resolver needs to be told."""

    bootstrap_servers: str
    database_url: str
    namespace: str
    code_version: str
    normalise_group: str
    group_instance_id: str | None = None
    min_age_ms: int = 60_000
    """Not found is final no sooner than this after parking, however far everything else has come.
    """
    sweep_interval_ms: int = 100


class ResolvePositions:
    """Start positions of the unresolved topic, claimed in the database and tied to their topic like
    the ledger's.
    """

    def __init__(self, guard: PositionGuard, resolver: Resolver) -> None:
        self._guard = guard
        self._resolver = resolver

    async def claim(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Take partitions over. Raises LogMismatch, Unavailable."""
        claims = await self._guard.claim(
            [partition.partition for partition in partitions], CONSUMER
        )
        self._resolver.epochs.update({part: claim.epoch for part, claim in claims.items()})
        return {
            TopicPartition(self._guard.topic, part): claim.next_offset
            for part, claim in claims.items()
        }

    async def release(self, partitions: Collection[TopicPartition]) -> None:
        """Forget partitions."""
        for partition in partitions:
            self._resolver.epochs.pop(partition.partition, None)


class Sweeper(Service):
    """Sweeps as long as the worker lives."""

    def __init__(self, resolver: Resolver, database: LedgerDatabase, interval_ms: int) -> None:
        super().__init__()
        self._resolver = resolver
        self._database = database
        self._interval_s = interval_ms / 1000

    @Service.task
    @crash_on_stray_cancel
    async def _sweep(self) -> None:
        while not self.should_stop:
            began_s = time.monotonic()
            try:
                await self._resolver.sweep()
            except Unavailable as error:
                self.log.warning("what waits for its player goes on waiting: %s", error)
            # The more there is that waits, the longer a look takes: at most half of the time is
            # spent on looking.
            await self.sleep(max(self._interval_s, time.monotonic() - began_s))

    async def on_shutdown(self) -> None:
        """Close the connection."""
        await self._database.close()


class ResolveHandler:
    """Parks a batch."""

    def __init__(self, resolver: Resolver, contents: EventDecoder) -> None:
        self._resolver = resolver
        self._contents = contents

    async def handle(self, batch: RecordBatch) -> None:
        """Done when the rows are committed; a record that is no event of ours is buried."""
        parked = [
            ParkedEvent(r.offset, event, r.value)
            for r, event in await self._contents.decode_batch(batch)
        ]
        last = batch.records[-1] if batch.records else None
        seal = None if last is None else (last.timestamp, checksum(last.key, last.value))
        await self._resolver.park(
            batch.partition, batch.from_offset, batch.next_offset, parked, seal
        )


def create_resolve_app(settings: ResolveSettings) -> PitbossApp:
    """A worker that finds players for the events of its partitions; nothing is connected yet."""
    app = create_app(AppSettings("resolve", settings.bootstrap_servers))
    topic, log_topic = (
        qualified_name(UNRESOLVED, settings.namespace),
        qualified_name(TRANSACTIONS, settings.namespace),
    )
    producer = app.supervise(
        BatchProducer(ProducerSettings(settings.bootstrap_servers, "pitboss.resolve"))
    )
    progress = app.supervise(
        KafkaPipelineProgress(
            settings.bootstrap_servers, settings.namespace, settings.normalise_group
        )
    )
    database = LedgerDatabase(settings.database_url, "pitboss.resolve")

    async def append(records: Sequence[tuple[bytes, bytes]]) -> None:
        await producer.send_keyed(log_topic, [(key, value, (), None) for key, value in records])

    resolver = Resolver(
        database, append, progress, topic=topic, log_topic=log_topic, min_age_ms=settings.min_age_ms
    )
    app.supervise(Sweeper(resolver, database, settings.sweep_interval_ms))
    group = qualified_name(GROUP, settings.namespace)
    guard = PositionGuard(
        database,
        settings.bootstrap_servers,
        group,
        topic,
        partial(producer.partition_count, log_topic),
    )
    add_agent(
        app,
        IntakeSettings(
            settings.bootstrap_servers,
            group,
            start="none",
            group_instance_id=settings.group_instance_id,
        ),
        ResolveHandler(
            resolver, EventDecoder(KafkaDeadLetterSink(producer, "resolve", settings.code_version))
        ).handle,
        name="ledger.resolve",
        topics=[topic],
        positions=ResolvePositions(guard, resolver),
    )
    return app
