"""What a worker tells its group: how far its work is done, and of what stands still for a reason,
that it lives.

Of a partition that another worker holds, a watchdog sees nothing but what is committed. So a
partition that waits has its offset committed again and again, each time with other metadata: a sign
of life, and why nothing moves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CommitFailedError, IllegalStateError
from aiokafka.structs import TopicPartition

from runtime.kafka.intake.assignment import Assignment

logger = logging.getLogger(__name__)

COMMIT_TIMEOUT_S: Final = 10.0

LIVENESS_EVERY_COMMITS: Final = 10
"""Commits from one sign of life to the next: seconds, where a commit is made each second."""

NO_NOTES: Final[Mapping[TopicPartition, tuple[int, str]]] = {}


async def commit(
    client: AIOKafkaConsumer,
    now: Assignment,
    signs: Mapping[TopicPartition, tuple[int, str]] = NO_NOTES,
) -> None:
    """Commit what is done and not committed, and the signs of life of what waits."""
    done = now.committable()
    if not done and not signs:
        return
    try:
        async with asyncio.timeout(COMMIT_TIMEOUT_S):
            await client.commit({**done, **signs})
    except (CommitFailedError, IllegalStateError, TimeoutError) as error:
        # Rebalanced under our hands, or no broker: the next commit, or the next owner, goes on from
        # the last one.
        logger.warning("not committed: %r", error)
    else:
        now.note_committed(done)
