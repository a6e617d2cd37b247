"""Checks that a stored position belongs to the log: which broker, how far, which last record.

And the other way round: the database must not be behind what its group has committed to the broker.
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
from runtime.security import BrokerAddress
from schemas.errors import LogMismatch, Unavailable

_FETCH_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_S = 20.0


class StoredPosition(NamedTuple):
    """A partition's stored position; the last two fields are None until a record was applied."""

    next_offset: int
    last_timestamp_ms: int | None
    last_checksum: int | None


class LogRecord(NamedTuple):
    """The fields of a record that a position remembers."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def checksum(key: bytes | None, value: bytes | None) -> int:
    """Return the CRC-32 of key and value: enough to notice that this is another log."""
    return zlib.crc32(value or b"", zlib.crc32(key or b""))


async def cluster_id(broker: BrokerAddress) -> str:
    """Return the id that a broker's cluster was formatted with. Raises Unavailable."""
    async with _admin(broker) as admin:
        return str((await admin.describe_cluster())["cluster_id"])


async def committed_offsets(
    broker: BrokerAddress, group: str, topic: str, partitions: Collection[int]
) -> dict[int, int]:
    """Return the offsets that a group has committed of a topic, by partition.

    Raises Unavailable, also where the broker cannot say yet: an older database must not be accepted
    because an answer is missing.
    """
    async with _admin(broker) as admin:
        committed = await fetch_group_offsets(
            admin, group, [TopicPartition(topic, partition) for partition in partitions]
        )
    return {tp.partition: offset for tp, offset in committed.items() if offset is not None}


@asynccontextmanager
async def _admin(broker: BrokerAddress) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**broker.aiokafka_options())
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            await start_client(admin, broker)
            try:
                yield admin
            finally:
                await admin.close()
    except (TimeoutError, KafkaError) as error:
        message = f"the broker at {broker} does not say what it holds: {error!r}"
        raise Unavailable(message) from error


def find_mismatch(
    where: str,
    stored: StoredPosition,
    bounds: tuple[int, int],
    last: LogRecord | None,
    committed: int = 0,
) -> str | None:
    """Return why log and position do not belong together, or None if they do.

    `bounds` are the log's first offset and its end, `last` is the record before the position, and
    `committed` what the group has committed to the broker.
    """
    beginning, end = bounds
    position = stored.next_offset
    if position < committed:
        # A worker commits to its group only what the database has.
        return (
            f"{where}: the database is at {position}, the group was at {committed}: it is an older"
            " copy or another database; `pitboss ledger recover --to-log` books again what an older"
            " copy lacks"
        )
    if position > end:
        return (
            f"{where}: the ledger is at {position}, the log ends at {end}: records are gone, or it"
            " is another log"
        )
    if position < beginning:
        return (
            f"{where}: the ledger is at {position}, the log begins at {beginning}: the records"
            " between were deleted"
        )
    if last is None or stored.last_checksum is None or last.offset != position - 1:
        # The record before the position is a marker or compacted away: nothing to compare.
        return None
    if (last.timestamp, checksum(last.key, last.value)) != stored[1:]:
        return (
            f"{where}@{last.offset}: the log holds another record there than the ledger has booked"
        )
    return None


async def verify_log(
    broker: BrokerAddress, group: str, topic: str, stored: Mapping[int, StoredPosition]
) -> None:
    """Compare stored positions with the log and its group.

    A position is never reset: a wiped broker under a kept database would book everything again, or
    nothing, and a wiped database under a kept broker would give answers again that may differ.
    Raises LogMismatch, and Unavailable without a broker.
    """
    committed = await committed_offsets(broker, group, topic, stored)
    consumer = AIOKafkaConsumer(
        **broker.aiokafka_options(),
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
    )
    try:
        async with asyncio.timeout(_FETCH_TIMEOUT_S):
            await consumer.start()
            partitions = [TopicPartition(topic, partition) for partition in sorted(stored)]
            beginnings = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
            consumer.assign(partitions)
            lasts = await _records_before(consumer, topic, stored, beginnings, ends)
    except (TimeoutError, KafkaError) as error:
        message = f"{topic}: the broker does not say how far the log reaches: {error!r}"
        raise Unavailable(message) from error
    finally:
        await stop_client(consumer)
    for tp in partitions:
        number = tp.partition
        bounds = (beginnings[tp], ends[tp])
        where = f"{topic}-{number}"
        reason = find_mismatch(
            where, stored[number], bounds, lasts.get(number), committed.get(number, 0)
        )
        if reason is not None:
            message = (
                f"{reason}. Point PITBOSS_KAFKA and PITBOSS_DATABASE at servers that belong"
                " together"
            )
            raise LogMismatch(message)


async def _records_before(
    consumer: Any,
    topic: str,
    stored: Mapping[int, StoredPosition],
    beginnings: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> dict[int, LogRecord]:
    """Return the record just before each position, where there is one."""
    wanted = []
    for partition, position in stored.items():
        tp = TopicPartition(topic, partition)
        if beginnings[tp] < position.next_offset <= ends[tp]:
            wanted.append(tp)
            consumer.seek(tp, position.next_offset - 1)
        else:
            consumer.pause(tp)
    lasts: dict[int, LogRecord] = {}
    while wanted:
        fetched: Mapping[TopicPartition, Sequence[Any]] = await consumer.getmany(
            *wanted, timeout_ms=500, max_records=500
        )
        for tp in list(wanted):
            records = fetched.get(tp) or []
            if records:
                first = records[0]
                lasts[tp.partition] = LogRecord(
                    first.offset, first.timestamp, first.key, first.value
                )
            # The client skips a marker: the position moves on without a record.
            if records or await consumer.position(tp) >= stored[tp.partition].next_offset:
                wanted.remove(tp)
                consumer.pause(tp)
    return lasts
