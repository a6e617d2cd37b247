"""Which record the client cannot take apart: found by asking for records one by one, so that a
person can skip it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from schemas.errors import Unfetchable

SEARCH_S = 10.0
_WAIT_MS = 1_000


async def corrupt_record_error(
    client: AIOKafkaConsumer, expected: Mapping[TopicPartition, int], group: str, records_max: int
) -> Unfetchable:
    """The error of a fetch that raised UnicodeDecodeError: names the record, and how to go on
    behind it.

    Kafka's headers have names in UTF-8, yet its brokers do not look. `expected` is where each
    partition was to be read from, `records_max` how many records the fetch had asked for. Moves
    positions: nothing may be read after this.
    """
    try:
        async with asyncio.timeout(SEARCH_S):
            for tp, offset in expected.items():
                client.seek(tp, offset)
                if (found := await _search(client, tp, records_max)) is not None:
                    return _error(f"{tp.topic}-{tp.partition}@{found}", group, str(found + 1))
    except (KafkaError, TimeoutError):
        pass  # it did not answer in time: what is known is where the reading stood
    near = ", ".join(f"{tp.topic}-{tp.partition}@{offset}" for tp, offset in expected.items())
    return _error(f"a record at or after one of {near}", group, "the one after it")


async def _search(client: AIOKafkaConsumer, tp: TopicPartition, records_max: int) -> int | None:
    for _ in range(records_max):
        try:
            if not await client.getmany(tp, timeout_ms=_WAIT_MS, max_records=1):
                return None
        except UnicodeDecodeError:
            position: int = await client.position(tp)
            return position
    return None


def _error(place: str, group: str, behind: str) -> Unfetchable:
    return Unfetchable(
        f"{place} has a header whose name is not UTF-8, which no consumer here can read: stop the workers of {group}, "
        f"set its offset on that partition to {behind} with Kafka's tools, and have whoever appended it send it again "
        "without that header"
    )
