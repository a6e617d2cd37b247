"""From what a person says of a moment to a place in the log: a time, an offset, or a record's full
name.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements
from pitboss.ops.periods import parse_instant_ms
from pitboss.settings import Runtime
from runtime.kafka.clients import start_client, stop_client
from runtime.kafka.partitioner import partition_for
from schemas.errors import Unavailable, UsageError
from schemas.topics import TRANSACTIONS

__all__ = ["offset_after", "parse_instant_ms"]

_PLACE: Final = re.compile(r"(?:(?P<topic>.+)-)?(?P<part>\d+)@(?P<offset>\d+)", re.ASCII)
_TIMEOUT_S: Final = 20.0


async def offset_after(
    runtime: Runtime, database: LedgerDatabase, player_id: str, place: str
) -> int:
    """The offset that follows a place in the player's partition of the log: how far it is booked
    there.

    Behind an offset is the next one; at a time it is the first record that came later. Raises
    UsageError for what is no place or lies in another partition, Unavailable without a broker.
    """
    [(partitions,)] = await database.query(statements("history")["partitions"]) or [(None,)]
    if partitions is None:
        raise UsageError(
            "the ledger has booked nothing yet: it does not know how many partitions its log has"
        )
    part = partition_for(player_id.encode(), partitions)
    if place.isascii() and place.isdigit():
        return int(place) + 1
    named = _PLACE.fullmatch(place)
    if named is None:
        return await _first_after(runtime, part, parse_instant_ms(place))
    topic = named["topic"] or TRANSACTIONS
    if topic not in {TRANSACTIONS, runtime.topic(TRANSACTIONS)} or int(named["part"]) != part:
        raise UsageError(
            f"{player_id!r} is booked from {runtime.topic(TRANSACTIONS)}-{part}, {place} is elsewhere"
        )
    return int(named["offset"]) + 1


async def _first_after(runtime: Runtime, part: int, at_ms: int) -> int:
    partition = TopicPartition(runtime.topic(TRANSACTIONS), part)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=runtime.bootstrap_servers, enable_auto_commit=False
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await start_client(consumer, runtime.bootstrap_servers)
            consumer.assign([partition])
            ends = await consumer.end_offsets([partition])
            found = (await consumer.offsets_for_times({partition: at_ms + 1}))[partition]
    except (TimeoutError, KafkaError) as error:
        raise Unavailable(
            f"{partition.topic}-{part}: the broker does not say where {at_ms} is: {error!r}"
        ) from error
    finally:
        await stop_client(consumer)
    return ends[partition] if found is None else int(found.offset)
