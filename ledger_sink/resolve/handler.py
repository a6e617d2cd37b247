"""The resolver's agent: batches of events without a player in, resolved events onto the log."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Final

from aiokafka import TopicPartition
from mode import Service

from ledger_sink.booking.positions import PositionGuard
from ledger_sink.resolve.progress import KafkaPipelineProgress
from ledger_sink.resolve.resolver import (
    CONSUMER,
    ParkedEvent,
    Places,
    Resolver,
    TracedRecord,
)
from ledger_sink.resolve.settings import GROUP, ResolveSettings
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.event_decoder import EventDecoder
from ledger_sink.store.log_check import checksum
from runtime.dead_letters.sink import KafkaDeadLetterSink
from runtime.kafka.app import AppSettings, PitbossApp, add_agent, create_app
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.intake import IntakeSettings
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.records import readable_headers
from runtime.kafka.tasks import crash_on_stray_cancel
from runtime.kafka.topic_reader import read_offsets
from runtime.security import BrokerAddress
from runtime.telemetry.traces import find_traceparent
from schemas.errors import PartitionStuck, Unavailable
from schemas.topics import TRANSACTIONS, UNRESOLVED, qualified_name


class ResolvePositions:
    """Start positions of the unresolved topic: claimed, and compared with the topic."""

    def __init__(self, guard: PositionGuard, resolver: Resolver) -> None:
        self._guard = guard
        self._resolver = resolver

    async def claim(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the offset at which each partition continues. Raises LogMismatch, Unavailable."""
        numbers = [tp.partition for tp in partitions]
        claims = await self._guard.claim(numbers, CONSUMER)
        self._resolver.take_over({number: claim.epoch for number, claim in claims.items()})
        topic = self._guard.topic
        return {TopicPartition(topic, number): c.next_offset for number, c in claims.items()}

    async def release(self, partitions: Collection[TopicPartition]) -> None:
        """Drop the epochs of partitions."""
        for partition in partitions:
            self._resolver.epochs.pop(partition.partition, None)


QUIET_SWEEP_S: Final = 10.0
"""Interval of sweeps while nothing waits. A sweep is four transactions, and what is parked wakes
it; this only bounds how long a mistake in that could hold an event up."""


class Sweeper(Service):
    """Service that sweeps until the worker stops, often only while events wait."""

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
                self.log.warning("events still wait for their players: %s", error)
            # A sweep takes longer if more events wait; sweeps get at most half of the time.
            await self.sleep(max(self._interval_s, time.monotonic() - began_s))
            await self.wait(self._resolver.has_work.wait(), timeout=QUIET_SWEEP_S)

    async def on_shutdown(self) -> None:
        """Close the connection."""
        await self._database.close()


class ResolveHandler:
    """Handler that parks batches."""

    def __init__(self, resolver: Resolver, decoder: EventDecoder) -> None:
        self._resolver = resolver
        self._decoder = decoder

    async def handle(self, batch: RecordBatch) -> None:
        """Park a batch and return when its rows are committed.

        A record that is not an event goes to the dead letter topic. Raises PartitionStuck for an
        event of a newer release.
        """
        decoded = await self._decoder.decode_batch(batch)
        if decoded.newer:
            raise PartitionStuck(decoded.newer[0][1])
        parked = [
            ParkedEvent(record.offset, event, record.value, find_traceparent(headers))
            if (headers := readable_headers(record))
            else ParkedEvent(record.offset, event, record.value)
            for record, event in decoded.events
        ]
        last = batch.records[-1] if batch.records else None
        tie = None if last is None else (last.timestamp, checksum(last.key, last.value))
        await self._resolver.park(
            batch.partition, batch.from_offset, batch.next_offset, parked, tie
        )


async def read_parents(
    broker: BrokerAddress, topic: str, places: Places
) -> dict[tuple[int, int], bytes]:
    """Return the `traceparent` of each of some records of a topic that has one.

    Raises Unavailable.
    """
    offsets: dict[TopicPartition, list[int]] = {}
    for partition, offset in places:
        offsets.setdefault(TopicPartition(topic, partition), []).append(offset)
    return {
        (record.partition, record.offset): parent
        async for record in read_offsets(broker, offsets)
        if (parent := find_traceparent(readable_headers(record))) is not None
    }


def create_resolve_app(settings: ResolveSettings) -> PitbossApp:
    """Return a worker that finds players for its partitions' events; it is not connected yet."""
    servers, namespace = settings.broker, settings.namespace
    app = create_app(AppSettings("resolve", servers))
    topic = qualified_name(UNRESOLVED, namespace)
    log_topic = qualified_name(TRANSACTIONS, namespace)
    producer = app.supervise(BatchProducer(ProducerSettings(servers, "pitboss.resolve")))
    progress = app.supervise(
        KafkaPipelineProgress(servers, namespace, settings.normalise_group, settings.providers)
    )
    database = LedgerDatabase(settings.database_url, "pitboss.resolve")

    async def append(records: Sequence[tuple[bytes, bytes] | TracedRecord]) -> None:
        out = [(one[0], one[1], one[2] if len(one) > 2 else (), None) for one in records]
        await producer.send_keyed(log_topic, out)

    resolver = Resolver(
        database,
        append,
        progress,
        topic=topic,
        log_topic=log_topic,
        min_age_ms=settings.min_age_ms,
        read_parents=partial(read_parents, servers, topic),
    )
    app.supervise(Sweeper(resolver, database, settings.sweep_interval_ms))
    group = qualified_name(GROUP, namespace)
    partition_count = partial(producer.partition_count, log_topic)
    guard = PositionGuard(database, servers, group, topic, partition_count)
    dead_letters = KafkaDeadLetterSink(producer, "resolve", settings.code_version)
    app.when_observed(lambda telemetry: telemetry.meters.add_source(dead_letters.samples))
    app.when_observed(lambda telemetry: dead_letters.on_written.append(telemetry.observe_letters))
    add_agent(
        app,
        IntakeSettings(servers, group, start="none", group_instance_id=settings.group_instance_id),
        ResolveHandler(resolver, EventDecoder(dead_letters)).handle,
        name="ledger.resolve",
        topics=[topic],
        positions=ResolvePositions(guard, resolver),
    )
    return app
