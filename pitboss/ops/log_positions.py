"""Places in the log: their offsets, by time or by a record's full name."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements
from pitboss.ops.archive_settings import open_archive_index
from pitboss.ops.exports import missing_packages
from pitboss.ops.periods import format_time
from pitboss.settings import Runtime
from runtime.kafka.clients import start_client, stop_client
from runtime.kafka.partitioner import partition_for
from schemas.errors import Unavailable, UsageError
from schemas.topics import TRANSACTIONS

_PLACE: Final = re.compile(
    r"(?:(?:(?P<topic>.{1,249})-)?(?P<partition>\d{1,9})@)?(?P<offset>\d{1,18})", re.ASCII
)
_TIMEOUT_S: Final = 20.0


def is_place(text: str) -> bool:
    """Return whether a text names a place: `<topic>-<partition>@<offset>`, or an offset alone.

    The topic may be left out, as it is always that of the log.
    """
    return _parse_place(text) is not None


def _parse_place(text: str) -> tuple[str | None, int | None, int] | None:
    """Return topic, partition (None where not named) and offset; None for another text."""
    if (match := _PLACE.fullmatch(text)) is None:
        return None
    partition = match["partition"]
    return match["topic"], None if partition is None else int(partition), int(match["offset"])


async def offset_after(
    runtime: Runtime, database: LedgerDatabase, player_id: str, at: int | str
) -> int:
    """Return the offset that follows a time or a place in the player's partition of the log.

    The log is booked up to it there: for a place it is the next offset; for a time, in epoch ms, it
    is the offset of the first record that came later. Where the broker has deleted the records of
    that time, the archive is asked. Raises UsageError for a text that is not a place, or one in
    another partition; LogGap for a time that neither of them holds; Unavailable without a broker.
    """
    [(partitions,)] = await database.query(statements("history")["partitions"]) or [(None,)]
    if partitions is None:
        raise UsageError(
            "the ledger has booked nothing yet: it does not know how many partitions its log has"
        )
    partition = partition_for(player_id.encode(), partitions)
    if isinstance(at, int):
        return await _first_after(runtime, partition, at)
    place = _parse_place(at)
    if place is None:
        raise UsageError(f"{at!r} is not a place: write <topic>-<partition>@<offset>")
    topic, named, offset = place
    log = runtime.topic(TRANSACTIONS)
    if (topic or log) not in {TRANSACTIONS, log} or named not in {None, partition}:
        raise UsageError(f"{player_id!r} is booked from {log}-{partition}, {at} is elsewhere")
    return offset + 1


async def _first_after(runtime: Runtime, partition: int, at_ms: int) -> int:
    tp = TopicPartition(runtime.topic(TRANSACTIONS), partition)
    consumer = AIOKafkaConsumer(**runtime.broker.aiokafka_options(), enable_auto_commit=False)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await start_client(consumer, runtime.broker)
            # Paused: a fetch that waits at the end of the log holds back what is asked behind it,
            # for half a second, as a broker answers a connection's requests in their order.
            consumer.assign([tp])
            consumer.pause(tp)
            ends = await consumer.end_offsets([tp])
            begin = (await consumer.beginning_offsets([tp]))[tp]
            later = (await consumer.offsets_for_times({tp: at_ms + 1}))[tp]
    except (TimeoutError, KafkaError) as error:
        raise Unavailable(
            f"{tp.topic}-{tp.partition}: the broker does not say where {at_ms} is: {error!r}"
        ) from error
    finally:
        await stop_client(consumer)
    found = ends[tp] if later is None else int(later.offset)
    if found > begin or not begin:
        return found
    # All that the broker has came later, and so may have records that it has deleted.
    return await asyncio.to_thread(_first_in_archive, runtime, partition, at_ms + 1, begin)


def _first_in_archive(runtime: Runtime, partition: int, at_ms: int, held_from: int) -> int:
    """Return the first offset at or after a time of the records before `held_from`.

    Raises LogGap where the archive does not hold all of them behind that time.
    """
    log = runtime.topic(TRANSACTIONS)
    archive = open_archive_index(runtime, TRANSACTIONS, partition)
    end = 0
    if archive is not None and archive.has_topic(log):
        _, end = archive.bounds(log).get(partition, (0, 0))
    if archive is None or end < held_from:
        from replay.log.blocks import LogGap

        raise LogGap(
            f"{log}-{partition}@{held_from}: the broker holds the log from there on, which came "
            f"after {format_time(at_ms - 1)}, and the archive ends at {end}: set PITBOSS_ARCHIVE "
            "to an archive of this installation, or name the place, as in "
            f"{TRANSACTIONS}-{partition}@{held_from}"
        )
    with missing_packages("ledger balance --at"):
        return min(held_from, archive.first_in(log, partition, at_ms))
