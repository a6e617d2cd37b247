"""After `up` on a log with many partitions each of them takes records at once, and no client has to try again."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

pytestmark = pytest.mark.integration

PARTITIONS = 300


async def make_partitions(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("many", PARTITIONS, 1)])
    await admin.close()


async def read_ends(bootstrap: str) -> list[int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    partitions = [TopicPartition("many", number) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    await consumer.stop()
    return [*ends.values()]


def test_up_waits_for_the_leaders_of_all_partitions(private_stack, caplog):
    asyncio.run(make_partitions(private_stack.kafka.bootstrap))
    private_stack.down()
    state = private_stack.up()
    with caplog.at_level(logging.WARNING, logger="aiokafka"):
        assert asyncio.run(read_ends(state.kafka_bootstrap)) == [0] * PARTITIONS
    assert not caplog.records
