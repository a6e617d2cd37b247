"""Measurement at the broker: how much is on a topic, independently of its writers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from lab.bench.processes import BenchFailed
from runtime.security import BrokerAddress

_REWIND_WITHIN_S: Final = 40.0
_RETRY_S: Final = 0.2
_OPERATOR_SOURCES: Final = frozenset({1, 2, 3, 4})
"""Where a setting is from, by the protocol's DescribeConfigs: topic, dynamic broker, dynamic
default, static file.
"""


class BrokerView:
    """Asks one broker; use it in an `async with` statement."""

    def __init__(self, broker: BrokerAddress) -> None:
        self._broker = broker
        self._partitions: dict[str, list[TopicPartition]] = {}

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(**self._broker.aiokafka_options())
        self._admin = AIOKafkaAdminClient(**self._broker.aiokafka_options())
        await self._consumer.start()
        await self._admin.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def end_offset_sum(self, topic: str) -> int:
        """Return the sum of a topic's end offsets.

        So many records have been acknowledged, unless a producer writes transactions.
        """
        partitions = await self.partitions(topic)
        return sum((await self._consumer.end_offsets(partitions)).values())

    async def committed_sum(self, group: str, topic: str) -> int:
        """Return the sum of the offsets that a group has committed on a topic."""
        found = await self._admin.list_consumer_group_offsets(group)
        return sum(one.offset for tp, one in found.items() if tp.topic == topic and one.offset > 0)

    async def end_offsets(self, topic: str) -> dict[TopicPartition, int]:
        """Return the end offset of each partition."""
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(
            await self.partitions(topic)
        )
        return ends

    async def first_offsets(self, topic: str) -> dict[TopicPartition, int]:
        """Return the first offset of each partition that still has a record."""
        firsts: dict[TopicPartition, int] = await self._consumer.beginning_offsets(
            await self.partitions(topic)
        )
        return firsts

    async def timestamps(
        self, topic: str, starts: Mapping[TopicPartition, int]
    ) -> dict[tuple[int, int], int]:
        """Return the timestamps (epoch ms) of all records from some offsets to the end.

        They are by partition and offset.
        """
        return {
            (record.partition, record.offset): record.timestamp
            for record in await self.records(topic, starts)
        }

    async def records(
        self, topic: str, starts: Mapping[TopicPartition, int]
    ) -> list[ConsumerRecord[bytes, bytes]]:
        """Return all records from some offsets to the end; those of a partition are in order."""
        ends = await self.end_offsets(topic)
        left = [partition for partition, end in ends.items() if end > starts[partition]]
        found: list[ConsumerRecord[bytes, bytes]] = []
        self._consumer.assign(left)
        for partition in left:
            self._consumer.seek(partition, starts[partition])
        while left:
            for records in (await self._consumer.getmany(*left, timeout_ms=500)).values():
                found += records
            left = [
                partition
                for partition in left
                if await self._consumer.position(partition) < ends[partition]
            ]
        self._consumer.unsubscribe()
        return found

    async def rewind(self, group: str, topic: str) -> None:
        """Let a group begin at the first record again.

        Waits for its last member to leave; raises BenchFailed if one stays.
        """
        partitions = await self.partitions(topic)
        first = await self._consumer.beginning_offsets(partitions)
        reader = AIOKafkaConsumer(
            **self._broker.aiokafka_options(),
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",
        )
        await reader.start()
        try:
            reader.assign(partitions)
            async with asyncio.timeout(_REWIND_WITHIN_S):
                while not await _commit_offsets(reader, first):  # noqa: ASYNC110 - the broker sends no event
                    await asyncio.sleep(_RETRY_S)
        except TimeoutError as error:
            raise BenchFailed(
                f"the group {group} still has members, so it cannot be set back: end them"
            ) from error
        finally:
            await reader.stop()

    async def settings(self) -> dict[str, str]:
        """Return the broker's settings that differ from Kafka's defaults."""
        broker_id = str((await self._admin.describe_cluster())["brokers"][0]["node_id"])
        responses = await self._admin.describe_configs(
            [ConfigResource(ConfigResourceType.BROKER, broker_id)]
        )
        entries = [
            entry
            for response in responses
            for resource in response.resources
            for entry in resource[4]
        ]
        return {
            name: value
            for name, value, _, source, *_ in sorted(entries)
            if value and source in _OPERATOR_SOURCES
        }

    async def partitions(self, topic: str) -> list[TopicPartition]:
        """Return a topic's partitions; raises BenchFailed if the topic does not exist."""
        if topic not in self._partitions:
            described = (await self._admin.describe_topics([topic]))[0]["partitions"]
            if not described:
                raise BenchFailed(f"the topic {topic} does not exist: provision it first")
            self._partitions[topic] = [TopicPartition(topic, one["partition"]) for one in described]
        return self._partitions[topic]


async def _commit_offsets(reader: AIOKafkaConsumer, offsets: dict[TopicPartition, int]) -> bool:
    try:
        await reader.commit(offsets)
    except KafkaError:
        return False  # refused as long as the group has members
    stored: list[Any] = [await reader.committed(partition) for partition in offsets]
    return stored == list(offsets.values())
