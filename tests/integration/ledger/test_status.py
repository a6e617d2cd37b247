"""`pitboss status --json` of an installation in which everything that it counts is there."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from click.testing import CliRunner

from ledger_sink.booking.positions import claim_positions
from ledger_sink.proof.sealing import seal_partitions
from ledger_sink.resolve.barriers import OLD_AFTER_S
from ledger_sink.resolve.progress import KafkaPipelineProgress
from ledger_sink.resolve.resolver import CONSUMER, ParkedEvent, Resolver
from ledger_sink.rules.book import LogEvent
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from pitboss.cli.main import cli
from pitboss.ops import installation
from pitboss.ops.provision import provision
from pitboss.settings import worker_environment
from pitboss.workers import ALL_ROLES
from pitboss.workers.restarts import note_restart
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas import codec
from schemas.errors import Stalled
from schemas.events import Position, WalletTransaction
from schemas.topics import TRANSACTIONS, UNRESOLVED, raw_topic
from streams.providers.versions import VersionRow, VersionState
from tests.support.ledger_events import deposit, win

pytestmark = pytest.mark.integration

SEALED = (
    deposit("large", 50_000, player=None),
    win("lost", 4, "never", player=None, provider="hundredhp"),
)
UNSEALED = deposit("later", 700, player="p-1")
PARKED = deposit("psp-1", 2_500, player=None, reference=("deposit.opened", "dep-psp-1"))


async def no_append(records) -> None:
    assert not records


async def book(runtime, database, offset, *events) -> None:
    topic = runtime.topic(TRANSACTIONS)
    ledger = PostgresLedger(database, {}, topic=topic)
    ledger.epochs[0] = (await claim_positions(database, [0], topic=topic))[0].epoch
    now_ms = time.time_ns() // 1_000_000
    placed = [
        LogEvent(event, Position(topic, 0, offset + n), now_ms) for n, event in enumerate(events)
    ]
    await ledger.commit_group([Slice(0, offset, offset + len(placed), placed)])


async def wait_behind_a_barrier(runtime, database) -> None:
    """Park an event of a provider whose raw topic has a record that no normaliser has read."""
    async with BatchProducer(ProducerSettings(runtime.broker, "test")) as producer:
        await producer.send(runtime.topic(raw_topic("adyen")), b"k", b"{}", partition=0)
    # A broker that has just started has no coordinator of a group yet.
    client = AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(),
        group_id=runtime.group("normalise"),
        enable_auto_commit=False,
    )
    async with client as consumer:
        tp = TopicPartition(runtime.topic(raw_topic("adyen")), 0)
        consumer.assign([tp])
        await consumer.commit({tp: 0})
    unresolved = runtime.topic(UNRESOLVED)
    progress = KafkaPipelineProgress(runtime.broker, runtime.namespace, "normalise")
    async with progress:
        resolver = Resolver(
            database,
            no_append,
            progress,
            topic=unresolved,
            log_topic=runtime.topic(TRANSACTIONS),
            min_age_ms=0,
        )
        claims = await claim_positions(database, [0], consumer=CONSUMER, topic=unresolved)
        resolver.take_over({0: claims[0].epoch})
        body = codec.encoder(WalletTransaction)(PARKED)
        await resolver.park(0, 0, 1, [ParkedEvent(0, PARKED, body)])
        await resolver.sweep()


@pytest.fixture
async def row(runtime, tmp_path, monkeypatch):
    """What the command says, and the code that it ends with."""
    await asyncio.to_thread(
        provision, runtime, partitions=1, raw_partitions=1, providers=["adyen", "house"]
    )
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    try:
        await book(runtime, database, 0, *SEALED)
        with psycopg.connect(runtime.database_url) as connection:
            assert len(seal_partitions(connection, runtime.topic(TRANSACTIONS))) == 1
        await book(runtime, database, len(SEALED), UNSEALED)
        await wait_behind_a_barrier(runtime, database)
    finally:
        await database.close()
    with psycopg.connect(runtime.database_url) as connection:
        for table, column in (("barrier", "raised_at"), ("parked", "parked_at")):
            older = f"UPDATE {table} SET {column} = {column} - %s * interval '1 second'"
            assert connection.execute(older.encode(), (2 * OLD_AFTER_S,)).rowcount == 1
    # By a clock that stands still: midnight may come while the command runs.
    today = datetime(2026, 11, 22, tzinfo=UTC)
    monkeypatch.setattr(installation, "datetime", SimpleNamespace(now=lambda _: today))
    day = today.date() + timedelta(days=21)
    version = VersionRow(
        provider="adyen",
        version="1",
        adapter="m:C",
        state=VersionState.DEPRECATED,
        source="s",
        retires_on=day,
    )
    monkeypatch.setattr(installation, "DIALECTS", SimpleNamespace(rows=(version,)))
    for role, code in (("ledger", -9), ("ledger", Stalled.exit_code), ("gateway", -9)):
        note_restart(tmp_path, runtime.namespace, role, code)
    environment = {**worker_environment(runtime), "PITBOSS_HOME": str(tmp_path)}
    done = await asyncio.to_thread(CliRunner().invoke, cli, ["status", "--json"], env=environment)
    assert done.exit_code == 1, done.output
    found = json.loads(done.stdout)
    assert found["notes"] == []
    return found | {"day": str(day)}


async def test_every_part_of_the_state_has_what_the_installation_has(row):
    groups = {one["kind"]: one for one in row["open"]}
    assert {kind: (one["count"], one["total_minor"]) for kind, one in groups.items()} == {
        "suspense": (1, 50_000),
        "unresolved": (1, 4),
        "parked": (1, 2_500),
        "barrier": (1, 0),
    }
    assert groups["suspense"]["currency"] == "EUR"
    assert groups["barrier"]["oldest_s"] >= 2 * OLD_AFTER_S
    [barrier] = row["old_barriers"]
    assert barrier["events"] == 1
    assert "normalised up to 0 of 1" in barrier["waits_for"][0]
    assert 0 < row["unsealed_s"] < 300
    assert row["never_sealed"] == 0
    [retiring] = row["retiring"]
    assert (retiring["version"], retiring["retires_on"], retiring["days"]) == ("1", row["day"], 21)
    roles = {one["role"]: one for one in row["roles"]}
    assert tuple(roles) == ALL_ROLES
    restarts = {name: one["restarts"] for name, one in roles.items() if one["restarts"]}
    assert restarts == {"ledger": {"SIGKILL": 1, "STALLED": 1}, "gateway": {"SIGKILL": 1}}
    assert roles["gateway"]["partitions"] == roles["archive"]["partitions"] == []
    assert roles["normalise"]["lag_records"] == 1
    assert row["oldest_unanswered_s"] > 0
