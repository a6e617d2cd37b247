"""A small settled namespace, read by the readers of the checks, for tests that spoil it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field

import msgspec
import psycopg
import pytest
import pytest_asyncio

from ledger_sink.booking.positions import claim_positions
from ledger_sink.booking.publisher import Publisher
from ledger_sink.rules.book import LogEvent
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from pitboss.embedded.databases import create_database
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import Runtime
from replay.audit.checks import check_offsets, check_topics
from replay.audit.evidence import (
    TableEvidence,
    TopicEvidence,
    _TopicReaders,
    read_all_topics,
    read_tables,
)
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from schemas import codec
from schemas.events import (
    Attempt,
    DeadLetter,
    MarketSettlement,
    PlayerEvent,
    Position,
    WalletBalance,
    WalletOutcome,
    WalletTransaction,
)
from schemas.topics import (
    BALANCES,
    OUTCOMES,
    PLAYER_EVENTS,
    SETTLEMENTS,
    TRANSACTIONS,
    UNRESOLVED,
    dead_letter_topic,
    raw_topic,
)
from tests.support.ledger_events import bet, deposit

PROVIDERS = ("adyen", "hub88")
RAW = {provider: raw_topic(provider) for provider in PROVIDERS}
RECORDS = {"adyen": 4, "hub88": 6}
"""How many raw records each provider sent; `log_events` has the events of the log."""

UNREADABLE = b"\0\0\0\0\x01 no such record"


@dataclass
class SettledScene:
    """Settled namespace, with a producer that appends to its topics."""

    runtime: Runtime
    database: LedgerDatabase
    producer: BatchProducer
    balances: dict[str, WalletBalance] = field(default_factory=dict)
    outcomes: list[WalletOutcome] = field(default_factory=list)

    async def put(
        self, topic: str, key: str | None, value: msgspec.Struct | bytes | None
    ) -> Position:
        """Append one record, as the writer of that topic would, and return its position."""
        data = codec.encoder(type(value))(value) if isinstance(value, msgspec.Struct) else value
        name = self.runtime.topic(topic)
        sent = await self.producer.send(name, None if key is None else key.encode(), data)
        return Position(name, sent.partition, sent.offset)

    def attempt(self, provider: str, offset: int, index: int = 0) -> Attempt:
        return Attempt(self.runtime.topic(RAW[provider]), 0, offset, index)

    async def read_everything(self) -> tuple[TopicEvidence, TableEvidence]:
        topics = await read_all_topics(self.runtime.broker, self.runtime.namespace, PROVIDERS)
        return topics, await read_tables(self.database)


@dataclass
class SceneCopy:
    """Copy of the evidence for one test, with what that test has appended since."""

    scene: SettledScene
    topics: TopicEvidence
    tables: TableEvidence

    async def put(self, topic: str, key: str | None, value: msgspec.Struct | bytes | None) -> str:
        """Append a record, read it with the reader of the checks, and return its position as text.

        Only this record is read: those of other tests do not matter here, and reading a whole
        namespace takes more than a second.
        """
        position = await self.scene.put(topic, key, value)
        runtime = self.scene.runtime
        async for record in read_topics(runtime.broker, {position.topic}):
            if record.offset == position.offset:
                _TopicReaders(self.topics, runtime.namespace).read(record)
        return f"{position.topic}-{position.partition}@{position.offset}"

    def failed_checks(self) -> dict[str, str]:
        """Return the names and details of the checks that do not hold."""
        checks = [check_offsets(self.topics, self.tables), check_topics(self.topics, self.tables)]
        return {check.name: check.detail for check in checks if not check.holds}


def log_events(scene: SettledScene) -> list[WalletTransaction]:
    """Return the events of the log.

    Both players reach version 3. There is a batch of two bets, a retry, and a deposit without a
    player.
    """
    attempt = scene.attempt
    return [
        deposit("d", 10_000, attempt=attempt("adyen", 0)),
        deposit("d2", 5_000, attempt=attempt("adyen", 1), player="p-2"),
        deposit("nobody's", 70, attempt=attempt("adyen", 2), player=None),
        bet("b", 150, attempt=attempt("hub88", 0, 0)),
        bet("c", 50, attempt=attempt("hub88", 0, 1)),
        bet("b2", 20, attempt=attempt("hub88", 1), player="p-2"),
        bet("c2", 30, attempt=attempt("hub88", 2), player="p-2"),
        bet("b", 150, attempt=attempt("hub88", 3)),
    ]


def waiting_event(scene: SettledScene, tx_id: str = "waits", offset: int = 3) -> WalletTransaction:
    return deposit(tx_id, 5, attempt=scene.attempt("adyen", offset), player=None)


def player_event(attempt: Attempt) -> PlayerEvent:
    return PlayerEvent(
        "event",
        "acme",
        "hub88",
        "1",
        "MT",
        "login",
        "l",
        attempt,
        "p-1",
        "LOGIN",
        {},
        0,
        "BROKER",
        None,
        None,
        0,
        "VALID",
    )


def settlement(attempt: Attempt) -> MarketSettlement:
    return MarketSettlement(
        "event",
        "acme",
        "hub88",
        "1",
        "MT",
        "settle",
        "s",
        attempt,
        "match",
        "market",
        "",
        "home",
        "SETTLED",
        "WON",
        None,
        None,
        None,
        None,
        None,
        0,
        "BROKER",
        None,
        None,
        0,
        "VALID",
    )


def dead_letter(source: Position, index: int | None = None) -> DeadLetter:
    return DeadLetter(source, index, None, b"{", [], 0, "MALFORMED", "", "normalise", "0", None)


@asynccontextmanager
async def settled_scene(runtime: Runtime) -> AsyncIterator[SettledScene]:
    """Write raw records and their results with the real ledger and publisher, as workers would."""
    migrate(runtime.database_url)
    await create_topics(
        runtime.broker, runtime.namespace, PROVIDERS, partitions=1, raw_partitions=1
    )
    async with (
        BatchProducer(ProducerSettings(runtime.broker, "pitboss.test")) as producer,
        aclosing_database(runtime) as database,
    ):
        scene = SettledScene(runtime, database, producer)
        for provider, count in RECORDS.items():
            await producer.send_batch(
                runtime.topic(RAW[provider]), 0, [(b"k", b"{}", (), None)] * count
            )
        await scene.put(PLAYER_EVENTS, "p-1", player_event(scene.attempt("hub88", 4)))
        await scene.put(SETTLEMENTS, "match", settlement(scene.attempt("hub88", 5, 0)))
        last = Position(runtime.topic(RAW["hub88"]), 0, 5)
        await scene.put(dead_letter_topic(RAW["hub88"]), "k", dead_letter(last, index=1))
        await _park(scene)
        await _book(scene)
        for topic in (TRANSACTIONS, UNRESOLVED):
            await scene.put(
                dead_letter_topic(topic), "k", dead_letter(await scene.put(topic, "k", UNREADABLE))
            )
        yield scene


@asynccontextmanager
async def aclosing_database(runtime: Runtime) -> AsyncIterator[LedgerDatabase]:
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    try:
        yield database
    finally:
        await database.close()


async def _park(scene: SettledScene) -> None:
    event = waiting_event(scene)
    await scene.put(UNRESOLVED, event.provider_tx_id, event)
    with psycopg.connect(scene.runtime.database_url) as connection:
        connection.execute(
            "INSERT INTO parked (part, source_offset, event_id, body) VALUES (0, 0, %s, '')",
            (event.event_id,),
        )


async def _book(scene: SettledScene) -> None:
    name, events = scene.runtime.topic(TRANSACTIONS), log_events(scene)
    for event in events:
        await scene.put(TRANSACTIONS, event.player_id or event.provider_tx_id, event)
    log = [LogEvent(event, Position(name, 0, offset)) for offset, event in enumerate(events)]
    ledger = PostgresLedger(scene.database, {})
    ledger.epochs[0] = (await claim_positions(scene.database, [0]))[0].epoch
    applied = await ledger.commit_group([Slice(0, 0, len(log), log)])

    async def send(topic, records):
        await scene.producer.send_keyed(topic, [(key, value, (), None) for key, value in records])
        for key, value in records:
            if topic.endswith(BALANCES):
                scene.balances[key.decode()] = codec.decoder(WalletBalance)(value)
            else:
                scene.outcomes.append(codec.decoder(WalletOutcome)(value))

    topics = [scene.runtime.topic(topic) for topic in (TRANSACTIONS, BALANCES, OUTCOMES)]
    publisher = Publisher(
        scene.database,
        send,
        ledger.epochs,
        log_topic=topics[0],
        balances_topic=topics[1],
        outcomes_topic=topics[2],
    )
    await publisher._publish([applied])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everything(stack, namespaces, leftovers):
    runtime = stack.runtime(namespaces())
    create_database(runtime)
    async with settled_scene(runtime) as scene:
        yield scene, await scene.read_everything()
    leftovers.append(runtime)


@pytest.fixture
def look(everything):
    scene, (topics, tables) = everything
    return SceneCopy(scene, deepcopy(topics), deepcopy(tables))
