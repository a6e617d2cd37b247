"""The ledger's agent: a batch of records to a slice of events, and back once it is committed.

Decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mode import Service

from ledger_sink.booking.committer import Committer
from ledger_sink.booking.messages import Message
from ledger_sink.booking.positions import LedgerPositions, PositionGuard
from ledger_sink.booking.publisher import AnswerCounts, Publisher, Send, TracedMessage
from ledger_sink.booking.settings import GROUP, LedgerSettings
from ledger_sink.booking.stuck_partitions import LogReader, PartitionBooking
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.event_decoder import EventDecoder
from ledger_sink.store.ledger import PostgresLedger
from runtime.dead_letters.sink import KafkaDeadLetterSink
from runtime.kafka.app import AppSettings, PitbossApp, add_agent, create_app
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.intake import IntakeSettings
from runtime.kafka.partition_reader import KafkaLogReader
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.tasks import crash_on_stray_cancel
from schemas.errors import Unavailable
from schemas.policies import LedgerPolicy
from schemas.topics import ALERTS, BALANCES, OUTCOMES, SIGNALS, TRANSACTIONS, qualified_name

if TYPE_CHECKING:
    from runtime.telemetry.worker import WorkerTelemetry

CURSOR_INTERVAL_S = 1.0


class LedgerService(Service):
    """Runs committer and publisher next to the agent; an error of either ends the process."""

    def __init__(
        self, committer: Committer, publisher: Publisher, databases: Sequence[LedgerDatabase]
    ) -> None:
        super().__init__()
        self._committer = committer
        self._publisher = publisher
        self._databases = databases

    @Service.task
    @crash_on_stray_cancel
    async def _commit(self) -> None:
        await self._committer.run()

    @Service.task
    @crash_on_stray_cancel
    async def _publish(self) -> None:
        await self._publisher.run()

    @Service.task
    @crash_on_stray_cancel
    async def _store_cursors(self) -> None:
        while not self.should_stop:
            await self.sleep(CURSOR_INTERVAL_S)
            try:
                await self._publisher.store_cursors()
            except Unavailable as error:
                self.log.warning("the published cursor is not stored: %s", error)

    async def on_shutdown(self) -> None:
        """Close the connections.

        What is committed and not published is sent after the next claim.
        """
        for database in self._databases:
            await database.close()


class LedgerHandler:
    """Turns a batch of records into events and waits until they are committed."""

    def __init__(self, committer: Committer, decoder: EventDecoder, log: LogReader) -> None:
        """`log` is read only for the quarantine of an event that cannot be booked."""
        self._decoder = decoder
        self._booking = PartitionBooking(committer, log)

    async def handle(self, batch: RecordBatch) -> None:
        """Book a batch and return when PostgreSQL has it.

        Records that are not events go to the dead letter topic first. Raises PartitionStuck at an
        event that cannot be booked.
        """
        batch.note_step("taken")
        await self._booking.book(await self._decoder.decode_batch(batch))


def create_ledger_app(settings: LedgerSettings, policies: Mapping[str, LedgerPolicy]) -> PitbossApp:
    """Return a worker that owns partitions of the log and books them; it is not connected yet."""
    servers, url = settings.broker, settings.database_url
    app = create_app(AppSettings("ledger", servers))
    log_topic = qualified_name(TRANSACTIONS, settings.namespace)
    producer = app.supervise(BatchProducer(ProducerSettings(servers, "pitboss.ledger")))
    store = PostgresLedger(LedgerDatabase(url, "pitboss.ledger"), policies, topic=log_topic)
    publishing = LedgerDatabase(url, "pitboss.publisher")
    publisher = Publisher(
        publishing,
        _sender(producer),
        store.epochs,
        log_topic=log_topic,
        balances_topic=qualified_name(BALANCES, settings.namespace),
        outcomes_topic=qualified_name(OUTCOMES, settings.namespace),
        alerts_topic=qualified_name(ALERTS, settings.namespace),
        signals_topic=qualified_name(SIGNALS, settings.namespace),
    )
    committer = Committer(store, publisher)
    claiming = LedgerDatabase(url, "pitboss.claim")
    app.supervise(LedgerService(committer, publisher, (store.database, publishing, claiming)))
    group = qualified_name(GROUP, settings.namespace)
    partition_count = partial(producer.partition_count, log_topic)
    guard = PositionGuard(claiming, servers, group, log_topic, partition_count)
    dead_letters = KafkaDeadLetterSink(producer, "ledger", settings.code_version)

    topics = (log_topic, qualified_name(OUTCOMES, settings.namespace))
    app.when_observed(partial(_begin_to_observe, publisher, dead_letters, topics))
    add_agent(
        app,
        IntakeSettings(servers, group, start="none", group_instance_id=settings.group_instance_id),
        LedgerHandler(
            committer, EventDecoder(dead_letters), KafkaLogReader(servers, log_topic)
        ).handle,
        name="ledger.post",
        topics=[log_topic],
        positions=LedgerPositions(guard, store.epochs, publisher),
    )
    return app


def _begin_to_observe(
    publisher: Publisher,
    dead_letters: KafkaDeadLetterSink,
    topics: tuple[str, str],
    telemetry: WorkerTelemetry,
) -> None:
    from ledger_sink.booking.traces import DecisionTraces

    answers, traces = AnswerCounts(), DecisionTraces(telemetry, topics)
    for source in (dead_letters.samples, answers.samples):
        telemetry.meters.add_source(source)
    publisher.on_published += [answers.count, traces.observe]
    dead_letters.on_written.append(telemetry.observe_letters)


def _sender(producer: BatchProducer) -> Send:
    async def send(topic: str, records: Sequence[Message | TracedMessage]) -> None:
        if records:
            out = [(one[0], one[1], one[2] if len(one) > 2 else (), None) for one in records]
            await producer.send_keyed(topic, out)

    return send
