"""The ledger's agent: batches of the log in, one transaction a group, answers out.

Decides nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from mode import Service

from ledger_sink.booking.committer import Committer
from ledger_sink.booking.positions import LedgerPositions, PositionGuard
from ledger_sink.booking.publisher import Publisher, Send
from ledger_sink.rules.book import LogEvent
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.event_decoder import EventDecoder
from ledger_sink.store.ledger import PostgresLedger, Slice
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

GROUP = "ledger.post"
CURSOR_INTERVAL_S = 1.0


@dataclass(frozen=True)
class LedgerSettings:
    """What a ledger worker needs to be told."""

    bootstrap_servers: str
    database_url: str
    namespace: str
    code_version: str
    group_instance_id: str | None = None


class LedgerService(Service):
    """Runs the committer and the publisher beside the agent, and ends the process with what ends
    them.
    """

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
        """Close the connections; what is committed and unpublished goes out again after the next
        claim.
        """
        for database in self._databases:
            await database.close()


class LedgerHandler:
    """Turns a batch of records into a slice of events and waits until it is committed."""

    def __init__(self, committer: Committer, contents: EventDecoder) -> None:
        self._committer = committer
        self._contents = contents

    async def handle(self, batch: RecordBatch) -> None:
        """Book a batch; done when PostgreSQL has it.

        A record that is no event of ours is buried first.
        """
        read = await self._contents.decode_batch(batch)
        events = [
            LogEvent(event, Position(record.topic, record.partition, record.offset))
            for record, event in read
        ]
        last = batch.records[-1] if batch.records else None
        await self._committer.submit(
            Slice(
                batch.partition,
                batch.from_offset,
                batch.next_offset,
                events,
                last.timestamp if last else None,
                checksum(last.key, last.value) if last else None,
            )
        )


def create_ledger_app(settings: LedgerSettings, policies: Mapping[str, LedgerPolicy]) -> PitbossApp:
    """A worker that owns partitions of the log and books them; nothing is connected yet."""
    app = create_app(AppSettings("ledger", settings.bootstrap_servers))
    log_topic = qualified_name(TRANSACTIONS, settings.namespace)
    producer = app.supervise(
        BatchProducer(ProducerSettings(settings.bootstrap_servers, "pitboss.ledger"))
    )
    store = PostgresLedger(
        LedgerDatabase(settings.database_url, "pitboss.ledger"), policies, topic=log_topic
    )
    publishing = LedgerDatabase(settings.database_url, "pitboss.publisher")
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
    claiming = LedgerDatabase(settings.database_url, "pitboss.claim")
    app.supervise(LedgerService(committer, publisher, (store.database, publishing, claiming)))
    group = qualified_name(GROUP, settings.namespace)
    guard = PositionGuard(
        claiming,
        settings.bootstrap_servers,
        group,
        log_topic,
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
        LedgerHandler(
            committer, EventDecoder(KafkaDeadLetterSink(producer, "ledger", settings.code_version))
        ).handle,
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
