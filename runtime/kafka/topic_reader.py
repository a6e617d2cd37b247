"""Reading whole topics, from their beginnings to their present ends, without a group.

It commits nothing and leaves no trace on the broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from runtime.kafka.broker_queries import list_partitions
from runtime.kafka.clients import stop_client
from schemas.errors import Unavailable, UsageError

_IDLE_TIMEOUT_S: Final = 30.0


async def read_topics(bootstrap_servers: str, topics: Collection[str]) -> AsyncIterator[Any]:
    """Yield every record of the topics, each partition in its order.

    Raises Unavailable if the broker does not deliver, UsageError for a topic that does not exist.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    try:
        await consumer.start()
        partitions = await _partitions(bootstrap_servers, topics)
        ends = await consumer.end_offsets(partitions)
        beginnings = await consumer.beginning_offsets(partitions)
        left = {partition for partition in partitions if ends[partition] > beginnings[partition]}
        consumer.assign(left)
        if left:
            await consumer.seek_to_beginning(*left)
        while left:
            async with asyncio.timeout(_IDLE_TIMEOUT_S):
                fetched = await consumer.getmany(*left, timeout_ms=500, max_records=5_000)
            for partition, records in fetched.items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield record
            for partition in list(left):
                if await consumer.position(partition) >= ends[partition]:
                    left.discard(partition)
                    consumer.pause(partition)
    except (KafkaError, TimeoutError) as error:
        names = ", ".join(sorted(topics))
        message = f"the broker at {bootstrap_servers} does not deliver {names}: {error!r}"
        raise Unavailable(message) from error
    finally:
        await stop_client(consumer)


async def _partitions(bootstrap_servers: str, topics: Collection[str]) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        return await list_partitions(admin, topics)
    except UnknownTopicOrPartitionError as error:
        message = f"no such topic: {error}. `pitboss topics create` makes what is missing"
        raise UsageError(message) from error
    finally:
        await admin.close()
