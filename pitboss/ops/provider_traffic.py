"""How many events of each provider version came in a day or a week: from the ledger, and from the
topics beside it.

What moves money is in the ledger, which counts faster than a topic is read. Player events and
settlements of markets are in no ledger; the records of their topics are counted, up to a limit.
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
"""Records of one topic; reading and decoding them takes some seconds.

Of more, the newest are counted.
"""

_IDLE_TIMEOUT_S: Final = 20.0
_REPORTED: Final[Mapping[str, type[PlayerEvent | MarketSettlement]]] = {
    PLAYER_EVENTS: PlayerEvent,
    SETTLEMENTS: MarketSettlement,
}


async def read_daily_traffic(
    runtime: Runtime, now_ms: int
) -> dict[ProviderVersion, VersionTraffic]:
    """Events by (provider, version) that were appended in the day before `now_ms`.

    Raises as `read_traffic` does.
    """
    return await read_traffic(runtime, now_ms - DAY_MS)


async def read_traffic(runtime: Runtime, from_ms: int) -> dict[ProviderVersion, VersionTraffic]:
    """Events by (provider, version) that were appended at `from_ms` or later. Raises Unavailable,
    UsageError.

    Of player events and settlements it counts the newest `READ_MAX` of a topic, and so may say too
    few.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=runtime.bootstrap_servers,
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    await start_client(consumer, runtime.bootstrap_servers)
    database = LedgerDatabase(runtime.database_url, "pitboss.providers", role=Role.READER)
    try:
        partitions = await _partitions(runtime, (TRANSACTIONS, *_REPORTED))
        starts = await _starts(consumer, partitions[TRANSACTIONS], from_ms)
        counted = await traffic_since(
            database, {part.partition: offset for part, offset in starts.items()}
        )
        for topic, record in _REPORTED.items():
            starts = await _starts(consumer, partitions[topic], from_ms)
            for version, traffic in (await _read(consumer, starts, codec.decoder(record))).items():
                add_traffic(counted, version, traffic)
    except (KafkaError, TimeoutError) as error:
        raise Unavailable(
            f"the broker at {runtime.bootstrap_servers} does not answer: {error!r}"
        ) from error
    except psycopg.Error as error:
        raise Unavailable(f"the ledger's database does not answer: {error}") from error
    finally:
        await database.close()
        await stop_client(consumer)
    return counted


async def _partitions(runtime: Runtime, topics: Collection[str]) -> dict[str, list[TopicPartition]]:
    names = {runtime.topic(topic): topic for topic in topics}
    found: dict[str, list[TopicPartition]] = {topic: [] for topic in topics}
    async with admin_client(runtime.bootstrap_servers) as admin:
        for part in await list_partitions(admin, names):
            found[names[part.topic]].append(part)
    return found


async def _starts(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition], from_ms: int
) -> dict[TopicPartition, int]:
    """The first offset of each partition that was appended at `from_ms` or later; the end where
    there is none.
    """
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    found = await consumer.offsets_for_times(dict.fromkeys(partitions, from_ms))
    return {part: ends[part] if at is None else at.offset for part, at in found.items()}


async def _read(
    consumer: AIOKafkaConsumer, starts: Mapping[TopicPartition, int], decode: Callable[[bytes], Any]
) -> dict[ProviderVersion, VersionTraffic]:
    ends = await consumer.end_offsets(list(starts))
    room = READ_MAX // max(1, len(starts))
    starts = {part: max(start, ends[part] - room) for part, start in starts.items()}
    left = {part for part in starts if ends[part] > starts[part]}
    counted: dict[ProviderVersion, VersionTraffic] = {}
    if not left:
        return counted
    consumer.assign(list(left))
    for part in left:
        consumer.seek(part, starts[part])
    while left:
        async with asyncio.timeout(_IDLE_TIMEOUT_S):
            fetched = await consumer.getmany(*left, timeout_ms=500, max_records=5_000)
        for part, records in fetched.items():
            _count(
                counted, [decode(record.value) for record in records if record.offset < ends[part]]
            )
        for part in list(left):
            if await consumer.position(part) >= ends[part]:
                left.discard(part)
                consumer.pause(part)
    return counted


def _count(
    counted: dict[ProviderVersion, VersionTraffic], events: Sequence[PlayerEvent | MarketSettlement]
) -> None:
    for event in events:
        at = event.attempt
        one = VersionTraffic(1, f"{at.topic}-{at.partition}@{at.offset}", event.occurred_at)
        add_traffic(counted, (event.provider, event.provider_version), one)
