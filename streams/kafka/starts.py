"""Where the partitions of an assignment begin: claimed, else committed, else by policy."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Literal, Protocol

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from schemas.errors import LogMismatch


class StartPositions(Protocol):
    """The positions of a component that keeps its own."""

    async def claim(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Take the partitions over and return the offsets to begin at.

        A partition that is left out begins at the group's committed offset. Unavailable is tried again; a revocation
        cancels the call. Anything else ends the process.
        """

    async def release(self, partitions: Collection[TopicPartition]) -> None:
        """Let the partitions go: they are revoked, and the work on them was waited for.

        May come twice, and may not come at all. Unavailable is logged, anything else ends the process.
        """


async def find_starts(
    consumer: AIOKafkaConsumer,
    partitions: Collection[TopicPartition],
    positions: StartPositions | None,
    policy: Literal["earliest", "latest", "none"],
) -> dict[TopicPartition, int]:
    """The offset to begin at for each partition.

    Raises LogMismatch for a partition without any position where the policy is `none`.
    """
    starts = dict(await positions.claim(partitions)) if positions and partitions else {}
    others = [tp for tp in partitions if tp not in starts]
    committed = await asyncio.gather(*[consumer.committed(tp) for tp in others])
    starts.update((tp, offset) for tp, offset in zip(others, committed, strict=True) if offset is not None)
    fresh = [tp for tp in others if tp not in starts]
    if fresh and policy == "none":
        names = ", ".join(f"{tp.topic}-{tp.partition}" for tp in fresh)
        raise LogMismatch(f"nothing says where {names} begins: claim a position for it, it is never guessed")
    if fresh:
        ask = consumer.beginning_offsets if policy == "earliest" else consumer.end_offsets
        starts.update(await ask(fresh))
    return starts


def text_of(starts: Mapping[TopicPartition, int]) -> str:
    """The offsets as a person reads them."""
    return ", ".join(f"{tp.topic}-{tp.partition}@{offset}" for tp, offset in sorted(starts.items())) or "nothing"
