"""Events of the log by their places, as the broker still has them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from itertools import groupby
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pitboss.settings import Runtime
from runtime.kafka.clients import start_client, stop_client
from schemas import codec
from schemas.errors import Unavailable
from schemas.events import WalletTransaction
from schemas.topics import TRANSACTIONS

_TIMEOUT_S: Final = 20.0


async def read_events(
    runtime: Runtime, places: Collection[tuple[int, int]]
) -> dict[tuple[int, int], WalletTransaction]:
    """Return the log's events at some places, which are pairs of partition and offset.

    A place that the log no longer holds is left out. Raises Unavailable without a broker.
    """
    log = runtime.topic(TRANSACTIONS)
    found: dict[tuple[int, int], WalletTransaction] = {}
    decode = codec.decoder(WalletTransaction)
    if not places:
        return {}
    consumer = AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await start_client(consumer, runtime.broker)
        for partition, group in groupby(sorted(places), key=lambda place: place[0]):
            tp = TopicPartition(log, partition)
            offsets = [offset for _, offset in group]
            async with asyncio.timeout(_TIMEOUT_S):
                values = await _read_values(consumer, tp, offsets)
            found |= {(partition, offset): decode(value) for offset, value in values.items()}
    except (TimeoutError, KafkaError) as error:
        raise Unavailable(f"{log}: the broker does not return the events: {error!r}") from error
    finally:
        await stop_client(consumer)
    return found


async def _read_values(
    consumer: AIOKafkaConsumer, tp: TopicPartition, offsets: Collection[int]
) -> dict[int, bytes]:
    consumer.assign([tp])
    start = (await consumer.beginning_offsets([tp]))[tp]
    end = (await consumer.end_offsets([tp]))[tp]
    found = {}
    for offset in offsets:
        if start <= offset < end:
            consumer.seek(tp, offset)
            record = await consumer.getone(tp)
            if record.offset == offset:
                found[offset] = record.value
    return found
