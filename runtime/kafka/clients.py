"""The settings of an intake, and the consumer that follows from them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Literal

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CorruptRecordException, KafkaError, KafkaTimeoutError

from schemas.errors import PitbossError, Unavailable

logger = logging.getLogger(__name__)

FETCH_WAIT_MS = 100
"""A partition that is left out of a long poll waits for its end; this bounds that wait."""

METADATA_AGE_MS = 5_000
"""How soon a new topic of a pattern is noticed, and a leader that has moved."""

NO_POLL_LIMIT_MS = 2**31 - 1
"""Progress is the watchdog's business: a worker that waits for its database must not drop out of
its group.
"""


@dataclass(frozen=True)
class IntakeSettings:
    """How one intake reads."""

    bootstrap_servers: str
    group: str
    start: Literal["earliest", "latest", "none"] = "earliest"
    """Where a partition begins that has neither a claimed nor a committed position; `none` ends the
    process.
    """
    group_instance_id: str | None = None
    """Static membership: a worker that comes back under it within the session time-out causes no
    rebalance.
    """
    is_co_partitioned: bool = False
    """Partition n of every topic goes to one worker: for topics with equal counts and keys."""
    batch_records_max: int = 2_000
    records_ahead_max: int = 4_000
    """Records of a partition that may be unfinished at a time: a full batch in work, and one that
    gathers meanwhile.
    """
    fetch_bytes_max: int = 4_194_304
    """Of one partition in one answer: with a quarter of it a batch of provider records was seldom
    full (ADR 10).
    """
    commit_interval_ms: int = 1_000
    drain_timeout_ms: int = 15_000
    session_timeout_ms: int = 10_000


def new_consumer(settings: IntakeSettings) -> AIOKafkaConsumer:
    """A consumer that never commits, resets or gives up its membership by itself; not started, not
    subscribed.
    """
    # A member that drains holds the others up; nobody may be thrown out for it, nor give up
    # waiting.
    rebalance_timeout_ms = settings.drain_timeout_ms + 15_000
    return AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        client_id=settings.group,
        group_id=settings.group,
        group_instance_id=settings.group_instance_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        partition_assignment_strategy=(
            RangePartitionAssignor if settings.is_co_partitioned else RoundRobinPartitionAssignor,
        ),
        fetch_max_wait_ms=FETCH_WAIT_MS,
        max_partition_fetch_bytes=settings.fetch_bytes_max,
        metadata_max_age_ms=METADATA_AGE_MS,
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=settings.session_timeout_ms // 5,
        rebalance_timeout_ms=rebalance_timeout_ms,
        request_timeout_ms=rebalance_timeout_ms + 10_000,
        max_poll_interval_ms=NO_POLL_LIMIT_MS,
    )


async def start_client(client: Any, bootstrap_servers: str) -> None:
    """Start a consumer, producer or admin client, or close it.

    Raises Unavailable if no broker answers.
    """
    try:
        await client.start()
    except BaseException as error:
        await stop_client(client)
        if isinstance(error, KafkaError):
            raise Unavailable(f"no Kafka broker answers at {bootstrap_servers}: {error}") from error
        raise


async def stop_client(client: Any) -> None:
    """Stop a consumer, producer or admin client.

    Without a broker aiokafka's consumer cancels fetches that it has under way, and lets their
    CancelledError out: to whoever waits for it that looks as if he himself were told to end. So it
    is waited for in a task of its own, and only a cancellation that is meant for the caller reaches
    him.
    """
    stopping = asyncio.ensure_future(
        client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop()
    )
    try:
        await asyncio.wait([stopping])
    except asyncio.CancelledError:
        stopping.cancel()
        raise
    if stopping.cancelled():
        logger.info("a client gave up what it had under way when it was stopped")
        return
    stopping.result()


def is_retriable(error: BaseException) -> bool:
    """Whether the same call may succeed later; aiokafka does not say so of time-outs and damaged
    answers.
    """
    if isinstance(error, (KafkaTimeoutError, CorruptRecordException)):
        return True
    return isinstance(error, (KafkaError, PitbossError)) and bool(error.retriable)
