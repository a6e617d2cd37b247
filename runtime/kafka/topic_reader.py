"""Reading whole topics, from their beginnings to their present ends, without a group.

It commits nothing and leaves no trace on the broker.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from runtime.kafka.broker_queries import list_partitions
from runtime.kafka.clients import start_client, stop_client
from runtime.security import BrokerAddress
from schemas.errors import Unavailable, UsageError

_IDLE_TIMEOUT_S: Final = 30.0
_NEAR_OFFSETS: Final = 500
"""Offsets that are read along rather than sought past."""
_NEAR_BYTES: Final = 1024 * 1024


async def read_topics(
    broker: BrokerAddress,
    topics: Collection[str],
    starts: Mapping[TopicPartition, int] | None = None,
) -> AsyncIterator[Any]:
    """Yield every record of the topics, each partition in its order.

    Of a partition in `starts`, those at or behind that offset, which must be in the log.

    Raises Unavailable if the broker does not deliver, UsageError for a topic that does not exist.
    """
    consumer = AIOKafkaConsumer(
        **broker.aiokafka_options(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    try:
        await start_client(consumer, broker)
        partitions = await _partitions(broker, topics)
        ends = await consumer.end_offsets(partitions)
        beginnings = await consumer.beginning_offsets(partitions)
        firsts = {tp: (starts or {}).get(tp, beginnings[tp]) for tp in partitions}
        left = {partition for partition in partitions if ends[partition] > firsts[partition]}
        consumer.assign(left)
        for partition in left:
            consumer.seek(partition, firsts[partition])
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
        message = f"the broker at {broker} does not deliver {names}: {error!r}"
        raise Unavailable(message) from error
    finally:
        await stop_client(consumer)


async def partition_bounds(
    broker: BrokerAddress, topics: Collection[str]
) -> dict[TopicPartition, tuple[int, int]]:
    """Return first offset and end of every partition of the topics. Raises as `read_topics`."""
    consumer = AIOKafkaConsumer(**broker.aiokafka_options(), isolation_level="read_committed")
    try:
        await start_client(consumer, broker)
        partitions = await _partitions(broker, topics)
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        beginnings = await consumer.beginning_offsets(partitions)
    except (KafkaError, TimeoutError) as error:
        names = ", ".join(sorted(topics))
        message = f"the broker at {broker} does not say how far {names} reach: {error!r}"
        raise Unavailable(message) from error
    finally:
        await stop_client(consumer)
    return {tp: (beginnings[tp], ends[tp]) for tp in partitions}


async def read_offsets(
    broker: BrokerAddress, offsets: Mapping[TopicPartition, Sequence[int]]
) -> AsyncIterator[Any]:
    """Yield the records at these offsets, in order; one that the log no longer holds is left out.

    What lies between two that are near is read along. Raises Unavailable.
    """
    consumer = AIOKafkaConsumer(
        **broker.aiokafka_options(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=_NEAR_BYTES,
    )
    try:
        await start_client(consumer, broker)
        for tp, wanted in offsets.items():
            consumer.assign([tp])
            end = (await consumer.end_offsets([tp]))[tp]
            left = deque(sorted(offset for offset in wanted if offset < end))
            if left:
                consumer.seek(tp, left[0])
            while left and await consumer.position(tp) < end:
                if left[0] - await consumer.position(tp) > _NEAR_OFFSETS:
                    consumer.seek(tp, left[0])
                async with asyncio.timeout(_IDLE_TIMEOUT_S):
                    fetched = await consumer.getmany(tp, timeout_ms=500, max_records=_NEAR_OFFSETS)
                for record in fetched.get(tp, ()):
                    while left and left[0] < record.offset:
                        left.popleft()
                    if left and left[0] == record.offset:
                        left.popleft()
                        yield record
    except (KafkaError, TimeoutError) as error:
        message = f"the broker at {broker} does not deliver: {error!r}"
        raise Unavailable(message) from error
    finally:
        await stop_client(consumer)


async def _partitions(broker: BrokerAddress, topics: Collection[str]) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(**broker.aiokafka_options())
    await start_client(admin, broker)
    try:
        return await list_partitions(admin, topics)
    except UnknownTopicOrPartitionError as error:
        message = f"no such topic: {error}. `pitboss topics create` makes what is missing"
        raise UsageError(message) from error
    finally:
        await admin.close()
