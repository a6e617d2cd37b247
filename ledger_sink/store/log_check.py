"""The log that a stored position belongs to: which broker it is on, how far it reaches, what its
last record was.

And the other way round: how far its group has said that it was, which the database cannot be
behind.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from runtime.kafka.broker_queries import fetch_group_offsets
from runtime.kafka.clients import start_client, stop_client
from schemas.errors import LogMismatch, Unavailable

_FETCH_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_S = 20.0


class StoredPosition(NamedTuple):
    """What the database says of a partition; the last two are None until a record has been applied."""

    next_offset: int
    last_timestamp_ms: int | None
    last_checksum: int | None


class LogRecord(NamedTuple):
    """The part of a record that a position remembers."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def checksum(key: bytes | None, value: bytes | None) -> int:
    """CRC-32 of key and value: enough to notice that this is another log, which is all it is for."""
    return zlib.crc32(value or b"", zlib.crc32(key or b""))


async def cluster_id(bootstrap_servers: str) -> str:
    """The id that a broker's cluster was formatted with. Raises Unavailable."""
    async with _admin(bootstrap_servers) as admin:
        return str((await admin.describe_cluster())["cluster_id"])


async def committed_offsets(
    bootstrap_servers: str, group: str, topic: str, parts: Collection[int]
) -> dict[int, int]:
    """What a group has committed of a topic, by partition; those are left out that it has nothing
    of.

    Raises Unavailable, also where the broker cannot say yet: an older database must not pass for
    want of an answer.
    """
    async with _admin(bootstrap_servers) as admin:
        committed = await fetch_group_offsets(
            admin, group, [TopicPartition(topic, part) for part in parts]
        )
    return {tp.partition: offset for tp, offset in committed.items() if offset is not None}


@asynccontextmanager
async def _admin(bootstrap_servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            await start_client(admin, bootstrap_servers)
            try:
                yield admin
            finally:
                await admin.close()
    except (TimeoutError, KafkaError) as error:
        message = f"the broker at {bootstrap_servers} does not say what it holds: {error!r}"
        raise Unavailable(message) from error


def find_mismatch(
    where: str,
    stored: StoredPosition,
    bounds: tuple[int, int],
    last: LogRecord | None,
    committed: int = 0,
) -> str | None:
    """Why log and position do not belong together; None if they do.

    `committed` is what the group has said.
    """
    beginning, end = bounds
    if stored.next_offset < committed:
        # A worker commits to its group only what the database has.
        return (
            f"{where}: the database is at {stored.next_offset}, the group was at {committed}: it is an older copy, or"
            " another; if that is meant and what it lacks is to be booked again, delete the group's offsets"
        )
    if stored.next_offset > end:
        return f"{where}: the ledger is at {stored.next_offset}, the log ends at {end}: records are gone, or it is another"
    if stored.next_offset < beginning:
        return f"{where}: the ledger is at {stored.next_offset}, the log begins at {beginning}: a stretch was deleted"
    if last is None or stored.last_checksum is None or last.offset != stored.next_offset - 1:
        return (
            None  # the record before the position is a marker or compacted away: nothing to compare
        )
    if (last.timestamp, checksum(last.key, last.value)) != (
        stored.last_timestamp_ms,
        stored.last_checksum,
    ):
        return (
            f"{where}@{last.offset}: the log holds another record there than the ledger has booked"
        )
    return None


async def verify_log(
    bootstrap_servers: str, group: str, topic: str, stored: Mapping[int, StoredPosition]
) -> None:
    """Compare stored positions with the log and its group. Raises LogMismatch, and Unavailable
    without a broker.

    A position is never reset: a wiped broker under a kept database would book everything again, or
    nothing, and a wiped database under a kept broker would give answers again that may differ.
    """
    committed = await committed_offsets(bootstrap_servers, group, topic, stored)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
    )
    try:
        async with asyncio.timeout(_FETCH_TIMEOUT_S):
            await consumer.start()
            partitions = [TopicPartition(topic, part) for part in sorted(stored)]
            beginnings = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
            consumer.assign(partitions)
            lasts = await _records_before(consumer, topic, stored, beginnings, ends)
    except (TimeoutError, KafkaError) as error:
        message = f"{topic}: the broker does not say how far the log reaches: {error!r}"
        raise Unavailable(message) from error
    finally:
        await stop_client(consumer)
    for partition in partitions:
        part = partition.partition
        bounds = (beginnings[partition], ends[partition])
        why = find_mismatch(
            f"{topic}-{part}", stored[part], bounds, lasts.get(part), committed.get(part, 0)
        )
        if why is not None:
            message = (
                f"{why}. Point PITBOSS_KAFKA and PITBOSS_DATABASE at servers that belong together"
            )
            raise LogMismatch(message)


async def _records_before(
    consumer: Any,
    topic: str,
    stored: Mapping[int, StoredPosition],
    beginnings: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> dict[int, LogRecord]:
    """The record just before each position, where there is one."""
    wanted = []
    for part, position in stored.items():
        partition = TopicPartition(topic, part)
        if beginnings[partition] < position.next_offset <= ends[partition]:
            wanted.append(partition)
            consumer.seek(partition, position.next_offset - 1)
        else:
            consumer.pause(partition)
    found: dict[int, LogRecord] = {}
    while wanted:
        fetched: Mapping[TopicPartition, Sequence[Any]] = await consumer.getmany(
            *wanted, timeout_ms=500, max_records=500
        )
        for partition in list(wanted):
            records = fetched.get(partition) or []
            if records:
                first = records[0]
                found[partition.partition] = LogRecord(
                    first.offset, first.timestamp, first.key, first.value
                )
            # A marker is skipped by the client: the position moves on without a record.
            if (
                records
                or await consumer.position(partition) >= stored[partition.partition].next_offset
            ):
                wanted.remove(partition)
                consumer.pause(partition)
    return found
