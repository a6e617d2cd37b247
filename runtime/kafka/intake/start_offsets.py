"""Where the partitions of an assignment begin: claimed, else committed, else by policy."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import Final, Literal, Protocol, TypeAlias

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from runtime.kafka.backoff import Backoff
from runtime.kafka.broker_queries import query_group_offsets
from runtime.kafka.clients import IntakeSettings, is_retriable
from runtime.kafka.intake.assignment import Assignment
from schemas.errors import LogMismatch, Unavailable

logger = logging.getLogger(__name__)

LOG_START: Final = -2
"""Claimed instead of an offset: the earliest record that the log still holds.

The number is Kafka's own for it.
"""

QueryGroupOffsets: TypeAlias = Callable[
    [Collection[TopicPartition]], Awaitable[Mapping[TopicPartition, int | None]]
]
"""What the group has committed, for certain: see `group_offsets`."""


class StartPositions(Protocol):
    """The positions of a component that keeps its own."""

    async def claim(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Take the partitions over and return the offsets to begin at, LOG_START being one.

        A partition that is left out begins at the group's committed offset. Unavailable is tried
        again; a revocation cancels the call. Anything else ends the process.
        """

    async def release(self, partitions: Collection[TopicPartition]) -> None:
        """Let the partitions go: they are revoked, and the work on them was waited for.

        May come twice, and may not come at all. Unavailable is logged, anything else ends the
        process.
        """


async def await_start_offsets(
    consumer: AIOKafkaConsumer,
    now: Assignment,
    positions: StartPositions | None,
    settings: IntakeSettings,
) -> dict[TopicPartition, int]:
    """Where the assignment begins, asked for until it is known; meanwhile each partition says what
    it waits for.

    Raises what `find_start_offsets` raises and what cannot be tried again.
    """
    ask = partial(query_group_offsets, settings.bootstrap_servers, settings.group)
    backoff = Backoff()
    while True:
        now.begin_try(now.partitions)
        try:
            return await find_start_offsets(
                consumer, now.partitions, positions, settings.start, ask
            )
        except (Unavailable, KafkaError) as error:
            if not is_retriable(error):
                raise
            now.end_try(now.partitions, f"for its start position: {error}")
            logger.warning("cannot begin yet: %s", error)
        await asyncio.sleep(backoff.next_s())


async def find_start_offsets(
    consumer: AIOKafkaConsumer,
    partitions: Collection[TopicPartition],
    positions: StartPositions | None,
    policy: Literal["earliest", "latest", "none"],
    ask_group: QueryGroupOffsets,
) -> dict[TopicPartition, int]:
    """The offset to begin at for each partition.

    Raises LogMismatch for a partition without any position where the policy is `none`, and
    Unavailable where the broker does not say what the group has.
    """
    starts = dict(await positions.claim(partitions)) if positions and partitions else {}
    if first := [tp for tp, offset in starts.items() if offset == LOG_START]:
        starts.update(await consumer.beginning_offsets(first))
    others = [tp for tp in partitions if tp not in starts]
    committed = await asyncio.gather(*[consumer.committed(tp) for tp in others])
    starts.update(
        (tp, offset) for tp, offset in zip(others, committed, strict=True) if offset is not None
    )
    if fresh := [tp for tp in others if tp not in starts]:
        # The client takes a coordinator that cannot answer yet for a group that has nothing.
        starts.update(
            (tp, offset) for tp, offset in (await ask_group(fresh)).items() if offset is not None
        )
    fresh = [tp for tp in fresh if tp not in starts]
    if fresh and policy == "none":
        names = ", ".join(f"{tp.topic}-{tp.partition}" for tp in fresh)
        raise LogMismatch(
            f"nothing says where {names} begins: claim a position for it, it is never guessed"
        )
    if fresh:
        ask = consumer.beginning_offsets if policy == "earliest" else consumer.end_offsets
        starts.update(await ask(fresh))
    return starts


def format_offsets(starts: Mapping[TopicPartition, int]) -> str:
    """The offsets as a person reads them."""
    return (
        ", ".join(f"{tp.topic}-{tp.partition}@{offset}" for tp, offset in sorted(starts.items()))
        or "nothing"
    )
