"""Drift worker: samples of the raw records, all dead letters, new shapes to `schema.drift.v1`.

Why a role of its own, and no queue in the normaliser: validation (JSON Schema, XSD) is expensive
and would share a core and a lock with the records that players wait for, and a queue that may drop
cannot promise to check every rejected record. The normaliser hands its samples over on a topic, and
rejected records are on their dead letter topics anyway, so this worker fetches nothing that it does
not check, and may be stopped, fall behind or crash without any effect upstream (ADR 12).

A batch is complete when its new shapes are acknowledged; a crash before that finds them again,
under the same ids. At start the worker reads the shapes that are already published, so a shape is
published once. Two workers that find one at the same moment may both publish it; the topic is
compacted by the id.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from mode import Service

from runtime.dead_letters.headers import is_mark
from runtime.kafka.agent_loop import Handle
from runtime.kafka.app import AppSettings, PitbossApp, add_agent, create_app
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.intake import IntakeSettings
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from runtime.kafka.records import RawRecord
from runtime.kafka.topic_reader import read_topics
from runtime.security import BrokerAddress
from runtime.telemetry.samples import MetricSample, count_samples
from schemas import codec
from schemas.errors import Rejected
from schemas.events import DeadLetter, Position, SchemaDrift
from schemas.topics import (
    DEAD_LETTER_SUFFIX,
    DRIFT,
    SAMPLES,
    provider_of,
    qualified_name,
    raw_pattern,
)
from streams.drift.checking import DriftChecker, DriftFinding
from streams.drift.drift_events import build_drift_events, finding_id
from streams.drift.published_shapes import PublishedShapes
from streams.drift.settings import NAME, DriftSettings
from streams.providers.redaction import secrets_of
from streams.providers.registry import DIALECTS, Dialects
from streams.samples import read_sample

_YIELD_EVERY: Final = 20
"""Records checked before other tasks run: a large record takes milliseconds."""

logger = logging.getLogger(__name__)


class DriftSender(Protocol):
    """Appends records to the partitions of their keys and returns once all are acknowledged."""

    async def send_keyed(self, topic: str, records: Sequence[OutRecord]) -> None:
        """Append records to a topic. Raises as the producer does."""


@dataclass
class DriftStats:
    """Plain counters since the start.

    `seen` counts all records, `checked` the checked ones by provider, `published` the published
    shapes.
    """

    seen: int = 0
    published: int = 0
    checked: Counter[str] = field(default_factory=Counter)

    def samples(self) -> Iterator[MetricSample]:
        """Yield the counts as metrics."""
        yield from count_samples("pitboss.drift.checked", self.checked)
        yield MetricSample("pitboss.drift.shapes", (), self.published)


@dataclass(frozen=True)
class LetterRecord:
    """Raw record that a dead letter holds."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


class PublishedShapesLoader(Service):
    """Service that reads the published shapes at start, so that none is published again."""

    def __init__(
        self, broker: BrokerAddress, topic: str, known: PublishedShapes, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._broker, self._topic, self._known = broker, topic, known

    async def on_start(self) -> None:
        """Read the topic to its present end. Raises Unavailable, UsageError."""
        decode = codec.decoder(SchemaDrift)
        async for record in read_topics(self._broker, [self._topic]):
            try:
                self._known.learn(decode(record.value))
            except Rejected as error:
                logger.warning(
                    "%s-%d@%d: not a drift event that this release can read: %s",
                    self._topic,
                    record.partition,
                    record.offset,
                    error,
                )


@dataclass(frozen=True)
class DriftWorker:
    """Composed worker: the app to run, and the state that tests and telemetry read."""

    app: PitbossApp
    stats: DriftStats
    known: PublishedShapes


def create_worker(settings: DriftSettings, dialects: Dialects = DIALECTS) -> DriftWorker:
    """Compose a worker of its own; nothing is connected or started.

    Raises UsageError for an unusable key.
    """
    group = qualified_name(NAME, settings.namespace)
    topic = qualified_name(DRIFT, settings.namespace)
    app = create_app(AppSettings(group, settings.broker))
    known, stats = PublishedShapes(), DriftStats()
    app.when_observed(lambda telemetry: telemetry.meters.add_source(stats.samples))
    app.supervise(PublishedShapesLoader(settings.broker, topic, known))
    producer = app.supervise(BatchProducer(ProducerSettings(settings.broker, client_id=group)))
    handle = create_handler(
        DriftChecker(dialects, settings.keyring),
        producer,
        topic,
        known,
        stats,
        secrets_of(settings.keyring),
    )
    intake = IntakeSettings(settings.broker, group, group_instance_id=settings.group_instance_id)
    pattern = source_pattern(settings.namespace, settings.providers)
    add_agent(app, intake, handle, name=NAME, pattern=pattern)
    return DriftWorker(app, stats, known)


def source_pattern(namespace: str, providers: Collection[str] | None = None) -> str:
    """Return the pattern of the samples and of the dead letters of the providers' raw topics."""
    samples = re.escape(qualified_name(SAMPLES, namespace))
    letters = raw_pattern(namespace, providers).removeprefix("^").removesuffix("$")
    return rf"^({samples}|{letters}{re.escape(DEAD_LETTER_SUFFIX)})$"


def create_handler(
    checker: DriftChecker,
    producer: DriftSender,
    topic: str,
    known: PublishedShapes,
    stats: DriftStats,
    secrets: Sequence[str] = (),
) -> Handle:
    """Return the handler of one batch.

    See `runtime.kafka.agent_loop.Handle` for what it may raise.
    """
    encode = codec.encoder(SchemaDrift)

    async def handle(batch: RecordBatch) -> None:
        stats.seen += len(batch.records)
        found: list[SchemaDrift] = []
        async for record, findings in _findings(checker, batch, stats):
            # An example costs more than an id, and most drift occurs in every record.
            new_findings = [one for one in findings if not known.has(finding_id(one))]
            found += build_drift_events(record, new_findings, secrets)
        drifts = _take_new(known, found, batch.topic)
        if not drifts:
            return
        records = [(drift.drift_id.encode(), encode(drift), (), None) for drift in drifts]
        try:
            await producer.send_keyed(topic, records)
        except BaseException:
            known.forget(drifts)
            raise
        stats.published += len(drifts)
        for drift in drifts:
            logger.warning("%s", summary(drift))

    return handle


def _take_new(
    known: PublishedShapes, found: Sequence[SchemaDrift], topic: str
) -> list[SchemaDrift]:
    over_budget = known.over_budget.total()
    drifts = known.take_new(found)
    if known.over_budget.total() > over_budget:
        logger.warning(
            "%s shows more shapes than are published: %s", topic, dict(known.over_budget)
        )
    return drifts


def summary(drift: SchemaDrift) -> str:
    """Format a shape as one line for a log."""
    place = f"{drift.source.topic}-{drift.source.partition}@{drift.source.offset}"
    where = f"{drift.event} {drift.path}".strip()
    what = drift.what + (f" ({drift.detail})" if drift.detail else "")
    return (
        f"{drift.provider} {drift.provider_version} drifts from its schema: {what} at {where}, "
        f"first seen in {place}"
    )


async def _findings(
    checker: DriftChecker, batch: RecordBatch, stats: DriftStats
) -> AsyncIterator[tuple[RawRecord, list[DriftFinding]]]:
    """Yield raw records with their findings; other tasks run in between."""
    is_dead = batch.topic.endswith(DEAD_LETTER_SUFFIX)
    for count, record in enumerate(_letters(batch) if is_dead else _samples(batch)):
        provider = _provider_of(record)
        if provider is None or not checker.knows(provider) or is_mark(record):
            continue
        stats.checked[provider] += 1
        yield record, checker.check(provider, record, is_verified=not is_dead)
        if not count % _YIELD_EVERY:
            await asyncio.sleep(0)


def _provider_of(record: RawRecord) -> str | None:
    try:
        return provider_of(record.topic)
    except ValueError:
        return None  # a foreign record


def _samples(batch: RecordBatch) -> list[RawRecord]:
    """Return the raw records of samples; a foreign record is left out."""
    return [sample for record in batch.records if (sample := read_sample(record)) is not None]


def _letters(batch: RecordBatch) -> list[RawRecord]:
    """Return the raw records of dead letters, each once.

    Of the letters of one record's items only the first holds its bytes.
    """
    decode, found = codec.decoder(DeadLetter), dict[Position, RawRecord]()
    for record in batch.records:
        try:
            letter = decode(record.value or b"")
        except Rejected:
            continue  # a foreign record: `pitboss dlt list` reports it
        if letter.value is None:
            continue
        source, headers = letter.source, [(header.name, header.value) for header in letter.headers]
        found[source] = LetterRecord(
            source.topic,
            source.partition,
            source.offset,
            letter.source_timestamp,
            letter.key,
            letter.value,
            headers,
        )
    return list(found.values())
