"""Start offsets of the partitions of an assignment.

At a claimed offset, else at the group's committed offset, else by the `start` policy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Final, Literal, Protocol

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from runtime.kafka.clients import is_retriable
from runtime.kafka.intake.assignment import Assignment
from runtime.kafka.tasks import Backoff
from schemas.errors import LogMismatch, Unavailable

logger = logging.getLogger(__name__)

LOG_START: Final = -2
"""Claimed in place of an offset: the earliest record of the log. Kafka uses this number for it."""


class GroupLog(Protocol):
    """What must be known of a group and its logs; both calls raise Unavailable."""

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Return what the group has committed, for certain; others are left out."""

    async def log_bounds(
        self, partitions: Collection[TopicPartition]
    ) -> dict[TopicPartition, tuple[int, int]]:
        """Return the earliest offset and the end of each log."""


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
    log: GroupLog,
    assignment: Assignment,
    positions: StartPositions | None,
    policy: Literal["earliest", "latest", "none"],
) -> dict[TopicPartition, int]:
    """Return the start offsets of an assignment, trying until they are known.

    Meanwhile the assignment says what each partition waits for. Raises what `find_start_offsets`
    raises and is not retriable.
    """
    partitions = assignment.partitions
    backoff = Backoff()
    while True:
        assignment.begin_try(partitions)
        try:
            return await find_start_offsets(log, partitions, positions, policy)
        except (Unavailable, KafkaError) as error:
            if not is_retriable(error):
                raise
            assignment.end_try(partitions, f"for its start position: {error}")
            logger.warning("cannot begin yet: %s", error)
        await asyncio.sleep(backoff.next_s())


async def find_start_offsets(
    log: GroupLog,
    partitions: Collection[TopicPartition],
    positions: StartPositions | None,
    policy: Literal["earliest", "latest", "none"],
) -> dict[TopicPartition, int]:
    """Return the offset to start at for each partition.

    Raises LogMismatch for a partition without any position where the policy is `none`, and
    Unavailable where the broker does not say what the group has committed.
    """
    starts = dict(await positions.claim(partitions)) if positions and partitions else {}
    if first := [tp for tp, offset in starts.items() if offset == LOG_START]:
        starts.update({tp: low for tp, (low, _) in (await log.log_bounds(first)).items()})
    if others := [tp for tp in partitions if tp not in starts]:
        starts.update(await log.committed(others))
    fresh = [tp for tp in others if tp not in starts]
    if fresh and policy == "none":
        names = ", ".join(f"{tp.topic}-{tp.partition}" for tp in fresh)
        raise LogMismatch(
            f"no stored position says where {names} begins: claim a position for it, "
            "it is never guessed"
        )
    if fresh:
        edge = 0 if policy == "earliest" else 1
        starts.update({tp: both[edge] for tp, both in (await log.log_bounds(fresh)).items()})
    return starts


def format_offsets(starts: Mapping[TopicPartition, int]) -> str:
    """Format offsets as `topic-partition@offset, …`, or as `nothing`."""
    places = [f"{tp.topic}-{tp.partition}@{offset}" for tp, offset in sorted(starts.items())]
    return ", ".join(places) or "nothing"
