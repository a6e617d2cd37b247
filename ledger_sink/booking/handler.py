"""The ledger's agent: a batch of records to a slice of events, and back once it is committed.

Decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from mode import Service

from ledger_sink.booking.committer import Committer
from ledger_sink.booking.positions import LedgerPositions, PositionGuard
from ledger_sink.booking.publisher import Publisher, Send
from ledger_sink.booking.settings import GROUP, LedgerSettings
from ledger_sink.rules.book import LogEvent
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.event_decoder import EventDecoder
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.log_check import checksum
from runtime.dead_letters.sink import KafkaDeadLetterSink
from runtime.kafka.app import AppSettings, PitbossApp, add_agent, create_app
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.intake import IntakeSettings
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.tasks import crash_on_stray_cancel
from schemas.errors import Unavailable
from schemas.events import Position
from schemas.policies import LedgerPolicy
from schemas.topics import ALERTS, BALANCES, OUTCOMES, TRANSACTIONS, qualified_name

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
    """Turns a batch of records into a slice of events and waits until it is committed."""

    def __init__(self, committer: Committer, decoder: EventDecoder) -> None:
        self._committer = committer
        self._decoder = decoder
        self._reached: dict[int, tuple[RecordBatch, int]] = {}
        """By partition: a batch that is booked in part, and how far."""

    async def handle(self, batch: RecordBatch) -> None:
        """Book a batch and return when PostgreSQL has it.

        Records that are not events go to the dead letter topic first. After a retriable error the
        next call goes on behind what is booked.
        """
        batch.note_step("taken")
        records = await self._decoder.decode_batch(batch)
        begin = self._booked_until(batch)
        events = [
            LogEvent(
                event, Position(record.topic, record.partition, record.offset), record.timestamp
            )
            for record, event in records
            if record.offset >= begin
        ]
        last = batch.records[-1] if batch.records else None
        slice_ = Slice(
            batch.partition,
            begin,
            batch.next_offset,
            events,
            last.timestamp if last else None,
            checksum(last.key, last.value) if last else None,
            [record for record in batch.records if record.offset >= begin]
            if begin > batch.from_offset
            else batch.records,
        )
        await self._committer.submit(slice_, partial(self._note_reached, batch))
        self._reached.pop(batch.partition, None)

    def _booked_until(self, batch: RecordBatch) -> int:
        batch_in_parts, offset = self._reached.get(batch.partition, (None, 0))
        return offset if batch_in_parts is batch else batch.from_offset

    def _note_reached(self, batch: RecordBatch, offset: int) -> None:
        self._reached[batch.partition] = (batch, offset)
        batch.mark_reached(offset)


def create_ledger_app(settings: LedgerSettings, policies: Mapping[str, LedgerPolicy]) -> PitbossApp:
    """Return a worker that owns partitions of the log and books them; it is not connected yet."""
    servers, url = settings.bootstrap_servers, settings.database_url
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
    )
    committer = Committer(store, publisher)
    claiming = LedgerDatabase(url, "pitboss.claim")
    app.supervise(LedgerService(committer, publisher, (store.database, publishing, claiming)))
    group = qualified_name(GROUP, settings.namespace)
    partition_count = partial(producer.partition_count, log_topic)
    guard = PositionGuard(claiming, servers, group, log_topic, partition_count)
    dead_letters = KafkaDeadLetterSink(producer, "ledger", settings.code_version)
    add_agent(
        app,
        IntakeSettings(servers, group, start="none", group_instance_id=settings.group_instance_id),
        LedgerHandler(committer, EventDecoder(dead_letters)).handle,
        name="ledger.post",
        topics=[log_topic],
        positions=LedgerPositions(guard, store.epochs, publisher),
    )
    return app


def _sender(producer: BatchProducer) -> Send:
    async def send(topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
        if records:
            await producer.send_keyed(topic, [(key, value, (), None) for key, value in records])

    return send
