"""The way out, on the real broker."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from pitboss.settings import Runtime
from runtime.kafka.app import AppSettings, create_app
from runtime.kafka.partitioner import partition_for
from runtime.kafka.producer import BatchProducer, ProducerSettings, TooLarge
from schemas.errors import RejectCode, SendFailed, Unavailable
from tests.support.topics import make_topics

pytestmark = pytest.mark.integration

PARTITIONS = 6
PATIENCE_S = 120


@pytest.fixture
async def topic(runtime: Runtime) -> str:
    return await create(runtime, "out")


async def create(runtime: Runtime, name: str, **configs: str) -> str:
    topic = NewTopic(runtime.topic(name), PARTITIONS, 1, topic_configs=configs)
    await make_topics(runtime.broker, topic)
    return runtime.topic(name)


@pytest.fixture
async def producer(runtime: Runtime):
    producer = BatchProducer(ProducerSettings(runtime.broker, "test"))
    await producer.start()
    yield producer
    await producer.stop()


async def read_all(runtime: Runtime, topic: str) -> dict[int, list]:
    consumer = AIOKafkaConsumer(**runtime.broker.aiokafka_options(), auto_offset_reset="earliest")
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        found: dict[int, list[Any]] = defaultdict(list)
        async with asyncio.timeout(PATIENCE_S):
            for tp, end in ends.items():
                while await consumer.position(tp) < end:
                    for records in (await consumer.getmany(tp, timeout_ms=200)).values():
                        found[tp.partition] += records
        return found
    finally:
        await consumer.stop()


async def test_records_keep_key_value_headers_time_and_order(runtime, topic, producer):
    records = [
        (
            b"k%d" % i,
            b"v%d" % i if i % 5 else None,
            (("h", b"%d" % i),) if i % 2 else (),
            1_700_000_000_000 + i,
        )
        for i in range(500)
    ]
    await producer.send_batch(topic, 3, records)
    found = (await read_all(runtime, topic))[3]
    assert [(r.key, r.value, r.headers, r.timestamp) for r in found] == [
        (k, v, tuple(h), t) for k, v, h, t in records
    ]


async def test_more_than_a_batch_holds_goes_in_several_and_stays_in_order(runtime, topic):
    producer = BatchProducer(ProducerSettings(runtime.broker, "test", batch_bytes_max=2_000))
    await producer.start()
    try:
        records = [(b"k", b"%06d" % i + b"x" * 100, (), None) for i in range(300)]
        await producer.send_batch(topic, 0, records)
    finally:
        await producer.stop()
    assert [r.value for r in (await read_all(runtime, topic))[0]] == [
        value for _, value, _, _ in records
    ]


async def test_calls_for_one_partition_take_effect_in_the_order_they_were_made(
    runtime, topic, producer
):
    calls = [[(b"k", b"%d.%d" % (call, i), (), None) for i in range(20)] for call in range(30)]
    await asyncio.gather(*[producer.send_batch(topic, 1, records) for records in calls])
    found = [r.value for r in (await read_all(runtime, topic))[1]]
    assert found == [value for records in calls for _, value, _, _ in records]


async def test_keyed_records_go_to_the_partition_of_javas_client_in_order(runtime, topic, producer):
    records = [(b"player-%d" % (i % 37), b"%d" % i, (), None) for i in range(2_000)]
    await producer.send_keyed(topic, records)
    found = await read_all(runtime, topic)
    expected = defaultdict(list)
    for key, value, _, _ in records:
        expected[partition_for(key, PARTITIONS)].append(value)
    assert {partition: [r.value for r in group] for partition, group in found.items()} == expected


async def test_a_single_record_says_where_it_went(runtime, topic, producer):
    first = await producer.send(topic, b"player-1", b"a", [("h", b"1")])
    second = await producer.send(topic, b"player-1", b"b")
    assert first.partition == partition_for(b"player-1", PARTITIONS)
    assert (second.partition, second.offset) == (first.partition, first.offset + 1)
    third = await producer.send(topic, b"player-1", b"c", partition=5)
    assert third.partition == 5


async def test_a_record_that_is_too_large_is_named_and_nothing_is_sent(runtime, topic, producer):
    large = (b"large", b"x" * 1_100_000, (), None)
    for position in (0, 3, 9):
        records = [(b"%d" % i, b"v", (), None) for i in range(9)]
        records.insert(position, large)
        with pytest.raises(TooLarge) as batch:
            await producer.send_batch(topic, 0, records)
        with pytest.raises(TooLarge) as keyed:
            await producer.send_keyed(topic, records)
        assert batch.value.index == keyed.value.index == position
        assert keyed.value.reason is RejectCode.TOO_LARGE
    with pytest.raises(TooLarge):
        await producer.send(topic, b"large", large[1])
    assert await read_all(runtime, topic) == {}
    await producer.send(topic, b"k", b"and the producer goes on")


async def test_what_fits_our_limit_fits_the_broker(runtime, topic, producer):
    limit = producer.settings.batch_bytes_max
    await producer.send_batch(topic, 0, [(b"k", b"x" * (limit - 200), (), None)])
    await producer.send(topic, b"k", b"x" * (limit - 200), partition=1)
    await producer.send_batch(topic, 2, [(b"k", b"x" * 990, (), None)] * 3_000)
    found = await read_all(runtime, topic)
    assert {partition: len(records) for partition, records in found.items()} == {
        0: 1,
        1: 1,
        2: 3_000,
    }


async def test_a_topic_that_is_not_there_is_waited_for_with_word_of_what_to_do(runtime):
    producer = BatchProducer(ProducerSettings(runtime.broker, "test", request_timeout_ms=1_000))
    await producer.start()
    try:
        with pytest.raises(Unavailable, match="pitboss topics create"):
            await producer.send_keyed(runtime.topic("nowhere"), [(b"k", b"v", (), None)])
        topic = await create(runtime, "nowhere")
        async with asyncio.timeout(PATIENCE_S):  # a busy broker names a new topic a moment later
            while True:
                with suppress(Unavailable):
                    await producer.send_keyed(topic, [(b"k", b"v", (), None)])
                    break
    finally:
        await producer.stop()


async def test_a_send_that_fails_for_good_ends_the_app_and_nothing_is_sent_after_it(runtime):
    # The broker takes less than we think: its refusal leaves a gap in the producer's sequence.
    small = await create(runtime, "small", **{"max.message.bytes": "1000"})
    app = create_app(AppSettings("test", runtime.broker))
    producer = app.supervise(BatchProducer(ProducerSettings(runtime.broker, "test")))
    await app.start()
    try:
        with pytest.raises(SendFailed) as failed:
            await producer.send_batch(small, 0, [(b"k", b"x" * 2_000, (), None)])
        assert app.crashed
        assert app.crash_reason is failed.value
        for send in (
            producer.send_batch(small, 1, [(b"k", b"v", (), None)]),
            producer.send_keyed(small, [(b"k", b"v", (), None)]),
            producer.send(small, b"k", b"v"),
        ):
            with pytest.raises(SendFailed):
                await send
    finally:
        await app.stop()
    assert await read_all(runtime, small) == {}
