"""`ledger sweep` ends no round while something that may name its bet is on its way."""

from __future__ import annotations

import asyncio
import json

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from click.testing import CliRunner

from ledger_sink.booking.positions import claim_positions
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from pitboss.cli.main import cli
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import worker_environment
from runtime.kafka.topic_reader import read_topics
from schemas.topics import TRANSACTIONS, raw_topic
from tests.support.ledger_events import bet, deposit, log_event

pytestmark = pytest.mark.integration

LONG_AGO_MS = 1_600_000_000_000


class Scene:
    """A ledger with one round of 100HP that is open for years; what comes in is up to the test."""

    def __init__(self, runtime):
        self.runtime = runtime

    async def book(self):
        runtime = self.runtime
        await create_topics(
            runtime.broker,
            runtime.namespace,
            ["house", "hub88", "hundredhp"],
            partitions=1,
            raw_partitions=1,
        )
        database = LedgerDatabase(runtime.database_url, "pitboss.test")
        topic = runtime.topic(TRANSACTIONS)
        ledger = PostgresLedger(database, {}, topic=topic)
        claims = await claim_positions(database, [0], topic=topic)
        ledger.epochs[0] = claims[0].epoch
        events = [deposit("d", 100), bet("b", 10, provider="hundredhp")]
        placed = [log_event(event, 0, n) for n, event in enumerate(events)]
        await ledger.commit_group([Slice(0, 0, 2, placed)])
        await database.close()
        self.execute("UPDATE entry SET occurred_at_ms = %s", LONG_AGO_MS)
        self.execute("UPDATE stream_position SET next_offset = 0")

    def execute(self, statement, *parameters):
        with psycopg.connect(self.runtime.database_url) as connection:
            connection.execute(statement, parameters)

    async def send(self, topic):
        async with AIOKafkaProducer(**self.runtime.broker.aiokafka_options()) as producer:
            await producer.send_and_wait(self.runtime.topic(topic), b"x", partition=0)

    async def commit(self, provider):
        client = AIOKafkaConsumer(
            **self.runtime.broker.aiokafka_options(),
            group_id=self.runtime.group("normalise"),
            enable_auto_commit=False,
        )
        async with client as consumer:
            tp = TopicPartition(self.runtime.topic(raw_topic(provider)), 0)
            consumer.assign([tp])
            await consumer.commit({tp: 1})

    async def sweep(self, *options, command="sweep"):
        arguments = ["ledger", command, "--by", "test", *options]
        return await asyncio.to_thread(
            CliRunner().invoke, cli, arguments, env=worker_environment(self.runtime)
        )

    async def log_records(self):
        topic = self.runtime.topic(TRANSACTIONS)
        return len([one async for one in read_topics(self.runtime.broker, [topic])])


@pytest.fixture
async def scene(runtime):
    found = Scene(runtime)
    await found.book()
    await found.commit("house")  # a broker that has just started has no coordinator yet
    return found


async def test_a_win_that_is_not_normalised_yet_stops_the_sweep(scene):
    await scene.send(raw_topic("hundredhp"))
    refused = await scene.sweep("--wait", "0")
    assert refused.exit_code == 69
    assert f"{scene.runtime.topic(raw_topic('hundredhp'))}-0 (up to 0 of 1)" in refused.stderr
    assert await scene.log_records() == 0
    await scene.commit("hundredhp")
    swept = await scene.sweep("--wait", "5", "--json")
    assert swept.exit_code == 0, swept.output
    assert [one["operation"] for one in json.loads(swept.stdout)] == ["sweep.rollback"]
    assert await scene.log_records() == 1


async def test_a_win_that_is_not_booked_yet_stops_the_sweep(scene):
    await scene.send(TRANSACTIONS)
    refused = await scene.sweep("--wait", "0")
    assert refused.exit_code == 69
    assert f"{scene.runtime.topic(TRANSACTIONS)}-0 (up to 0 of 1)" in refused.stderr
    assert await scene.log_records() == 1
    scene.execute("UPDATE stream_position SET next_offset = 1")
    assert (await scene.sweep("--wait", "5")).exit_code == 0
    assert await scene.log_records() == 2


async def test_a_sweep_of_one_provider_waits_for_no_other(scene):
    await scene.send(raw_topic("hub88"))
    assert (await scene.sweep("--wait", "0")).exit_code == 69
    swept = await scene.sweep("--wait", "0", "--provider", "hundredhp")
    assert swept.exit_code == 0, swept.output
    assert await scene.log_records() == 1
