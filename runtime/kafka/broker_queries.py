"""What a group has committed, asked so that a broker that cannot say is not taken for a group that
has nothing.
"""

from __future__ import annotations

from collections.abc import Collection

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from runtime.kafka.clients import start_client
from schemas.errors import Unavailable


async def fetch_group_offsets(
    admin: AIOKafkaAdminClient, group: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int | None]:
    """The offset that the group has committed of each of the partitions, None where it has none.

    Raises Unavailable where the broker did not say.
    """
    return {
        tp: told and told.offset
        for tp, told in (await fetch_group_commits(admin, group, partitions)).items()
    }


async def fetch_group_commits(
    admin: AIOKafkaAdminClient, group: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata | None]:
    """What the group has committed of each of the partitions, None where it has nothing.

    Raises Unavailable where the broker did not say. aiokafka does not look at the error of such an
    answer as a whole (a coordinator that has just moved, or still loads its groups); but a
    partition that was asked for by name is in every true answer, without an offset too, and in none
    of those.
    """
    if not partitions:
        return {}
    answer = await admin.list_consumer_group_offsets(group, partitions=list(partitions))
    if missing := [f"{tp.topic}-{tp.partition}" for tp in partitions if tp not in answer]:
        raise Unavailable(
            f"the broker does not say yet what {group} has committed of {', '.join(sorted(missing))}"
        )
    return {tp: answer[tp] if answer[tp].offset >= 0 else None for tp in partitions}


async def query_group_offsets(
    bootstrap_servers: str, group: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int | None]:
    """The same, over a connection for this one question. Raises Unavailable."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, client_id=f"{group}.offsets")
    await start_client(admin, bootstrap_servers)
    try:
        return await fetch_group_offsets(admin, group, partitions)
    finally:
        await admin.close()
