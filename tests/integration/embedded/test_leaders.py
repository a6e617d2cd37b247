"""After `up` on a log with many partitions each of them takes records at once, and no client has to try again."""

from __future__ import annotations

import asyncio
import logging

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from runtime.security import BrokerAddress

pytestmark = pytest.mark.integration

PARTITIONS = 300


async def make_partitions(broker: BrokerAddress) -> None:
    admin = AIOKafkaAdminClient(**broker.aiokafka_options())
    await admin.start()
    await admin.create_topics([NewTopic("many", PARTITIONS, 1)])
    await admin.close()


async def read_ends(broker: BrokerAddress) -> list[int]:
    consumer = AIOKafkaConsumer(**broker.aiokafka_options())
    await consumer.start()
    partitions = [TopicPartition("many", number) for number in range(PARTITIONS)]
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    await consumer.stop()
    return [*ends.values()]


def test_up_waits_for_the_leaders_of_all_partitions(private_stack, caplog):
    asyncio.run(make_partitions(private_stack.kafka.broker))
    private_stack.down()
    state = private_stack.up()
    with caplog.at_level(logging.WARNING, logger="aiokafka"):
        assert asyncio.run(read_ends(state.broker)) == [0] * PARTITIONS
    assert not caplog.records
