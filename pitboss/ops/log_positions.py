"""Conversion of a place in the log (a time, an offset, a record's full name) to an offset."""

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

_PLACE: Final = re.compile(r"(?:(?P<topic>.+)-)?(?P<partition>\d+)@(?P<offset>\d+)", re.ASCII)
_TIMEOUT_S: Final = 20.0


async def offset_after(
    runtime: Runtime, database: LedgerDatabase, player_id: str, place: str
) -> int:
    """Return the offset that follows a place in the player's partition of the log.

    The log is booked up to it at that place: for an offset it is the next one; for a time it is the
    offset of the first record that came later. Raises UsageError for a text that is not a place, or
    one in another partition; Unavailable without a broker.
    """
    [(partitions,)] = await database.query(statements("history")["partitions"]) or [(None,)]
    if partitions is None:
        raise UsageError(
            "the ledger has booked nothing yet: it does not know how many partitions its log has"
        )
    partition = partition_for(player_id.encode(), partitions)
    if place.isascii() and place.isdigit():
        return int(place) + 1
    match = _PLACE.fullmatch(place)
    if match is None:
        return await _first_after(runtime, partition, parse_instant_ms(place))
    log = runtime.topic(TRANSACTIONS)
    is_log = (match["topic"] or log) in {TRANSACTIONS, log}
    if not is_log or int(match["partition"]) != partition:
        raise UsageError(f"{player_id!r} is booked from {log}-{partition}, {place} is elsewhere")
    return int(match["offset"]) + 1


async def _first_after(runtime: Runtime, partition: int, at_ms: int) -> int:
    tp = TopicPartition(runtime.topic(TRANSACTIONS), partition)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=runtime.bootstrap_servers, enable_auto_commit=False
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await start_client(consumer, runtime.bootstrap_servers)
            consumer.assign([tp])
            ends = await consumer.end_offsets([tp])
            later = (await consumer.offsets_for_times({tp: at_ms + 1}))[tp]
    except (TimeoutError, KafkaError) as error:
        raise Unavailable(
            f"{tp.topic}-{tp.partition}: the broker does not say where {at_ms} is: {error!r}"
        ) from error
    finally:
        await stop_client(consumer)
    return ends[tp] if later is None else int(later.offset)
