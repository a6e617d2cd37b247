"""Events of each provider version in a period, counted in the ledger and on the topics beside it.

Wallet events are counted in the ledger, which is faster than reading a topic. Player events and
market settlements are not in the ledger; their topics' records are counted, up to a limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ledger_sink.queries.traffic import ProviderVersion, VersionTraffic, add_traffic, traffic_since
from ledger_sink.store.database import LedgerDatabase
from pitboss.ops.topic_admin import admin_client
from pitboss.settings import Runtime
from runtime.kafka.broker_queries import list_partitions
from runtime.kafka.clients import start_client, stop_client
from runtime.postgres.roles import Role
from schemas import codec
from schemas.errors import Unavailable
from schemas.events import MarketSettlement, PlayerEvent
from schemas.topics import DAY_MS, PLAYER_EVENTS, SETTLEMENTS, TRANSACTIONS

READ_MAX: Final = 200_000
"""Records of one topic at most, some seconds to read; of more, the newest are counted."""

_IDLE_TIMEOUT_S: Final = 20.0
_REPORTED: Final[Mapping[str, type[PlayerEvent | MarketSettlement]]] = {
    PLAYER_EVENTS: PlayerEvent,
    SETTLEMENTS: MarketSettlement,
}


async def read_daily_traffic(
    runtime: Runtime, now_ms: int
) -> dict[ProviderVersion, VersionTraffic]:
    """Count events by (provider, version) of the day before `now_ms`.

    Raises as `read_traffic` does.
    """
    return await read_traffic(runtime, now_ms - DAY_MS)


async def read_traffic(runtime: Runtime, from_ms: int) -> dict[ProviderVersion, VersionTraffic]:
    """Count events by (provider, version) that were appended at `from_ms` or later.

    Of player events and settlements only the newest `READ_MAX` of a topic are counted, so the
    figure may be too low. Raises Unavailable, UsageError.
    """
    consumer = AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(),
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    await start_client(consumer, runtime.broker)
    database = LedgerDatabase(runtime.database_url, "pitboss.providers", role=Role.READER)
    try:
        partitions = await _partitions(runtime, (TRANSACTIONS, *_REPORTED))
        starts = await _starts(consumer, partitions[TRANSACTIONS], from_ms)
        counted = await traffic_since(
            database, {partition.partition: offset for partition, offset in starts.items()}
        )
        for topic, record in _REPORTED.items():
            starts = await _starts(consumer, partitions[topic], from_ms)
            for version, traffic in (await _read(consumer, starts, codec.decoder(record))).items():
                add_traffic(counted, version, traffic)
    except (KafkaError, TimeoutError) as error:
        raise Unavailable(f"the broker at {runtime.broker} does not answer: {error!r}") from error
    except psycopg.Error as error:
        raise Unavailable(f"the ledger's database does not answer: {error}") from error
    finally:
        await database.close()
        await stop_client(consumer)
    return counted


async def _partitions(runtime: Runtime, topics: Collection[str]) -> dict[str, list[TopicPartition]]:
    names = {runtime.topic(topic): topic for topic in topics}
    found: dict[str, list[TopicPartition]] = {topic: [] for topic in topics}
    async with admin_client(runtime.broker) as admin:
        for partition in await list_partitions(admin, names):
            found[names[partition.topic]].append(partition)
    return found


async def _starts(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], from_ms: int
) -> dict[TopicPartition, int]:
    """Return each partition's first offset appended at `from_ms` or later, else its end."""
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, from_ms))
    return {
        partition: ends[partition] if at is None else at.offset for partition, at in found.items()
    }


async def _read(
    consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int], decode: Callable[[bytes], Any]
) -> dict[ProviderVersion, VersionTraffic]:
    ends = await consumer.end_offsets(list(starts))
    room = READ_MAX // max(1, len(starts))
    starts = {partition: max(start, ends[partition] - room) for partition, start in starts.items()}
    left = {partition for partition in starts if ends[partition] > starts[partition]}
    counted: dict[ProviderVersion, VersionTraffic] = {}
    if not left:
        return counted
    consumer.assign(list(left))
    for partition in left:
        consumer.seek(partition, starts[partition])
    while left:
        async with asyncio.timeout(_IDLE_TIMEOUT_S):
            fetched = await consumer.getmany(*left, timeout_ms=500, max_records=5_000)
        for partition, records in fetched.items():
            fresh = [record for record in records if record.offset < ends[partition]]
            _count(counted, [decode(record.value) for record in fresh])
        for partition in list(left):
            if await consumer.position(partition) >= ends[partition]:
                left.discard(partition)
                consumer.pause(partition)
    return counted


def _count(
    counted: dict[ProviderVersion, VersionTraffic], events: Sequence[PlayerEvent | MarketSettlement]
) -> None:
    for event in events:
        at = event.attempt
        one = VersionTraffic(1, f"{at.topic}-{at.partition}@{at.offset}", event.occurred_at)
        add_traffic(counted, (event.provider, event.provider_version), one)
