"""Questions to the broker: the partitions of topics, and what a group has committed.

A broker that cannot answer yet is never mistaken for a group without commits.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import UnknownTopicOrPartitionError, for_code
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from schemas.errors import Unavailable

_ASSIGNED_STATE: Final = "Stable"


async def list_partitions(
    admin: AIOKafkaAdminClient, topics: Collection[str], *, skip_missing: bool = False
) -> list[TopicPartition]:
    """Return every partition of the topics, in order.

    It asks the broker, since a consumer without a subscription may not know. Raises
    UnknownTopicOrPartitionError for a topic that does not exist, unless those are skipped, and
    KafkaError for one that cannot be described.
    """
    if not topics:
        return []
    partitions: list[TopicPartition] = []
    for topic in await admin.describe_topics(sorted(topics)):
        if code := topic["error_code"]:
            if not skip_missing:
                raise UnknownTopicOrPartitionError(topic["topic"])
            if code != UnknownTopicOrPartitionError.errno:
                raise for_code(code)(topic["topic"])
            continue
        partitions += [TopicPartition(topic["topic"], p["partition"]) for p in topic["partitions"]]
    return sorted(partitions)


async def fetch_group_offsets(
    admin: AIOKafkaAdminClient, group: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int | None]:
    """Return the offset that the group has committed for each partition, None where it has none.

    Raises Unavailable where the broker does not say.
    """
    commits = await fetch_group_commits(admin, group, partitions)
    return {tp: commit and commit.offset for tp, commit in commits.items()}


async def fetch_group_commits(
    admin: AIOKafkaAdminClient, group: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata | None]:
    """Return what the group has committed for each partition, None where it has nothing.

    Raises Unavailable where the broker does not say. aiokafka ignores the error of such an answer
    as a whole (a coordinator that has just moved, or still loads its groups). But a partition that
    was asked for by name is in every true answer, even without an offset, and in none of those.
    """
    if not partitions:
        return {}
    answer = await admin.list_consumer_group_offsets(group, partitions=list(partitions))
    if missing := [f"{tp.topic}-{tp.partition}" for tp in partitions if tp not in answer]:
        names = ", ".join(sorted(missing))
        raise Unavailable(f"the broker does not say yet what {group} has committed of {names}")
    return {tp: _without_nul(answer[tp]) if answer[tp].offset >= 0 else None for tp in partitions}


async def fetch_held_partitions(
    admin: AIOKafkaAdminClient, group: str
) -> set[TopicPartition] | None:
    """Return the partitions that members of the group hold; None where nothing is assigned.

    That is a group without members, or one that rebalances. Raises Unavailable where the broker
    does not say.
    """
    # One group a request: aiokafka 0.14 cannot decode an answer of two
    # (findings/aiokafka-describes-only-the-first-group.sh).
    [answer] = await admin.describe_consumer_groups([group])
    [(error_code, _, state, _, _, members)] = answer.groups
    if error_code:
        raise Unavailable(f"the broker does not say who is in {group}: {for_code(error_code)!r}")
    if state != _ASSIGNED_STATE:
        return None
    return {
        tp
        for *_, assignment in members
        if assignment
        for tp in ConsumerProtocolMemberAssignment.decode(assignment).partitions()
    }


def _without_nul(commit: OffsetAndMetadata) -> OffsetAndMetadata:
    """Return a commit without the byte that ends a text in C.

    confluent-kafka 2.16.0 sends it along as a part of the metadata.
    """
    return OffsetAndMetadata(commit.offset, commit.metadata.removesuffix("\0"))
