"""The normaliser's agent: batches of raw records in, events and dead letters out. It decides
nothing.

The events of a batch are acknowledged first, what begins to wait behind a dead letter is committed
next, its dead letters after that, then what waits no more, and only then is the batch done. A crash
in between repeats the batch: the same events again, which the ledger knows by their ids, and the
same dead letters again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from aiokafka.structs import ConsumerRecord

from runtime.dead_letters.park_store import ParkStore
from runtime.dead_letters.sink import KafkaDeadLetterSink, Rejection
from runtime.kafka.agent_loop import Handle
from runtime.kafka.app import AppSettings, PitbossApp, add_agent, create_app
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.intake import Intake, IntakeSettings
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from schemas.errors import InvariantBroken, UsageError
from schemas.topics import provider_of, qualified_name, raw_pattern
from streams.normalise.batch import OUTPUT_TOPICS, FallbackUsed, NormalisedBatch
from streams.normalise.mapping.normaliser import Normaliser
from streams.normalise.parking import BatchSplit, Parking, ParkSettings
from streams.normalise.stats import NormaliseStats
from streams.normalise.stats_logger import StatsLogger
from streams.providers.dialect import Dialect
from streams.providers.keyring import Keyring
from streams.providers.registry import DIALECTS

NAME: Final = "normalise"

OnFallback: TypeAlias = Callable[[FallbackUsed], None]
"""Told of an item that the expected version could not read and another could."""


def ignore_fallback(_: FallbackUsed) -> None:
    """The listener where nobody listens."""


class EventSender(Protocol):
    """Appends records to the partitions of their keys, in order, and returns once all are
    acknowledged.
    """

    async def send_keyed(self, topic: str, records: Sequence[OutRecord]) -> None: ...


class DeadLetterSink(Protocol):
    """Takes what cannot be used, and returns once it is durable."""

    async def ensure_topic(self, topic: str) -> None: ...

    async def publish_all(self, burials: Sequence[Rejection]) -> None: ...


@dataclass(frozen=True)
class NormaliseSettings:
    """What a normalising worker needs; `keyring` holds key material by provider and is never shown."""

    bootstrap_servers: str
    namespace: str
    code_version: str
    keyring: Keyring = field(repr=False)
    group_instance_id: str | None = None
    park: ParkSettings | None = None
    """Only with it a normaliser needs the database."""


@dataclass(frozen=True)
class NormaliseWorker:
    """A composed worker: the app to run, and the parts that a watchdog or telemetry looks at."""

    app: PitbossApp
    intake: Intake
    producer: BatchProducer
    stats: NormaliseStats


def create_worker(
    settings: NormaliseSettings,
    dialects: Mapping[str, Dialect] = DIALECTS,
    on_fallback: OnFallback = ignore_fallback,
) -> NormaliseWorker:
    """Compose a worker of its own; nothing is connected or started.

    Raises UsageError for an unusable key.
    """
    normaliser = Normaliser(dialects, settings.keyring)
    group = qualified_name(NAME, settings.namespace)
    app = create_app(AppSettings(group, settings.bootstrap_servers))
    stats = NormaliseStats()
    app.supervise(StatsLogger(stats, lambda: sum(intake.gap_offsets for intake in app.intakes)))
    producer = app.supervise(
        BatchProducer(ProducerSettings(settings.bootstrap_servers, client_id=group))
    )
    parking = None
    if settings.park is not None:
        store = app.supervise(ParkStore(settings.park.database_url, "pitboss.normalise"))
        parking = Parking(
            store, normaliser.normalise, parked_providers(settings), settings.park.limits
        )
    intake = register(
        app,
        IntakeSettings(
            settings.bootstrap_servers, group, group_instance_id=settings.group_instance_id
        ),
        normaliser=normaliser,
        producer=producer,
        dead_letters=KafkaDeadLetterSink(producer, NAME, settings.code_version),
        namespace=settings.namespace,
        stats=stats,
        on_fallback=on_fallback,
        parking=parking,
    )
    return NormaliseWorker(app, intake, producer, stats)


def parked_providers(settings: NormaliseSettings) -> frozenset[str]:
    """The providers whose rejections may make a player wait.

    Raises UsageError for one without a key: without a signature anybody could make anybody wait.
    """
    assert settings.park is not None
    unsigned = sorted(settings.park.providers - settings.keyring.keys())
    if unsigned:
        raise UsageError(
            f"players of {', '.join(unsigned)} cannot be made to wait: the keys file holds no key of theirs, and "
            "without a signature anybody could make anybody wait"
        )
    return settings.park.providers


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
) -> Intake:
    """Attach the agent that reads every raw topic of the namespace; its producer must be supervised
    before.
    """
    handle = create_handler(producer, dead_letters, namespace, stats, on_fallback, parking)
    # Who must wait is known only once the batch's turn has come: with parking, records are read
    # then.
    reader = create_reader(normaliser) if parking is None else None
    return add_agent(
        app, settings, handle, name=NAME, pattern=raw_pattern(namespace), reader=reader
    )


def create_reader(
    normaliser: Normaliser,
) -> Callable[[str, Sequence[ConsumerRecord[bytes, bytes]]], NormalisedBatch]:
    """What is made of records of a raw topic while they come in: a `Pile`."""

    def read(topic: str, records: Sequence[ConsumerRecord[bytes, bytes]]) -> NormalisedBatch:
        pile = NormalisedBatch(provider_of(topic))
        pile.add_results(zip(records, normaliser.normalise_all(records), strict=True))
        return pile

    return read


def create_handler(
    producer: EventSender,
    dead_letters: DeadLetterSink,
    namespace: str,
    stats: NormaliseStats,
    on_fallback: OnFallback = ignore_fallback,
    parking: Parking | None = None,
) -> Handle:
    """What is done with one batch; see `runtime.kafka.agent_loop.Handle` for what it may raise.

    Its records were read as they came, by `create_reader`'s; with `parking` they are read here.

    `on_fallback` hears of each item that only another version could read, after the batch is
    durable. It must not wait or raise: whatever takes longer than putting it on a queue is done
    elsewhere.

    An event is never too large to be sent: its dialect bounds every text in it. So TooLarge is not
    caught here.
    """
    names = {topic: qualified_name(topic, namespace) for topic in OUTPUT_TOPICS}

    async def handle(batch: RecordBatch) -> None:
        turn = None if parking is None else await parking.split(batch)
        pile = _piled(batch, turn)
        if pile.rejections:
            # First of all: while its dead letters have no place to go, a batch is tried again and
            # again, and each time its events would go out once more.
            await dead_letters.ensure_topic(batch.topic)
        await asyncio.gather(
            *[
                producer.send_keyed(names[topic], events)
                for topic, events in pile.outgoing.items()
                if events
            ]
        )
        if parking is not None and turn is not None:
            await parking.save_parked(turn)
        if pile.rejections:
            await dead_letters.publish_all(pile.rejections)
        if parking is not None and turn is not None:
            await parking.save_released(turn)
        pile.count_into(stats)
        for fallback in pile.fallbacks:
            on_fallback(fallback)

    return handle


def _piled(batch: RecordBatch, turn: BatchSplit | None) -> NormalisedBatch:
    pile = NormalisedBatch(provider_of(batch.topic))
    if turn is not None:
        pile.add_results(turn.results)
    elif batch.records:
        raise InvariantBroken(
            f"{batch}: nobody has read its records; the intake needs `create_reader`'s"
        )
    for reading in batch.readings:
        assert isinstance(reading, NormalisedBatch)
        pile.extend(reading)
    return pile
