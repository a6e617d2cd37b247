"""A raw topic that is gone, cut or stuck holds up only what could refer to its records, and not for ever."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete

from ledger_sink.booking.positions import claim_positions
from ledger_sink.resolve import barriers
from ledger_sink.resolve.progress import KafkaPipelineProgress
from ledger_sink.resolve.resolver import CONSUMER, ParkedEvent, Resolver
from ledger_sink.store.database import LedgerDatabase
from pitboss.ops.topic_admin import admin_client, create_topics
from schemas import codec
from schemas.events import WalletTransaction
from schemas.topics import TRANSACTIONS, UNRESOLVED, raw_topic
from tests.support.ledger_events import deposit

pytestmark = pytest.mark.integration

PATIENCE_S = 120


def notice(tx_id="psp-1", provider="adyen"):
    """A payment that names a deposit which was never opened."""
    reference = ("deposit.opened", f"dep-{tx_id}")
    event = deposit(tx_id, 2_500, player=None, reference=reference)
    assert event.provider == provider
    return event


class Scene:
    """A resolver on the real broker and database; what it appends is kept here."""

    def __init__(self, runtime, database, progress):
        self.runtime, self.database, self.progress = runtime, database, progress
        self.appended: list[str] = []
        self.resolver = Resolver(
            database,
            self.append,
            progress,
            topic=runtime.topic(UNRESOLVED),
            log_topic=runtime.topic(TRANSACTIONS),
            min_age_ms=0,
        )

    async def append(self, records):
        decode = codec.decoder(WalletTransaction)
        self.appended += [decode(value).provider_tx_id for _, value in records]

    async def send(self, provider, count=1):
        topic = self.runtime.topic(raw_topic(provider))
        async with AIOKafkaProducer(**self.runtime.broker.aiokafka_options()) as producer:
            for n in range(count):
                await producer.send_and_wait(topic, b"%d" % n, partition=0)

    async def commit(self, provider, offset):
        """As the normaliser does."""
        tp = TopicPartition(self.runtime.topic(raw_topic(provider)), 0)
        client = AIOKafkaConsumer(
            **self.runtime.broker.aiokafka_options(),
            group_id=self.runtime.group("normalise"),
            enable_auto_commit=False,
        )
        async with client as consumer:
            consumer.assign([tp])
            await consumer.commit({tp: offset})

    async def park(self, event, offset=0):
        body = codec.encoder(WalletTransaction)(event)
        await self.resolver.park(0, offset, offset + 1, [ParkedEvent(offset, event, body)])

    async def sweep_until_final(self, *tx_ids):
        deadline = time.monotonic() + PATIENCE_S
        while self.appended != list(tx_ids):
            assert time.monotonic() < deadline, f"still waiting, behind {self.open_barriers()}"
            await self.resolver.sweep()
            await asyncio.sleep(0.05)

    async def stays_waiting(self, sweeps=5):
        for _ in range(sweeps):
            await self.resolver.sweep()
            await asyncio.sleep(0.02)
        assert self.appended == []

    def open_barriers(self):
        with psycopg.connect(self.runtime.database_url) as connection:
            return connection.execute("SELECT raw_ends, log_ends FROM barrier").fetchall()


@pytest.fixture
async def scene(runtime, monkeypatch):
    monkeypatch.setattr(barriers, "LOST_AFTER_S", 0.5)
    monkeypatch.setattr(barriers, "LOOK_EVERY_S", 0.1)
    await create_topics(
        runtime.broker,
        runtime.namespace,
        ["adyen", "house", "hub88"],
        partitions=1,
        raw_partitions=1,
    )
    database = LedgerDatabase(runtime.database_url, "pitboss.resolve")
    progress = KafkaPipelineProgress(runtime.broker, runtime.namespace, "normalise")
    async with progress:
        found = Scene(runtime, database, progress)
        topic = runtime.topic(UNRESOLVED)
        claims = await claim_positions(database, [0], consumer=CONSUMER, topic=topic)
        found.resolver.take_over({0: claims[0].epoch})
        # A broker that has just started has no coordinator of a group yet.
        await found.commit("house", 0)
        yield found
    await database.close()


async def test_a_raw_topic_that_is_deleted_unread_holds_nothing_up(scene):
    await scene.send("adyen")
    await scene.park(notice())
    await scene.stays_waiting()
    async with admin_client(scene.runtime.broker) as admin:
        await admin.delete_topics([scene.runtime.topic(raw_topic("adyen"))])
    await scene.sweep_until_final("psp-1")


async def test_a_raw_topic_that_is_made_anew_holds_nothing_up(scene):
    await scene.send("adyen", 3)
    await scene.park(notice())
    await scene.stays_waiting()
    topic = scene.runtime.topic(raw_topic("adyen"))
    async with admin_client(scene.runtime.broker) as admin:
        await admin.delete_topics([topic])
        async with asyncio.timeout(PATIENCE_S):
            while topic in await admin.list_topics():  # noqa: ASYNC110  # no event for it
                await asyncio.sleep(0.05)
        await admin.create_topics([NewTopic(topic, 1, 1)])
    await scene.send("adyen", 1)
    await scene.sweep_until_final("psp-1")


async def test_a_raw_topic_that_was_cut_behind_the_barrier_holds_nothing_up(scene):
    await scene.send("adyen", 3)
    await scene.park(notice())
    await scene.stays_waiting()
    tp = TopicPartition(scene.runtime.topic(raw_topic("adyen")), 0)
    async with admin_client(scene.runtime.broker) as admin:
        await admin.delete_records({tp: RecordsToDelete(3)})
    await scene.sweep_until_final("psp-1")


async def test_a_raw_topic_that_was_cut_in_part_is_still_waited_for(scene):
    await scene.send("adyen", 3)
    await scene.park(notice())
    tp = TopicPartition(scene.runtime.topic(raw_topic("adyen")), 0)
    async with admin_client(scene.runtime.broker) as admin:
        await admin.delete_records({tp: RecordsToDelete(2)})
    for _ in range(3):
        await scene.stays_waiting()
        await asyncio.sleep(barriers.LOST_AFTER_S / 2)
    await scene.commit("adyen", 3)
    await scene.sweep_until_final("psp-1")


async def test_a_provider_whose_records_are_stuck_holds_up_its_own_money_only(scene):
    await scene.send("hub88")  # no adyen notice refers to a bet
    await scene.park(notice())
    await scene.sweep_until_final("psp-1")


@pytest.mark.parametrize("provider", ["adyen", "house"])
async def test_the_providers_own_records_and_the_cashiers_are_waited_for(scene, provider):
    await scene.send(provider)
    await scene.park(notice())
    await scene.stays_waiting()
    await scene.commit(provider, 1)
    await scene.sweep_until_final("psp-1")


async def test_an_old_barrier_is_told_with_the_partitions_that_it_waits_for(scene, caplog):
    await scene.send("adyen", 2)
    await scene.park(notice())
    await scene.stays_waiting()
    assert "wait" not in caplog.text
    with psycopg.connect(scene.runtime.database_url) as connection:
        connection.execute("UPDATE barrier SET raised_at = now() - interval '25 minutes'")
    await scene.stays_waiting()
    place = f"{scene.runtime.topic(raw_topic('adyen'))}-0"
    [line] = [record.getMessage() for record in caplog.records if place in record.getMessage()]
    assert "1 event without a player has waited for 25 min" in line
    assert f"{place} (normalised up to 0 of 2)" in line
