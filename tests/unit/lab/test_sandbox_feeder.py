"""Feeding: everything once, in order within a topic, phase after phase, at the given rate; and against a real broker."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest

from lab.sandbox.feeder import CHUNK_MAX, feed_records
from lab.sandbox.records import RawEvent
from lab.sandbox.scenario import Scenario, generate
from schemas.errors import SendFailed, UsageError
from schemas.topics import raw_topic
from tests.support.sandbox_keys import shared_keys

START_MS = 1_760_000_000_000


class Memory:
    """A sender that keeps what it is given, in the order of acknowledgement."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Any]] = defaultdict(list)
        self.calls: list[int] = []

    async def send_keyed(self, topic, records):
        records = list(records)
        await asyncio.sleep(0)
        self.calls.append(len(records))
        self.topics[topic] += records


@pytest.fixture(scope="module")
def records() -> list[RawEvent]:
    return generate(Scenario(seed=5, start_ms=START_MS, events=2_600), shared_keys())


def expected_topics(records, namespace="") -> dict[str, list]:
    topics = defaultdict(list)
    prefix = f"{namespace}." if namespace else ""
    for record in records:
        topics[prefix + raw_topic(record.provider)].append(
            (record.key, record.value, list(record.headers), None)
        )
    return topics


@pytest.mark.parametrize("namespace", ["", "trial"])
async def test_every_record_goes_to_its_providers_topic_once_and_in_order(records, namespace):
    memory, reports = Memory(), []
    await feed_records(
        records, memory, namespace=namespace, progress=lambda *done: reports.append(done)
    )
    assert memory.topics == expected_topics(records, namespace)
    assert reports[-1] == (2_600, 2_600)
    assert sum(memory.calls) == 2_600
    assert max(memory.calls) <= CHUNK_MAX


async def test_a_phase_begins_when_the_one_before_is_acknowledged_and_waited_for(records):
    memory, seen = Memory(), []
    opening = sum(record.phase == 0 for record in records)

    async def wait(phase: int) -> None:
        seen.append((phase, sum(memory.calls)))

    await feed_records(records, memory, before_phase=wait)
    assert seen == [(1, opening)]
    assert 0 < opening < len(records)


async def test_the_rate_is_kept(records):
    loop = asyncio.get_running_loop()
    began = loop.time()
    memory = Memory()
    await feed_records(records[:600], memory, rate=2_000)
    assert loop.time() - began > 0.2  # 600 at 2,000 a second; the last stretches are not waited for
    assert (
        max(memory.calls) < 600
    )  # after a pause of the machine as many as are due, never all at once


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
async def test_a_rate_that_is_none_is_refused(records, rate):
    with pytest.raises(UsageError, match="rate"):
        await feed_records(records, Memory(), rate=rate)


async def test_a_failed_append_ends_the_feeding_with_its_own_error(records):
    class Broken(Memory):
        async def send_keyed(self, topic, records):
            if sum(self.calls) > 1_000:
                raise SendFailed("gone")
            await super().send_keyed(topic, records)

    broken = Broken()
    with pytest.raises(SendFailed, match="gone"):
        await feed_records(records, broken)
    assert sum(broken.calls) < 2_600


@pytest.mark.integration
async def test_a_real_broker_gets_the_very_bytes_in_the_order_of_each_key(records, runtime):
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.admin import NewTopic

    from runtime.kafka.producer import BatchProducer, ProducerSettings
    from tests.support.topics import make_topics

    wanted = expected_topics(records, runtime.namespace)
    await make_topics(runtime.broker, *[NewTopic(name, 4, 1) for name in wanted])
    producer = BatchProducer(ProducerSettings(runtime.broker, "test"))
    await producer.start()
    try:
        await feed_records(records, producer, namespace=runtime.namespace)
    finally:
        await producer.stop()

    consumer = AIOKafkaConsumer(**runtime.broker.aiokafka_options(), auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(name, number) for name in wanted for number in range(4)])
        got, count = defaultdict(list), 0
        async with asyncio.timeout(120):
            while count < len(records):
                for tp, batch in (await consumer.getmany(timeout_ms=500)).items():
                    count += len(batch)
                    for record in batch:
                        out = (record.key, record.value, list(record.headers), None)
                        got[tp.topic, record.key].append(out)
    finally:
        await consumer.stop()
    by_key = defaultdict(list)
    for name, members in wanted.items():
        for record in members:
            by_key[name, record[0]].append(record)
    assert got == by_key
