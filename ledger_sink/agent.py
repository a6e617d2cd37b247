"""The ledger's agent: batches of the log in, one transaction a group, answers out. Decides nothing itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from mode import Service

from ledger_sink.book import Sourced
from ledger_sink.committer import Committer
from ledger_sink.database import Database
from ledger_sink.log import checksum, cluster_id
from ledger_sink.positions import LedgerPositions, check_installation
from ledger_sink.publisher import Publisher, Send
from ledger_sink.store import PostgresLedger, Slice
from schemas import codec
from schemas.errors import Rejected, Unavailable
from schemas.events import Position, WalletTransaction
from schemas.policies import LedgerPolicy
from schemas.topics import BALANCES, OUTCOMES, TRANSACTIONS, qualified
from streams.kafka.app import AppSettings, PitbossApp, add_agent, create_app
from streams.kafka.batches import RecordBatch
from streams.kafka.dead_letters import Burial, DeadLetters
from streams.kafka.intake import IntakeSettings
from streams.kafka.producer import BatchProducer, ProducerSettings

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
    """Runs the committer and the publisher beside the agent, and ends the process with what ends them."""

    def __init__(self, committer: Committer, publisher: Publisher, databases: Sequence[Database]) -> None:
        super().__init__()
        self._committer = committer
        self._publisher = publisher
        self._databases = databases

    @Service.task
    async def _commit(self) -> None:
        await self._committer.run()

    @Service.task
    async def _publish(self) -> None:
        await self._publisher.run()

    @Service.task
    async def _store_cursors(self) -> None:
        while not self.should_stop:
            await self.sleep(CURSOR_INTERVAL_S)
            try:
                await self._publisher.store_cursors()
            except Unavailable as error:
                self.log.warning("the published cursor is not stored: %s", error)

    async def on_shutdown(self) -> None:
        """Close the connections; what is committed and unpublished goes out again after the next claim."""
        for database in self._databases:
            await database.close()


class LedgerHandler:
    """Turns a batch of records into a slice of events and waits until it is committed."""

    def __init__(self, committer: Committer, dead_letters: DeadLetters) -> None:
        self._committer = committer
        self._dead_letters = dead_letters
        self._decode: Callable[[bytes], WalletTransaction] = codec.decoder(WalletTransaction)

    async def handle(self, batch: RecordBatch) -> None:
        """Book a batch; done when PostgreSQL has it. A record that is no event of ours is buried."""
        events: list[Sourced] = []
        burials: list[Burial] = []
        for record in batch.records:
            try:
                event = self._decode(record.value or b"")
            except Rejected as error:
                burials.append(Burial(record, error.reason, error.detail))
            else:
                events.append(Sourced(event, Position(record.topic, record.partition, record.offset)))
        if burials:
            await self._dead_letters.bury_all(burials)
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
    log_topic = qualified(TRANSACTIONS, settings.namespace)
    producer = app.supervise(BatchProducer(ProducerSettings(settings.bootstrap_servers, "pitboss.ledger")))
    store = PostgresLedger(Database(settings.database_url, "pitboss.ledger"), policies, topic=log_topic)
    publishing = Database(settings.database_url, "pitboss.publisher")
    publisher = Publisher(
        publishing,
        _sender(producer),
        store.epochs,
        log_topic=log_topic,
        balances_topic=qualified(BALANCES, settings.namespace),
        outcomes_topic=qualified(OUTCOMES, settings.namespace),
    )
    committer = Committer(store, publisher)
    claiming = Database(settings.database_url, "pitboss.claim")
    app.supervise(LedgerService(committer, publisher, (store.database, publishing, claiming)))
    positions = LedgerPositions(
        claiming,
        store.epochs,
        publisher,
        settings.bootstrap_servers,
        log_topic,
        _installation_check(settings, claiming, producer, log_topic),
    )
    add_agent(
        app,
        IntakeSettings(
            settings.bootstrap_servers,
            qualified(GROUP, settings.namespace),
            start="none",
            group_instance_id=settings.group_instance_id,
        ),
        LedgerHandler(committer, DeadLetters(producer, "ledger", settings.code_version)).handle,
        name="ledger.post",
        topics=[log_topic],
        positions=positions,
    )
    return app


def _sender(producer: BatchProducer) -> Send:
    async def send(topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
        if records:
            await producer.send_keyed(topic, [(key, value, (), None) for key, value in records])

    return send


def _installation_check(
    settings: LedgerSettings, database: Database, producer: BatchProducer, log_topic: str
) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        try:
            async with asyncio.timeout(20):
                cluster = await cluster_id(settings.bootstrap_servers)
        except TimeoutError as error:
            message = f"no broker at {settings.bootstrap_servers} says which cluster it is"
            raise Unavailable(message) from error
        await check_installation(database, cluster, await producer.partition_count(log_topic))

    return check
