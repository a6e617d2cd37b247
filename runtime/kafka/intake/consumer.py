"""The settings of an intake, and the Kafka consumer that follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from aiokafka import AIOKafkaConsumer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from runtime.kafka.clients import METADATA_AGE_MS

FETCH_WAIT_MS: Final = 100
"""Bounds how long a partition that is not part of a long poll waits for the poll's end."""

NO_POLL_LIMIT_MS: Final = 2**31 - 1
"""A worker that waits for its database must stay in its group; the watchdog handles lack of
progress.
"""


@dataclass(frozen=True)
class IntakeSettings:
    """Settings of one intake."""

    bootstrap_servers: str
    group: str
    start: Literal["earliest", "latest", "none"] = "earliest"
    """Start of a partition without a claimed or committed position; `none` ends the process."""
    group_instance_id: str | None = None
    """Static membership: a worker that returns within the session timeout causes no rebalance."""
    is_co_partitioned: bool = False
    """Partition n of every topic goes to one worker: for topics with equal counts and keys."""
    batch_records_max: int = 2_000
    records_ahead_max: int = 4_000
    """Unfinished records of a partition: one full batch in progress, and one that is being filled.
    """
    fetch_bytes_max: int = 4_194_304
    """Of one partition in one answer. With a quarter of it, a batch of provider records was seldom
    full (ADR 10)."""
    commit_interval_ms: int = 1_000
    drain_timeout_ms: int = 15_000
    session_timeout_ms: int = 10_000


def new_consumer(settings: IntakeSettings) -> AIOKafkaConsumer:
    """Build a consumer that never commits, resets or leaves its group by itself.

    It is neither started nor subscribed.
    """
    # A member that drains holds the others up; it must not be expelled for that, nor may the others
    # stop waiting for it.
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
