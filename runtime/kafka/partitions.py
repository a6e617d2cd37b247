"""Which partitions topics have, asked of the broker: a consumer that is subscribed to nothing may
not know.
"""

from __future__ import annotations

from collections.abc import Collection

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.structs import TopicPartition


async def list_partitions(
    admin: AIOKafkaAdminClient, topics: Collection[str]
) -> list[TopicPartition]:
    """Every partition of the topics, in order.

    Raises UnknownTopicOrPartitionError for a topic that is not there.
    """
    if not topics:
        return []
    found: list[TopicPartition] = []
    for described in await admin.describe_topics(sorted(topics)):
        if described["error_code"]:
            raise UnknownTopicOrPartitionError(described["topic"])
        found += [
            TopicPartition(described["topic"], part["partition"])
            for part in described["partitions"]
        ]
    return sorted(found)
