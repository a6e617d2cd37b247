"""Start offsets of the partitions of an assignment.

At a claimed offset, else at the group's committed offset, else by the `start` policy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Final, Literal, Protocol, TypeAlias

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from runtime.kafka.broker_queries import query_group_offsets
from runtime.kafka.clients import is_retriable
from runtime.kafka.intake.assignment import Assignment
from runtime.kafka.intake.consumer import IntakeSettings
from runtime.kafka.tasks import Backoff
from schemas.errors import LogMismatch, Unavailable

logger = logging.getLogger(__name__)

LOG_START: Final = -2
"""Claimed in place of an offset: the earliest record of the log. Kafka uses this number for it."""

QueryGroupOffsets: TypeAlias = Callable[
    [Collection[TopicPartition]], Awaitable[Mapping[TopicPartition, int | None]]
]
"""Returns what the group has committed, for certain: see `broker_queries.fetch_group_commits`."""


class StartPositions(Protocol):
    """The positions of a component that keeps its own."""

    async def claim(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Take the partitions over and return the offsets to start at, or LOG_START.

        A partition that is left out starts at the group's committed offset. Unavailable is tried
        again; a revocation cancels the call; any other error ends the process.
        """

    async def release(self, partitions: Collection[TopicPartition]) -> None:
        """Give the partitions up: they are revoked, and the work on them was waited for.

        It may be called twice, or never. Unavailable is logged; any other error ends the process.
        """


async def await_start_offsets(
    consumer: AIOKafkaConsumer,
    assignment: Assignment,
    positions: StartPositions | None,
    settings: IntakeSettings,
) -> dict[TopicPartition, int]:
    """Return the start offsets of an assignment, trying until they are known.

    Meanwhile the assignment says what each partition waits for. Raises what `find_start_offsets`
    raises and is not retriable.
    """
    query_group = partial(query_group_offsets, settings.bootstrap_servers, settings.group)
    partitions = assignment.partitions
    backoff = Backoff()
    while True:
        assignment.begin_try(partitions)
        try:
            return await find_start_offsets(
                consumer, partitions, positions, settings.start, query_group
            )
        except (Unavailable, KafkaError) as error:
            if not is_retriable(error):
                raise
            assignment.end_try(partitions, f"for its start position: {error}")
            logger.warning("cannot begin yet: %s", error)
        await asyncio.sleep(backoff.next_s())


async def find_start_offsets(
    consumer: AIOKafkaConsumer,
    partitions: Collection[TopicPartition],
    positions: StartPositions | None,
    policy: Literal["earliest", "latest", "none"],
    query_group: QueryGroupOffsets,
) -> dict[TopicPartition, int]:
    """Return the offset to start at for each partition.

    Raises LogMismatch for a partition without any position where the policy is `none`, and
    Unavailable where the broker does not say what the group has committed.
    """
    starts = dict(await positions.claim(partitions)) if positions and partitions else {}
    if first := [tp for tp, offset in starts.items() if offset == LOG_START]:
        starts.update(await consumer.beginning_offsets(first))
    others = [tp for tp in partitions if tp not in starts]
    committed = await asyncio.gather(*[consumer.committed(tp) for tp in others])
    starts.update(_known(dict(zip(others, committed, strict=True))))
    if fresh := [tp for tp in others if tp not in starts]:
        # The client takes a coordinator that cannot answer yet for a group without a commit.
        starts.update(_known(await query_group(fresh)))
    fresh = [tp for tp in fresh if tp not in starts]
    if fresh and policy == "none":
        names = ", ".join(f"{tp.topic}-{tp.partition}" for tp in fresh)
        raise LogMismatch(
            f"no stored position says where {names} begins: claim a position for it, "
            "it is never guessed"
        )
    if fresh:
        is_earliest = policy == "earliest"
        edge_offsets = consumer.beginning_offsets if is_earliest else consumer.end_offsets
        starts.update(await edge_offsets(fresh))
    return starts


def _known(offsets: Mapping[TopicPartition, int | None]) -> dict[TopicPartition, int]:
    return {tp: offset for tp, offset in offsets.items() if offset is not None}


def format_offsets(starts: Mapping[TopicPartition, int]) -> str:
    """Format offsets as `topic-partition@offset, …`, or as `nothing`."""
    places = [f"{tp.topic}-{tp.partition}@{offset}" for tp, offset in sorted(starts.items())]
    return ", ".join(places) or "nothing"
