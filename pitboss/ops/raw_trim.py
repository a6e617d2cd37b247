"""Deleting raw records that are old and that the normaliser has read.

The broker itself deletes none: it would go by its clock, and a clock that jumps would take records
that nothing has read.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Collection
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import KafkaError

from pitboss.ops.topic_admin import admin_client
from pitboss.settings import Runtime
from runtime.kafka.broker_queries import fetch_group_offsets, list_partitions
from runtime.kafka.clients import start_client, stop_client
from runtime.security import BrokerAddress
from schemas.errors import Unavailable
from schemas.topics import raw_pattern
from streams.normalise.handler import NAME as NORMALISE


@dataclass(frozen=True)
class TrimmedPartition:
    """What is deleted of one raw partition: the offsets before `before_offset`."""

    topic: str
    partition: int
    before_offset: int
    records: int
    """Offsets that go, those of transactions' markers included."""


async def trim_raw_topics(
    runtime: Runtime,
    older_than_ms: int,
    providers: Collection[str] | None = None,
    *,
    dry_run: bool = False,
) -> list[TrimmedPartition]:
    """Delete what is older by this machine's clock and was normalised.

    `providers` None means the raw topics of all. Raises Unavailable.
    """
    servers = runtime.broker
    pattern = re.compile(raw_pattern(runtime.namespace, providers))
    async with admin_client(servers) as admin:
        names = [name for name in await admin.list_topics() if pattern.fullmatch(name)]
        partitions = await list_partitions(admin, names)
        if not partitions:
            return []
        try:
            reached = await fetch_group_offsets(admin, runtime.group(NORMALISE), partitions)
            starts, recent = await _bounds(servers, partitions, older_than_ms)
            cuts = {}
            for tp in partitions:
                cut = min(reached[tp] or 0, recent[tp])
                if cut > starts[tp]:
                    cuts[tp] = cut
            if cuts and not dry_run:
                await admin.delete_records({tp: RecordsToDelete(cut) for tp, cut in cuts.items()})
        except (KafkaError, TimeoutError) as error:
            raise Unavailable(f"the broker at {servers} does not answer: {error!r}") from error
    return [
        TrimmedPartition(tp.topic, tp.partition, cut, cut - starts[tp])
        for tp, cut in sorted(cuts.items())
    ]


async def _bounds(
    servers: BrokerAddress, partitions: Collection[TopicPartition], older_than_ms: int
) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
    """Return the first offset of each partition, and the first that is not older."""
    consumer = AIOKafkaConsumer(**servers.aiokafka_options())
    await start_client(consumer, servers)
    try:
        consumer.assign(partitions)
        until_ms = time.time_ns() // 1_000_000 - older_than_ms
        found, starts, ends = await asyncio.gather(
            consumer.offsets_for_times(dict.fromkeys(partitions, until_ms)),
            consumer.beginning_offsets(partitions),
            consumer.end_offsets(partitions),
        )
    finally:
        await stop_client(consumer)
    recent = {tp: ends[tp] if found[tp] is None else found[tp].offset for tp in partitions}
    return starts, recent
