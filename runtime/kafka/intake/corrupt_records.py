"""Finding the record that the client cannot decode, so that an operator can skip it.

A header's name must be UTF-8, but Kafka's brokers do not check it. aiokafka raises
UnicodeDecodeError for the fetch as a whole, without naming a record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from schemas.errors import Unfetchable

SEARCH_S: Final = 10.0
_WAIT_MS: Final = 1_000


async def corrupt_record_error(
    client: AIOKafkaConsumer, expected: Mapping[TopicPartition, int], group: str, records_max: int
) -> Unfetchable:
    """Return the error of a fetch that raised UnicodeDecodeError, with a way to continue.

    `expected` is the offset from which each partition was to be read, `records_max` how many
    records the fetch had asked for. The record is found by fetching them one by one. That moves the
    client's positions: nothing may be read with it afterwards. If the record is not found within
    `SEARCH_S`, the error names the offsets at which reading stopped.
    """
    try:
        async with asyncio.timeout(SEARCH_S):
            for tp, offset in expected.items():
                client.seek(tp, offset)
                if (found := await _find(client, tp, records_max)) is not None:
                    return _error(f"{tp.topic}-{tp.partition}@{found}", group, str(found + 1))
    except (KafkaError, TimeoutError):
        pass  # no answer in time: only the offsets where reading stopped are known
    near = ", ".join(f"{tp.topic}-{tp.partition}@{offset}" for tp, offset in expected.items())
    return _error(f"a record at or after one of {near}", group, "the one after it")


async def _find(client: AIOKafkaConsumer, tp: TopicPartition, records_max: int) -> int | None:
    for _ in range(records_max):
        try:
            if not await client.getmany(tp, timeout_ms=_WAIT_MS, max_records=1):
                return None
        except UnicodeDecodeError:
            position: int = await client.position(tp)
            return position
    return None


def _error(place: str, group: str, next_offset: str) -> Unfetchable:
    return Unfetchable(
        f"{place} has a header whose name is not UTF-8, which no consumer here can read: stop the "
        f"workers of {group}, set its offset on that partition to {next_offset} with Kafka's "
        "tools, and have its sender append it again without that header"
    )
