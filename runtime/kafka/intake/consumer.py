"""The settings of an intake, and the options of librdkafka's consumer that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from runtime.kafka.clients import METADATA_AGE_MS
from runtime.security import BrokerAddress

ConsumerOptions: TypeAlias = dict[str, str | int | bool]

FETCH_WAIT_MS: Final = 250
"""How long the broker holds a fetch that finds nothing. A partition that is not part of such a
fetch, because it was paused or has just been assigned, waits for its end."""

FETCH_ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024
"""Of one answer to a fetch, all partitions together."""

PREFETCHED_KBYTES_MAX: Final = 16 * 1024
PREFETCHED_RECORDS_MIN: Final = 10_000
"""The client fetches on until it holds so many records or `PREFETCHED_KBYTES_MAX`: some batches
more than are worked on, and no more memory than that."""

FULL_QUEUE_BACKOFF_MS: Final = 10
"""How soon the client looks whether it may fetch again; by default it takes a second."""

REQUEST_TIMEOUT_MS: Final = 10_000
RECONNECT_MAX_MS: Final = 1_000
"""By default, ten seconds pass before a broker that has been restarted is looked for again."""

MEMBER_GRACE_MS: Final = 15_000
"""What a member may take to give its partitions up, beyond its drain."""


@dataclass(frozen=True)
class IntakeSettings:
    """Settings of one intake."""

    broker: BrokerAddress
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


def consumer_options(settings: IntakeSettings) -> ConsumerOptions:
    """Return the options of a consumer that never commits, resets or assigns by itself."""
    options: ConsumerOptions = {
        **settings.broker.librdkafka_options(),
        "client.id": settings.group,
        "group.id": settings.group,
        "group.protocol": "classic",
        "partition.assignment.strategy": "range" if settings.is_co_partitioned else "roundrobin",
        "session.timeout.ms": settings.session_timeout_ms,
        "heartbeat.interval.ms": settings.session_timeout_ms // 5,
        # Also how long the others of the group wait for a member that drains.
        "max.poll.interval.ms": max(
            settings.session_timeout_ms, settings.drain_timeout_ms + MEMBER_GRACE_MS
        ),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "check.crcs": True,
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        "fetch.max.bytes": max(FETCH_ANSWER_BYTES_MAX, settings.fetch_bytes_max),
        "max.partition.fetch.bytes": settings.fetch_bytes_max,
        "queued.min.messages": PREFETCHED_RECORDS_MIN,
        "queued.max.messages.kbytes": PREFETCHED_KBYTES_MAX,
        "fetch.queue.backoff.ms": FULL_QUEUE_BACKOFF_MS,
        "topic.metadata.refresh.interval.ms": METADATA_AGE_MS,
        "socket.timeout.ms": REQUEST_TIMEOUT_MS,
        "reconnect.backoff.max.ms": RECONNECT_MAX_MS,
        "enable.metrics.push": False,
    }
    if settings.group_instance_id is not None:
        options["group.instance.id"] = settings.group_instance_id
    return options
