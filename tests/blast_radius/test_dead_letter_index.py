"""`pitboss dlt` reads an index and what came since, and strangers' letters are bounded."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.structs import ConsumerRecord
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.ops.topic_admin import admin_client, create_topics
from pitboss.settings import worker_environment
from runtime.dead_letters.sink import KafkaDeadLetterSink, Rejection
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.topics import dead_letter_topic, raw_topic

pytestmark = pytest.mark.integration

NOW_MS = 1_790_000_000_000


class Scene:
    """An installation with dead letters, and a count of the records that a command reads."""

    def __init__(self, runtime, monkeypatch):
        self.runtime = runtime
        self.topic = runtime.topic(raw_topic("hub88"))
        self.dlt = TopicPartition(dead_letter_topic(self.topic), 0)
        self.read = 0
        original = AIOKafkaConsumer.getmany

        async def getmany(consumer, *partitions, **options):
            found = await original(consumer, *partitions, **options)
            self.read += sum(map(len, found.values()))
            return found

        monkeypatch.setattr(AIOKafkaConsumer, "getmany", getmany)

    def rejection(self, offset: int, code="BAD_AMOUNT", value=b'{"amount": "x"}') -> Rejection:
        record = ConsumerRecord(
            self.topic, 0, offset, NOW_MS, 1, b"p", value, None, 1, len(value), [("a", b"b")]
        )
        return Rejection(record, code, f"letter {offset}", player_id="p")

    async def bury(self, *rejections: Rejection) -> None:
        settings = ProducerSettings(self.runtime.broker, "test")
        async with BatchProducer(settings) as producer:
            await KafkaDeadLetterSink(producer, "normalise", "1").publish_all(rejections)

    async def dlt_command(self, *arguments: str) -> Any:
        self.read = 0
        done = await asyncio.to_thread(
            CliRunner().invoke,
            cli,
            ["dlt", *arguments, "--json"],
            env=worker_environment(self.runtime),
        )
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.runtime.database_url) as connection:
            connection.execute(statement.encode())

    async def cut(self, before: int) -> None:
        async with admin_client(self.runtime.broker) as admin:
            await admin.delete_records({self.dlt: RecordsToDelete(before)})

    async def letters(self) -> list[Any]:
        found: list[Any] = []
        options = {**self.runtime.broker.aiokafka_options()}
        async with AIOKafkaConsumer(**options) as consumer:
            consumer.assign([self.dlt])
            await consumer.seek_to_beginning(self.dlt)
            end = (await consumer.end_offsets([self.dlt]))[self.dlt]
            while await consumer.position(self.dlt) < end:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += records
        return found


@pytest.fixture
async def scene(runtime, monkeypatch):
    await create_topics(
        runtime.broker, runtime.namespace, ["hub88"], partitions=1, raw_partitions=1
    )
    return Scene(runtime, monkeypatch)


async def test_a_letter_is_read_once(scene):
    await scene.bury(*(scene.rejection(n) for n in range(300)))
    [group] = await scene.dlt_command("list")
    assert (group["count"], group["open"], scene.read) == (300, 300, 300)
    assert await scene.dlt_command("list") == [group]
    assert scene.read == 0
    await scene.bury(scene.rejection(300), scene.rejection(301, "BAD_TIME"))
    groups = await scene.dlt_command("list")
    assert {one["code"]: one["count"] for one in groups} == {"BAD_AMOUNT": 301, "BAD_TIME": 1}
    assert scene.read == 2


async def test_the_index_can_be_thrown_away(scene):
    await scene.bury(*(scene.rejection(n) for n in range(20)))
    before = await scene.dlt_command("list")
    scene.execute("TRUNCATE dead_letters.letter, dead_letters.letter_position")
    assert await scene.dlt_command("list") == before
    assert scene.read == 20


async def test_only_the_bytes_that_are_asked_for_are_read(scene):
    await scene.bury(*(scene.rejection(n, value=b"%d" % n) for n in range(2_000)))
    await scene.dlt_command("list")
    shown = await scene.dlt_command("show", f"{scene.topic}-0@7", "--reveal-secrets")
    assert shown["value"] == "7"
    assert 0 < scene.read < 1_000
    assert shown["headers"] == [["a", "b"]]


async def test_letters_that_their_topic_no_longer_holds_are_forgotten(scene):
    await scene.bury(*(scene.rejection(n) for n in range(10)))
    await scene.dlt_command("list")
    await scene.cut(4)
    [group] = await scene.dlt_command("list")
    assert (group["count"], scene.read) == (6, 0)


async def test_a_letter_whose_signature_was_never_good_is_cut_above_the_quota(scene):
    value = bytes(range(256)) * 40
    settings = ProducerSettings(scene.runtime.broker, "test")
    async with BatchProducer(settings) as producer:
        sink = KafkaDeadLetterSink(producer, "normalise", "1", unsigned_bytes_per_h=30_000)
        for n in range(10):
            await sink.publish_all([scene.rejection(n, "BAD_SIGNATURE", value)])
        await sink.publish_all([scene.rejection(10, "BAD_AMOUNT", value)])
    letters = await scene.letters()
    sizes = [len(letter.value) for letter in letters]
    assert all(size > len(value) for size in (*sizes[:2], sizes[10]))
    assert all(size < 400 for size in sizes[3:10])
    headers = dict(letters[9].headers)
    assert headers["value-size"] == b"10240"
    assert headers["value-sha256"] == hashlib.sha256(value).hexdigest().encode()
    assert headers["value-head"] == value[:1024]
    shown = await scene.dlt_command("show", f"{scene.topic}-0@9")
    assert "the bytes are at " in shown["letters"][0]["detail"]


async def test_old_letters_of_strangers_are_trimmed_and_open_ones_that_were_signed_stay(scene):
    codes = ["BAD_SIGNATURE", "MISSING_SIGNATURE", "BAD_SIGNATURE", "BAD_AMOUNT", "BAD_SIGNATURE"]
    await scene.bury(*(scene.rejection(n, code) for n, code in enumerate(codes)))
    assert await scene.dlt_command("trim", "--older-than", "36500d") == []
    [planned] = await scene.dlt_command("trim", "--older-than", "0s", "--dry-run")
    assert (planned["letters"], planned["before_offset"]) == (3, 3)
    assert await scene.dlt_command("trim", "--older-than", "0s") == [planned]
    [signed, unsigned] = sorted(await scene.dlt_command("list"), key=lambda one: one["code"])
    assert (signed["code"], signed["open"], unsigned["open"]) == ("BAD_AMOUNT", 1, 1)
    place = f"{scene.topic}-0@3"
    await scene.dlt_command("drop", place, "--by", "ann", "--reason", "a test")
    [rest] = await scene.dlt_command("trim", "--older-than", "0s")
    assert (rest["letters"], rest["before_offset"]) == (2, 5)
    assert await scene.dlt_command("list") == []
