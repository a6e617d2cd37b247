"""Topics and tables with a normaliser and a ledger behind them, and the command line `pitboss dlt` before them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result

from lab.conformance.writers.hub88 import signature
from lab.sandbox.keys import SandboxKeys
from ledger_sink.booking.handler import create_ledger_app
from ledger_sink.booking.settings import LedgerSettings
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.migrate import migrate
from pitboss.cli.main import cli
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import Runtime, worker_environment
from replay.audit.checks import check_offsets
from replay.audit.evidence import read_all_topics, read_tables
from runtime.dead_letters.key_holds import ParkLimits
from runtime.kafka.topic_reader import read_topics
from schemas import codec
from schemas.errors import RejectCode
from schemas.events import WalletOutcome, WalletTransaction
from schemas.policies import DEFAULT_POLICY
from schemas.topics import OUTCOMES, TRANSACTIONS, raw_topic
from streams.normalise.handler import NormaliseWorker, create_worker
from streams.normalise.settings import NormaliseSettings, ParkSettings
from streams.providers.adyen import Adyen
from streams.providers.dialect import UnreadableItem
from streams.providers.hub88 import Hub88
from streams.providers.playngo import PlayNGo
from streams.providers.registry import by_provider
from tests.support.sandbox_keys import shared_keys

PARTITIONS = 2
PATIENCE_S = 120


PROVIDERS = ["adyen", "hub88", "playngo"]


KEYS = shared_keys()
DO = ("--by", "ann", "--reason", "the key was rotated")


class Picky(Hub88):
    """Reads no amount of 13 units, until it is repaired."""

    is_repaired = False

    def _draft(self, operation: str, body: Any, player_id: str, verdict: str) -> Any:
        if body.amount == 13 * 1000 and not Picky.is_repaired:
            raise UnreadableItem(RejectCode.BAD_AMOUNT, "thirteen", player_id)
        return super()._draft(operation, body, player_id, verdict)


@pytest.fixture(autouse=True)
def reset_picky() -> None:
    Picky.is_repaired = False


@pytest.fixture
def installation(runtime: Runtime) -> Runtime:
    migrate(runtime.database_url)
    asyncio.run(create_topics(runtime.broker, runtime.namespace, PROVIDERS, PARTITIONS, PARTITIONS))
    return runtime


@pytest.fixture
def pitboss(installation: Runtime, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    for name, value in worker_environment(installation).items():
        if name.startswith("PITBOSS_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("PITBOSS_KEYS_FILE", "")
    return lambda *arguments: CliRunner().invoke(cli, ["dlt", *arguments], catch_exceptions=False)


def hub88(
    operation: str, tx: str, player: str, units: int = 1, bet: str | None = None
) -> dict[str, Any]:
    body = {
        "user": player,
        "transaction_uuid": tx,
        "round": "R",
        "amount": units * 1000,
        "currency": "EUR",
    }
    if bet is not None:
        body["reference_transaction_uuid"] = bet
    value = json.dumps(body).encode()
    headers = [
        ("http-path", f"/transaction/{operation}".encode()),
        ("x-hub88-signature", signature(value, KEYS.of("hub88"))),
        ("authorization", b"Bearer s3cret"),
        ("empty", None),
    ]
    return {"key": player.encode(), "value": value, "headers": headers, "partition": 1}


async def append(
    runtime: Runtime, records: Sequence[dict[str, Any]], topic: str = raw_topic("hub88")
) -> list[str]:
    """The places of the appended records, as text."""
    producer = AIOKafkaProducer(**runtime.broker.aiokafka_options(), acks="all")
    await producer.start()
    try:
        sent = [await producer.send_and_wait(runtime.topic(topic), **record) for record in records]
    finally:
        await producer.stop()
    return [f"{one.topic}-{one.partition}@{one.offset}" for one in sent]


def normaliser(runtime: Runtime, *, key: SandboxKeys = KEYS, park: bool = False) -> NormaliseWorker:
    settings = (
        ParkSettings(runtime.database_url, frozenset({"hub88"}), ParkLimits(records_max=5))
        if park
        else None
    )
    return create_worker(
        NormaliseSettings(
            runtime.broker, runtime.namespace, "test-1", key.keyring(), park=settings
        ),
        by_provider([Adyen(), Picky(), PlayNGo()]),
    )


@asynccontextmanager
async def running(*apps: Any) -> AsyncIterator[None]:
    for app in apps:
        await app.start()
    try:
        yield
    finally:
        for app in apps:
            await app.stop()


def ledger(runtime: Runtime) -> Any:
    settings = LedgerSettings(runtime.broker, runtime.database_url, runtime.namespace, "test-1")
    return create_ledger_app(settings, {"hub88": DEFAULT_POLICY})


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - counters and tables know no event
            await asyncio.sleep(0.02)


async def run_normaliser(runtime: Runtime, count: int, **options: Any) -> NormaliseWorker:
    """A normaliser from where the last one ended, until it has handled so many more records."""
    worker = normaliser(runtime, **options)
    async with running(worker.app):
        await until(
            lambda: worker.stats.records + waiting(runtime) >= count,
            f"{count} records read or waiting",
        )
    return worker


def waiting(runtime: Runtime) -> int:
    with psycopg.connect(runtime.database_url) as connection:
        [(count,)] = connection.execute(
            "SELECT count(*) FROM dead_letters.parked WHERE released_at IS NULL"
        ).fetchall()
    return count


async def log_of(runtime: Runtime, player: str | None = "p") -> list[WalletTransaction]:
    """The events of a player (or of nobody) in their order; across partitions there is none."""
    decode = codec.decoder(WalletTransaction)
    topic = {runtime.topic(TRANSACTIONS)}
    events = [decode(record.value) async for record in read_topics(runtime.broker, topic)]
    return [event for event in events if event.player_id == player]


async def run_ledger(runtime: Runtime, count: int) -> dict[str, WalletOutcome]:
    """Outcomes by attempt, once the ledger has answered so many."""
    decode = codec.decoder(WalletOutcome)
    outcomes: dict[str, WalletOutcome] = {}
    app = ledger(runtime)
    async with running(app), asyncio.timeout(PATIENCE_S):
        while len(outcomes) < count:
            async for record in read_topics(runtime.broker, {runtime.topic(OUTCOMES)}):
                outcome = decode(record.value)
                at = outcome.attempt
                outcomes[f"{at.topic}-{at.partition}@{at.offset}"] = outcome
            await asyncio.sleep(0.05)
    return outcomes


async def check_accounting(runtime: Runtime) -> None:
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    try:
        tables = await read_tables(database)
    finally:
        await database.close()
    topics = await read_all_topics(runtime.broker, runtime.namespace, PROVIDERS)
    check = check_offsets(topics, tables)
    assert check.holds, check.detail
