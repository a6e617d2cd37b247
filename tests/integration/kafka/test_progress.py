"""How far things are, by the real broker: barriers depend on these answers."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from ledger_sink.resolve.progress import KafkaPipelineProgress
from pitboss.ops.topic_admin import create_topics
from runtime.kafka.topic_reader import read_topics
from schemas.errors import UsageError
from schemas.topics import TRANSACTIONS, dead_letter_topic, raw_topic

pytestmark = pytest.mark.integration


@pytest.fixture
async def progress(runtime):
    await create_topics(
        runtime.broker, runtime.namespace, ["hub88"], partitions=2, raw_partitions=2
    )
    service = KafkaPipelineProgress(runtime.broker, runtime.namespace, "normalise")
    async with service:
        yield service


async def append(runtime, topic, *values, partition=0):
    async with AIOKafkaProducer(**runtime.broker.aiokafka_options()) as producer:
        for value in values:
            await producer.send_and_wait(runtime.topic(topic), value, partition=partition)


async def test_ends_are_those_of_partitions_that_hold_records_and_of_no_dead_letters(
    progress, runtime
):
    raw = raw_topic("hub88")
    await append(runtime, raw, b"1", b"2", partition=1)
    await append(runtime, dead_letter_topic(raw), b"x")
    await append(runtime, TRANSACTIONS, b"1")
    # A service that never subscribed to a topic once had no partitions for it, and every barrier was passed.
    assert await progress.raw_ends() == {f"{runtime.topic(raw)}-1": 2}
    assert await progress.log_ends() == {f"{runtime.topic(TRANSACTIONS)}-0": 1}


async def test_committed_is_what_the_group_committed(progress, runtime):
    topic = runtime.topic(raw_topic("hub88"))
    await append(runtime, raw_topic("hub88"), b"1", b"2")
    group = runtime.group("normalise")
    client = AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(), group_id=group, enable_auto_commit=False
    )
    async with client as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.commit({TopicPartition(topic, 0): 1})
    assert await progress.normalised_offsets() == {f"{topic}-0": 1}


async def test_a_topic_is_read_whole_and_a_missing_one_is_named(progress, runtime):
    topic = runtime.topic(TRANSACTIONS)
    await append(runtime, TRANSACTIONS, b"1", b"2", partition=1)
    await append(runtime, TRANSACTIONS, b"3", partition=0)
    read = [
        (record.partition, record.value) async for record in read_topics(runtime.broker, [topic])
    ]
    assert sorted(read) == [(0, b"3"), (1, b"1"), (1, b"2")]
    with pytest.raises(UsageError, match="nowhere"):
        [record async for record in read_topics(runtime.broker, ["nowhere"])]
