"""The catalogue on a real broker: created as wanted, differences named, lag counted, a namespace removed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic, RecordsToDelete
from click.testing import CliRunner, Result

from pitboss.cli.main import cli
from pitboss.embedded.ports import choose_port
from pitboss.ops.consumer_lag import PartitionLag, measure_lag
from pitboss.ops.topic_admin import (
    TopicCreation,
    admin_client,
    check_topics,
    create_topics,
    delete_topics,
)
from pitboss.settings import Runtime
from runtime.security import BrokerAddress
from schemas.errors import Unavailable, UsageError
from schemas.topics import catalogue, qualified_name
from streams.providers.registry import DIALECTS
from tests.support.topics import make_topics

pytestmark = pytest.mark.integration

PROVIDERS = ("adyen", "hub88")
PARTITIONS = 6
PATIENCE_S = 120
LOG = "wallet.transactions.v1"


@pytest.fixture
async def creation(runtime: Runtime) -> TopicCreation:
    return await create_topics(runtime.broker, runtime.namespace, PROVIDERS, PARTITIONS, PARTITIONS)


@pytest.fixture
async def producer(runtime: Runtime) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(**runtime.broker.aiokafka_options(), acks="all") as producer:
        yield producer


async def names_on_broker(runtime: Runtime) -> set[str]:
    async with admin_client(runtime.broker) as admin:
        return {name for name in await admin.list_topics() if name.startswith(runtime.prefix)}


async def test_every_topic_of_the_catalogue_is_created_as_it_should_be(runtime, creation):
    expected = {qualified_name(topic.name, runtime.namespace) for topic in catalogue(PROVIDERS)}
    assert set(creation.created) == expected == await names_on_broker(runtime)
    assert creation.existing == ()
    assert (
        await check_topics(runtime.broker, runtime.namespace, PROVIDERS, PARTITIONS, PARTITIONS)
        == []
    )


async def test_creating_again_changes_nothing_and_adds_what_is_new(runtime, creation):
    again = await create_topics(
        runtime.broker, runtime.namespace, PROVIDERS, PARTITIONS, PARTITIONS
    )
    assert again == TopicCreation((), creation.created)
    more = await create_topics(
        runtime.broker, runtime.namespace, (*PROVIDERS, "house"), PARTITIONS, PARTITIONS
    )
    assert set(more.created) == {
        runtime.topic("provider.house.raw.v1"),
        runtime.topic("provider.house.raw.v1.dlt"),
    }


async def test_a_dry_run_creates_nothing(runtime):
    would = await create_topics(
        runtime.broker,
        runtime.namespace,
        PROVIDERS,
        PARTITIONS,
        PARTITIONS,
        dry_run=True,
    )
    assert len(would.created) == len(catalogue(PROVIDERS))
    assert await names_on_broker(runtime) == set()


async def test_differences_are_named_one_by_one(runtime):
    wrong = NewTopic(
        runtime.topic(LOG),
        num_partitions=2,
        replication_factor=1,
        topic_configs={
            "cleanup.policy": "compact",
            "retention.ms": "1000",
            "message.timestamp.type": "LogAppendTime",
        },
    )
    await make_topics(runtime.broker, wrong)
    await create_topics(runtime.broker, runtime.namespace, PROVIDERS, PARTITIONS, PARTITIONS)
    found = await check_topics(
        runtime.broker, runtime.namespace, (*PROVIDERS, "house"), PARTITIONS, PARTITIONS
    )
    log = {one.what: (one.expected, one.actual) for one in found if one.topic == runtime.topic(LOG)}
    assert log == {
        "partitions": (str(PARTITIONS), "2"),
        "cleanup.policy": ("delete", "compact"),
        "retention.ms": ("-1", "1000"),
        "message.timestamp.type": ("CreateTime", "LogAppendTime"),
    }
    missing = {one.topic for one in found if one.actual is None}
    assert missing == {
        runtime.topic("provider.house.raw.v1"),
        runtime.topic("provider.house.raw.v1.dlt"),
    }
    assert len(found) == len(log) + len(missing)
    assert f"{runtime.topic(LOG)}: retention.ms is 1000, should be -1" in {
        str(one) for one in found
    }


async def test_a_raw_topic_that_was_made_by_others_gets_its_dead_letter_topic(runtime, creation):
    raw = "provider.newone.raw.v1"
    others = ("provider.newone.raw.v2", "newone.raw.v1", f"x.{raw}")
    async with admin_client(runtime.broker) as admin:
        await admin.create_topics([NewTopic(runtime.topic(name), 3, 1) for name in (raw, *others)])
    await until_there(runtime, {runtime.topic(name) for name in (raw, *others)})
    [missing] = await check_topics(
        runtime.broker, runtime.namespace, PROVIDERS, PARTITIONS, PARTITIONS
    )
    assert str(missing) == f"{runtime.topic(raw)}.dlt: topic is missing"
    more = await create_topics(runtime.broker, runtime.namespace, PROVIDERS, PARTITIONS, PARTITIONS)
    assert more.created == (f"{runtime.topic(raw)}.dlt",)
    assert (
        await check_topics(runtime.broker, runtime.namespace, PROVIDERS, PARTITIONS, PARTITIONS)
        == []
    )


async def until_there(runtime: Runtime, names: set[str]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not names <= await names_on_broker(runtime):  # noqa: ASYNC110  # the broker does not notify
            await asyncio.sleep(0.05)


async def test_created_topics_take_records_at_once(runtime, creation, producer):
    for topic in creation.created:
        assert (await producer.send_and_wait(topic, b"{}", key=b"k", partition=0)).offset == 0


async def test_lag_is_what_lies_between_the_commit_and_the_end(runtime, creation, producer):
    topic, group = runtime.topic(LOG), runtime.group("ledger.sink")
    times: dict[tuple[int, int], int] = {}
    for partition, records in enumerate((5, 3)):
        for _ in range(records):
            sent = await producer.send_and_wait(topic, b"x", partition=partition)
            times[partition, sent.offset] = sent.timestamp
    parts = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
    async with AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(), group_id=group, enable_auto_commit=False
    ) as consumer:
        consumer.assign(parts)
        await consumer.commit({parts[0]: 2, parts[1]: 3})
    found = {
        (one.group, one.partition): one
        for one in await measure_lag(runtime.broker, runtime.namespace)
    }
    assert found.keys() == {(group, 0), (group, 1)}
    assert (found[group, 0].committed, found[group, 0].end, found[group, 0].records) == (2, 5, 3)
    assert found[group, 0].oldest_ms == times[0, 2]
    assert (found[group, 1].records, found[group, 1].oldest_ms) == (0, None)
    assert await measure_lag(runtime.broker, runtime.namespace + "x") == []
    assert await measure_lag(runtime.broker, "") == []


async def test_each_group_has_the_age_of_its_own_oldest_record(runtime, creation, producer):
    topic = runtime.topic(LOG)
    tp = TopicPartition(topic, 0)
    sent = [await producer.send_and_wait(topic, b"x" * 100_000, partition=0) for _ in range(4)]
    for name, offset in (("a", 0), ("b", 3), ("c", 4)):
        async with AIOKafkaConsumer(
            **runtime.broker.aiokafka_options(),
            group_id=runtime.group(name),
            enable_auto_commit=False,
        ) as consumer:
            consumer.assign([tp])
            await consumer.commit({tp: offset})
    found = await measure_lag(runtime.broker, runtime.namespace)
    assert [(one.records, one.oldest_ms) for one in found] == [
        (4, sent[0].timestamp),
        (1, sent[3].timestamp),
        (0, None),
    ]
    # Retention takes the first records: what is gone is not unread.
    async with admin_client(runtime.broker) as admin:
        await admin.delete_records({tp: RecordsToDelete(2)})
    names = [runtime.group("a")]
    [one] = await measure_lag(runtime.broker, runtime.namespace, names, [topic])
    assert (one.start, one.records, one.oldest_ms) == (2, 2, sent[2].timestamp)
    other = [runtime.topic("wallet.balances.v1")]
    assert await measure_lag(runtime.broker, runtime.namespace, names, other) == []


async def test_what_a_group_never_committed_is_unread_and_held_by_no_member(
    runtime, creation, producer
):
    """A new provider's topic that no worker reads showed a lag of 0 (issue 12)."""
    group, topic = runtime.group("reads-raw"), runtime.topic("provider.hub88.raw.v1")
    held_topic = runtime.topic("provider.adyen.raw.v1")
    pattern = f"^{runtime.prefix}provider\\.(hub88|adyen)\\.raw\\.v1$"
    sent = await producer.send_and_wait(topic, b"x", partition=2)
    # What a group committed of a topic that it reads no more is left out.
    await commit(runtime, group, runtime.topic(LOG))

    async def measure() -> list[PartitionLag]:
        sources = {group: pattern}
        return await measure_lag(runtime.broker, runtime.namespace, [group], sources=sources)

    [one] = await measure()
    assert (one.topic, one.partition, one.committed, one.records) == (topic, 2, None, 1)
    assert (one.oldest_ms, one.is_held) == (sent.timestamp, False)
    async with AIOKafkaConsumer(
        held_topic,
        **runtime.broker.aiokafka_options(),
        group_id=group,
        enable_auto_commit=False,
    ) as consumer:
        async with asyncio.timeout(PATIENCE_S):
            while not consumer.assignment():
                await consumer.getmany(timeout_ms=100)
        # Of a group that has members, partitions without a reader count with nothing in them, too.
        found = await measure()
        assert {(one.topic, one.partition) for one in found} == {
            (topic, number) for number in range(PARTITIONS)
        }
        assert not any(one.is_held for one in found)
        await consumer.commit({TopicPartition(held_topic, 0): 0})
        assert {one.topic for one in await measure()} == {topic, held_topic}
        held = [one for one in await measure() if one.is_held]
        assert [(one.topic, one.partition) for one in held] == [(held_topic, 0)]
    with pytest.raises(UsageError, match="the broker has no topic nowhere"):
        await measure_lag(runtime.broker, runtime.namespace, topics=["nowhere"])


async def test_offsets_without_a_record_have_a_lag_and_no_age(runtime, creation):
    """A transaction's marker is an offset that no worker has read, and no record that waits."""
    tp = TopicPartition(runtime.topic(LOG), 0)
    async with (
        AIOKafkaProducer(
            **runtime.broker.aiokafka_options(),
            transactional_id=f"{runtime.namespace}.lag",
        ) as producer,
        producer.transaction(),
    ):
        await producer.send_and_wait(tp.topic, b"x", partition=0)
    async with AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(),
        group_id=runtime.group("m"),
        enable_auto_commit=False,
    ) as consumer:
        consumer.assign([tp])
        await consumer.commit({tp: 1})
    [one] = await measure_lag(runtime.broker, runtime.namespace)
    assert (one.records, one.end, one.oldest_ms) == (1, 2, None)


async def test_a_group_of_deleted_topics_has_no_lag(runtime, creation):
    tp = TopicPartition(runtime.topic(LOG), 0)
    async with AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(),
        group_id=runtime.group("gone"),
        enable_auto_commit=False,
    ) as consumer:
        consumer.assign([tp])
        await consumer.commit({tp: 0})
    await delete_topics(runtime.broker, runtime.namespace)
    assert await measure_lag(runtime.broker, runtime.namespace) == []


async def test_deleting_removes_the_namespace_and_no_other(runtime, creation):
    other = replace(runtime, namespace=f"{runtime.namespace}x")
    await create_topics(other.broker, other.namespace, (), 1, 1)
    try:
        assert set(await delete_topics(runtime.broker, runtime.namespace)) == set(creation.created)
        assert await names_on_broker(runtime) == set()
        assert await delete_topics(runtime.broker, runtime.namespace) == ()
        assert len(await names_on_broker(other)) == len(catalogue(()))
    finally:
        await delete_topics(other.broker, other.namespace)


async def test_the_real_topics_are_never_deleted(runtime):
    with pytest.raises(UsageError, match="without a namespace"):
        await delete_topics(runtime.broker, "")


async def test_no_broker_is_an_error_that_says_what_to_do():
    address = f"127.0.0.1:{choose_port()}"
    with pytest.raises(Unavailable, match=f"no Kafka broker answers at {address}.*pitboss up"):
        await check_topics(BrokerAddress(address), "", PROVIDERS)


@pytest.fixture
def pitboss(runtime: Runtime, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PITBOSS_KAFKA", runtime.broker.servers)
    monkeypatch.setenv("PITBOSS_DATABASE", runtime.database_url)
    monkeypatch.setenv("PITBOSS_NAMESPACE", runtime.namespace)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["topics", *arguments])

    return run


def test_the_commands_create_check_and_count(runtime, pitboss, monkeypatch):
    would = pitboss("create", "--partitions", "3", "--dry-run", "--json")
    assert would.exit_code == 0
    assert len(json.loads(would.stdout)["created"]) == len(catalogue(DIALECTS))
    monkeypatch.setenv("PITBOSS_PROVIDERS", "adyen,hub88")
    monkeypatch.setenv("PITBOSS_RAW_PARTITIONS", "1")
    would = pitboss("create", "--partitions", "3", "--dry-run", "--json")
    assert len(json.loads(would.stdout)["created"]) == len(catalogue(PROVIDERS))

    missing = pitboss("check", "--json", "--partitions", "3")
    assert missing.exit_code == 1
    assert {row["actual"] for row in json.loads(missing.stdout)} == {None}

    assert "there before" in pitboss("create", "--partitions", "3").stdout
    assert pitboss("check", "--partitions", "3").exit_code == 0

    differing = pitboss("check")
    assert differing.exit_code == 1
    assert runtime.topic(LOG) in differing.stdout

    assert "no consumer group" in pitboss("lag").stdout
    asyncio.run(commit(runtime, runtime.group("ledger.sink"), runtime.topic(LOG)))
    shown = json.loads(pitboss("lag", "--json").stdout)
    assert shown["total"] == {"lag": 0, "age_s": None}
    assert shown["rows"] == [
        {
            "role": None,
            "group": runtime.group("ledger.sink"),
            "topic": runtime.topic(LOG),
            "partitions": 1,
            "lag": 0,
            "most": 0,
            "age_s": None,
            "unheld": 1,
        }
    ]
    [row] = json.loads(pitboss("lag", "--json", "--each").stdout)["rows"]
    assert (row["partition"], row["committed"], row["lag"]) == (0, 0, 0)
    assert runtime.topic(LOG) in pitboss("lag").stdout


async def commit(runtime: Runtime, group: str, topic: str) -> None:
    tp = TopicPartition(topic, 0)
    async with AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(), group_id=group, enable_auto_commit=False
    ) as consumer:
        consumer.assign([tp])
        await consumer.commit({tp: 0})


def test_a_command_without_a_broker_ends_with_its_code(runtime, pitboss, monkeypatch):
    monkeypatch.setenv("PITBOSS_KAFKA", f"127.0.0.1:{choose_port()}")
    result = pitboss("check")
    assert result.exit_code == Unavailable.exit_code
    assert "no Kafka broker answers" in result.stderr
