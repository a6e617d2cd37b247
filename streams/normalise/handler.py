"""The normaliser's agent: batches of raw records in, events and dead letters out.

It decides nothing.

The order is: the batch's events are acknowledged, then the records that begin to wait are
committed, then the dead letters are acknowledged, then the ends of waits are committed, and only
then is the batch done. A crash in between repeats the batch: the same events again, which the
ledger knows by their ids, and the same dead letters again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from runtime.dead_letters.park_store import ParkStore
from runtime.dead_letters.sink import KafkaDeadLetterSink, Rejection
from runtime.kafka.agent_loop import Handle
from runtime.kafka.app import AppSettings, PitbossApp, add_agent, create_app
from runtime.kafka.batches import RecordBatch
from runtime.kafka.clock_watch import ClockWatch
from runtime.kafka.intake.intake import Intake, IntakeSettings
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from runtime.kafka.records import RawRecord
from schemas.errors import InvariantBroken, Unavailable
from schemas.topics import SAMPLES, provider_of, qualified_name, raw_pattern
from streams.normalise.batch import OUTPUT_TOPICS, FallbackUsed, NormalisedBatch
from streams.normalise.mapping.normaliser import Normaliser
from streams.normalise.parking import BatchSplit, Parking
from streams.normalise.settings import NormaliseSettings, parked_providers
from streams.normalise.stats import NormaliseStats, StatsLogger
from streams.providers.dialect import Dialect
from streams.providers.registry import DIALECTS
from streams.samples import SampleOut, Sampler

NAME: Final = "normalise"

logger = logging.getLogger(__name__)

OnFallback: TypeAlias = Callable[[FallbackUsed], None]
"""Called with each item that the expected version could not read and another could."""


def ignore_fallback(_: FallbackUsed) -> None:
    """Do nothing: the listener where no listener is given."""


class EventSender(Protocol):
    """Appends records to the partitions of their keys."""

    async def send_keyed(self, topic: str, records: Sequence[OutRecord]) -> None:
        """Append records in order, and return after all are acknowledged."""
        ...


class DeadLetterSink(Protocol):
    """Sink of dead letters; its methods return after they are durable."""

    async def ensure_topic(self, topic: str) -> None:
        """Check that a topic has its dead letter topic.

        Raises Unavailable while that is missing.
        """
        ...

    async def publish_all(self, rejections: Sequence[Rejection]) -> None:
        """Publish letters and wait until all are durable."""
        ...


@dataclass(frozen=True)
class NormaliseWorker:
    """A composed worker: the app to run, and what a watchdog or telemetry looks at."""

    app: PitbossApp
    intake: Intake
    producer: BatchProducer
    stats: NormaliseStats


def create_worker(
    settings: NormaliseSettings,
    dialects: Mapping[str, Dialect] = DIALECTS,
    on_fallback: OnFallback = ignore_fallback,
) -> NormaliseWorker:
    """Compose a worker; nothing is connected or started. Raises UsageError for an unusable key."""
    normaliser = Normaliser(dialects, settings.keyring, brands=settings.brands)
    group = qualified_name(NAME, settings.namespace)
    app = create_app(AppSettings(group, settings.broker))
    stats = NormaliseStats()
    app.when_observed(lambda telemetry: telemetry.meters.add_source(stats.samples))
    app.supervise(StatsLogger(stats, lambda: sum(intake.gap_offsets for intake in app.intakes)))
    producer = app.supervise(BatchProducer(ProducerSettings(settings.broker, client_id=group)))
    parking = None
    if settings.park is not None:
        store = app.supervise(ParkStore(settings.park.database_url, "pitboss.normalise"))
        providers, limits = parked_providers(settings), settings.park.limits
        parking = Parking(store, normaliser.normalise, providers, limits)
    dead_letters = KafkaDeadLetterSink(producer, NAME, settings.code_version)
    app.when_observed(lambda telemetry: telemetry.meters.add_source(dead_letters.samples))
    app.when_observed(lambda telemetry: dead_letters.on_written.append(telemetry.observe_letters))
    intake = register(
        app,
        IntakeSettings(settings.broker, group, group_instance_id=settings.group_instance_id),
        normaliser=normaliser,
        producer=producer,
        dead_letters=dead_letters,
        namespace=settings.namespace,
        stats=stats,
        on_fallback=on_fallback,
        parking=parking,
        providers=settings.providers,
        sampler=Sampler(settings.sample_rate),
    )
    return NormaliseWorker(app, intake, producer, stats)


def register(
    app: PitbossApp,
    settings: IntakeSettings,
    *,
    normaliser: Normaliser,
    producer: EventSender,
    dead_letters: DeadLetterSink,
    namespace: str,
    stats: NormaliseStats,
    on_fallback: OnFallback = ignore_fallback,
    parking: Parking | None = None,
    providers: Collection[str] | None = None,
    sampler: Sampler | None = None,
) -> Intake:
    """Attach the agent that reads the raw topics of `providers` (None: all) of the namespace.

    Its producer must be supervised before.
    """
    handle = create_handler(producer, dead_letters, namespace, stats, on_fallback, parking, sampler)
    # Which records wait is known only when the batch is handled: with parking, records are read
    # then.
    reader = create_reader(normaliser, sampler) if parking is None else None
    pattern = raw_pattern(namespace, providers)
    return add_agent(app, settings, handle, name=NAME, pattern=pattern, reader=reader)


def create_reader(
    normaliser: Normaliser, sampler: Sampler | None = None
) -> Callable[[str, Sequence[RawRecord]], NormalisedBatch]:
    """Return the function that reads records of a raw topic as they are fetched."""
    watch = ClockWatch()

    def read(topic: str, records: Sequence[RawRecord]) -> NormalisedBatch:
        warn_of_clock(watch, records)
        normalised = NormalisedBatch(provider_of(topic))
        normalised.add_results(zip(records, map(normaliser.normalise, records), strict=True))
        if sampler is not None:
            normalised.add_samples(records, sampler)
        return normalised

    return read


def warn_of_clock(watch: ClockWatch, records: Sequence[RawRecord]) -> None:
    """Log where the broker's append time of the last of some records contradicts our clock."""
    if records and (sentence := watch.observe(time.time_ns() // 1_000_000, records[-1].timestamp)):
        logger.warning("%s", sentence)


def create_handler(
    producer: EventSender,
    dead_letters: DeadLetterSink,
    namespace: str,
    stats: NormaliseStats,
    on_fallback: OnFallback = ignore_fallback,
    parking: Parking | None = None,
    sampler: Sampler | None = None,
) -> Handle:
    """Return the handler of one batch; `runtime.kafka.agent_loop.Handle` says what it may raise.

    Its records were read as they came, by `create_reader`'s function; with `parking` they are read
    here.

    `on_fallback` is called for each item that only another version could read, after the batch is
    durable. It must not wait or raise: longer work must be put on a queue and done elsewhere.

    An event is never too large to be sent: its dialect bounds every text in it. So TooLarge is not
    caught here.
    """
    names = {topic: qualified_name(topic, namespace) for topic in OUTPUT_TOPICS}

    send_samples = _sample_sender(producer, namespace, stats)
    watch = ClockWatch()

    async def handle(batch: RecordBatch) -> None:
        warn_of_clock(watch, batch.records)
        split = None if parking is None else await parking.split(batch)
        normalised = _normalised_batch(batch, split, sampler)
        if normalised.rejections:
            # First of all: while its dead letters have no topic to go to, a batch is tried again
            # and again, and each time its events would go out once more.
            await dead_letters.ensure_topic(batch.topic)
        batch.note_step("normalised")
        sends: list[Awaitable[None]] = [
            producer.send_keyed(names[topic], events)
            for topic, events in normalised.outgoing.items()
            if events
        ]
        if normalised.samples:
            sends.append(send_samples(normalised.samples))
        await _await_all(sends)
        batch.note_step("produced")
        if parking is not None and split is not None:
            await parking.save_parked(split)
        if normalised.rejections:
            await dead_letters.publish_all(normalised.rejections)
        if parking is not None and split is not None:
            await parking.save_released(split)
        normalised.count_into(stats)
        for fallback in normalised.fallbacks:
            on_fallback(fallback)

    return handle


async def _await_all(sends: Sequence[Awaitable[None]]) -> None:
    if len(sends) == 1:  # nearly always; a task costs as much as mapping a record
        await sends[0]
    else:
        await asyncio.gather(*sends)


def _sample_sender(
    producer: EventSender, namespace: str, stats: NormaliseStats
) -> Callable[[Sequence[SampleOut]], Awaitable[None]]:
    topic = qualified_name(SAMPLES, namespace)

    async def send(samples: Sequence[SampleOut]) -> None:
        try:
            await producer.send_keyed(topic, samples)
        except Unavailable as error:  # the topic is missing, and events never wait for it
            stats.unsent_samples += len(samples)
            logger.debug("%d samples are not sent: %s", len(samples), error)

    return send


def _normalised_batch(
    batch: RecordBatch, split: BatchSplit | None, sampler: Sampler | None
) -> NormalisedBatch:
    normalised = NormalisedBatch(provider_of(batch.topic))
    if split is not None:
        normalised.add_results(split.results)
        if sampler is not None:
            normalised.add_samples(batch.records, sampler)
    elif batch.records:
        raise InvariantBroken(
            f"{batch}: its records were not read; the intake needs the function of `create_reader`"
        )
    for reading in batch.readings:
        assert isinstance(reading, NormalisedBatch)
        normalised.extend(reading)
    return normalised
