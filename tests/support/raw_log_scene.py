"""Raw topics with sandbox traffic, the normalising worker over them, and what comes out of it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

from lab.sandbox.keys import SandboxKeys
from lab.sandbox.poison import CATALOGUE
from lab.sandbox.records import RawEvent
from lab.sandbox.scenario import Scenario, generate
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import Runtime
from runtime.kafka.partitioner import partition_for
from schemas import codec
from schemas.events import WalletTransaction
from schemas.topics import (
    TRANSACTIONS,
    UNRESOLVED,
    qualified_name,
    raw_topic,
)
from streams.normalise.handler import NAME, NormaliseWorker, create_worker
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.normalise.settings import NormaliseSettings
from streams.providers.registry import DIALECTS
from tests.support.sandbox_keys import shared_keys

PARTITIONS = 4


PROVIDERS = ["adyen", "house", "hub88", "playngo"]  # those of the sandbox


DEADLINE_S = 180.0


START_MS = 1_790_000_000_000


@pytest.fixture(scope="module")
def keys() -> SandboxKeys:
    return shared_keys()


@pytest.fixture(scope="module")
def traffic(keys: SandboxKeys) -> list[RawEvent]:
    scenario = Scenario(
        seed=11, start_ms=START_MS, events=1_500, poison=len(CATALOGUE), retry_share=0.05
    )
    return generate(scenario, keys)


@pytest.fixture
async def raw_log(runtime: Runtime, traffic: list[RawEvent]) -> Runtime:
    """A namespace whose raw topics hold the traffic."""
    await create_topics(
        runtime.broker,
        runtime.namespace,
        PROVIDERS,
        partitions=PARTITIONS,
        raw_partitions=PARTITIONS,
    )
    await append(runtime, traffic)
    return runtime


async def append(
    runtime: Runtime, traffic: Sequence[RawEvent], partitions: int = PARTITIONS
) -> None:
    producer = AIOKafkaProducer(**runtime.broker.aiokafka_options(), acks="all", linger_ms=5)
    await producer.start()
    try:
        acknowledgements = [
            await producer.send(
                qualified_name(raw_topic(raw.provider), runtime.namespace),
                raw.value,
                raw.key,
                partition=partition_for(raw.key, partitions),
                headers=list(raw.headers),
            )
            for raw in traffic
        ]
        await asyncio.gather(*acknowledgements)
    finally:
        await producer.stop()


def worker_of(runtime: Runtime, keys: SandboxKeys) -> NormaliseWorker:
    return create_worker(
        NormaliseSettings(runtime.broker, runtime.namespace, "test", keys.keyring())
    )


@asynccontextmanager
async def working(worker: NormaliseWorker) -> AsyncIterator[None]:
    await worker.app.start()
    try:
        yield
    finally:
        await worker.app.stop()


async def until(condition: Callable[[], Awaitable[bool]] | Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                answer = condition()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"not within {DEADLINE_S:.0f} s: {what}")


async def read_all(runtime: Runtime, topic: str) -> list[ConsumerRecord[Any, Any]]:
    """Every record of a topic up to its present end."""
    name = qualified_name(topic, runtime.namespace)
    consumer = AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(), isolation_level="read_committed"
    )
    await consumer.start()
    try:
        partitions = [
            TopicPartition(name, number) for number in sorted(await _numbers(consumer, name))
        ]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        records: list[ConsumerRecord[Any, Any]] = []
        async with asyncio.timeout(DEADLINE_S):
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    records += batch
        return records
    finally:
        await consumer.stop()


async def _numbers(consumer: AIOKafkaConsumer, name: str) -> set[int]:
    await consumer._client.force_metadata_update()
    numbers: set[int] = consumer._client.cluster.partitions_for_topic(name) or set()
    if not numbers:
        await consumer._client.add_topic(name)
        numbers = consumer._client.cluster.partitions_for_topic(name) or set()
    return numbers


async def all_committed(runtime: Runtime) -> bool:
    """Whether the group has committed the end of every raw partition."""
    consumer = AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(),
        group_id=qualified_name(NAME, runtime.namespace),
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        names = [qualified_name(raw_topic(provider), runtime.namespace) for provider in PROVIDERS]
        partitions = [
            TopicPartition(name, number) for name in names for number in range(PARTITIONS)
        ]
        ends = await consumer.end_offsets(partitions)
        committed = {tp: await consumer.committed(tp) for tp in partitions}
        return all((committed[tp] or 0) == end for tp, end in ends.items())
    finally:
        await consumer.stop()


def events_of(records: Sequence[ConsumerRecord[Any, Any]]) -> list[WalletTransaction]:
    decode = codec.decoder(WalletTransaction)
    return [decode(record.value) for record in records]


def expected_events(traffic: Sequence[RawEvent], keys: SandboxKeys) -> dict[str, dict[str, int]]:
    """By topic, how often each event is in the traffic."""
    normaliser = Normaliser(DIALECTS, keys.keyring())
    times: dict[str, dict[str, int]] = {
        TRANSACTIONS: defaultdict(int),
        UNRESOLVED: defaultdict(int),
    }
    for offset, raw in enumerate(traffic):
        record = ConsumerRecord(
            raw_topic(raw.provider),
            0,
            offset,
            raw.event_time_ms,
            1,
            raw.key,
            raw.value,
            None,
            0,
            0,
            list(raw.headers),
        )
        for item in normaliser.normalise(record):
            if isinstance(item, AcceptedTransaction):
                times[item.topic][item.transaction.event_id] += 1
    return times


def count_events(records: Sequence[ConsumerRecord[Any, Any]]) -> dict[str, int]:
    times: dict[str, int] = defaultdict(int)
    for event in events_of(records):
        times[event.event_id] += 1
    return times
