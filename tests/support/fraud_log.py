"""A log of bets on the real broker, the fraud agent on it, and its alerts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager

import psycopg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import ConsumerRecord

from fraud_agents.detectors.d01_bet_velocity import VERSION_1 as D01_VERSION_1
from fraud_agents.handler import create_app
from fraud_agents.settings import FraudSettings
from fraud_agents.snapshots import migrate
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import Runtime
from runtime.kafka.app import PitbossApp
from runtime.kafka.partitioner import partition_for
from schemas import codec
from schemas.events import Amount, Attempt, FraudAlert, Leg, WalletTransaction
from schemas.identity import event_id
from schemas.topics import ALERTS, TRANSACTIONS

T0 = 1_750_000_020_000  # a whole minute
PARTITIONS = 3
_encode = codec.encoder(WalletTransaction)


def bet(
    player: str, at_ms: int, tx: str, *, kind: str = "BET", game: str = "slot-1"
) -> WalletTransaction:
    return WalletTransaction(
        event_id=event_id("default", "hub88", kind.lower(), tx),
        brand="default",
        provider="hub88",
        provider_version="v1",
        region="MT",
        operation=kind.lower(),
        provider_tx_id=tx,
        attempt=Attempt("provider.hub88.raw.v1", 0, 0),
        player_id=player,
        legs=[Leg(kind, Amount(100, 2), "EUR")],
        reference=None,
        round_id=f"round-{tx}",
        round_closed=False,
        game_id=game,
        occurred_at=at_ms,
        time_source="PROVIDER",
        provider_at=at_ms,
        received_at=at_ms,
        appended_at=at_ms,
        fingerprint="0" * 32,
        fingerprint_version=1,
        signature="VALID",
        decision_required=True,
        cause=None,
    )


def burst(
    player: str, start_ms: int, count: int, every_ms: int = 100, first: int = 0
) -> list[WalletTransaction]:
    return [bet(player, start_ms + n * every_ms, f"{player}-{first + n}") for n in range(count)]


def partition_of(player: str) -> int:
    return partition_for(player.encode(), PARTITIONS)


async def make_topics(runtime: Runtime) -> None:
    """Create the topics, and the tables, which workers do not create."""
    await asyncio.to_thread(migrate, runtime.database_url)
    await create_topics(runtime.broker, runtime.namespace, ["hub88"], PARTITIONS, PARTITIONS)


async def append(runtime: Runtime, events: Iterable[WalletTransaction]) -> None:
    await append_bytes(runtime, (_key_and_value(event) for event in events))


def _key_and_value(event: WalletTransaction) -> tuple[str, bytes]:
    assert event.player_id is not None
    return event.player_id, _encode(event)


async def append_bytes(
    runtime: Runtime, records: Iterable[tuple[str, bytes | None]], topic: str = TRANSACTIONS
) -> None:
    producer = AIOKafkaProducer(**runtime.broker.aiokafka_options(), acks="all", linger_ms=5)
    await producer.start()
    try:
        name = runtime.topic(topic)
        sent = [
            await producer.send(name, value, player.encode(), partition=partition_of(player))
            for player, value in records
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def read_all(runtime: Runtime, topic: str) -> list[ConsumerRecord]:
    """Return everything that a topic holds now."""
    consumer = AIOKafkaConsumer(**runtime.broker.aiokafka_options(), enable_auto_commit=False)
    await consumer.start()
    try:
        name = runtime.topic(topic)
        partitions = [
            TopicPartition(name, partition) for partition in await _partitions(consumer, name)
        ]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        records: list[ConsumerRecord] = []
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=500)).values():
                records += batch
        return records
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> Sequence[int]:
    await consumer._client.force_metadata_update()
    return sorted(
        consumer.partitions_for_topic(topic)
        or consumer._client.cluster.partitions_for_topic(topic)
        or ()
    )


async def read_alerts(runtime: Runtime) -> list[FraudAlert]:
    decode = codec.decoder(FraudAlert)
    return [decode(record.value) for record in await read_all(runtime, ALERTS)]


def snapshots(runtime: Runtime) -> dict[int, int]:
    """Return the offset of each snapshot of the log; empty while the table does not exist."""
    saved = _saved_offsets(runtime)
    return {part: offset for (topic, part), offset in saved.items() if topic == TRANSACTIONS}


def _saved_offsets(runtime: Runtime) -> dict[tuple[str, int], int]:
    with psycopg.connect(runtime.database_url) as connection:
        try:
            rows = connection.execute(
                "SELECT topic, part, next_offset FROM fraud.snapshot"
            ).fetchall()
        except psycopg.errors.UndefinedTable:
            return {}
    return {(topic, part): offset for topic, part, offset in rows}


async def wait_until(
    condition: Callable[[], Awaitable[object]], what: str, timeout_s: float = 180
) -> None:
    deadline = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(0.05)


async def committed_offsets(runtime: Runtime) -> dict[int, int]:
    """Return the group's committed offset of each partition.

    The agent commits it when a batch and its alerts are acknowledged.
    """
    topic = runtime.topic(TRANSACTIONS)
    found = await committed(runtime, [TopicPartition(topic, n) for n in range(PARTITIONS)])
    return {tp.partition: offset for tp, offset in found.items()}


async def committed(
    runtime: Runtime, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return the group's committed offset of each partition; 0 where there is none."""
    consumer = AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(),
        group_id=runtime.group("fraud.detect"),
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        return {tp: await consumer.committed(tp) or 0 for tp in partitions}
    finally:
        await consumer.stop()


async def reached(
    runtime: Runtime, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return how far each partition was read: the group's offset, or the snapshot's.

    A kill between a snapshot and its commit leaves the group behind until more comes.
    """
    found = await committed(runtime, partitions)
    saved = _saved_offsets(runtime)
    prefix = runtime.prefix
    return {
        tp: max(offset, saved.get((tp.topic.removeprefix(prefix), tp.partition), 0))
        for tp, offset in found.items()
    }


async def ends(runtime: Runtime) -> dict[int, int]:
    """Return the end of each partition of the log."""
    found = await all_ends(runtime, [runtime.topic(TRANSACTIONS)])
    return {tp.partition: end for tp, end in found.items()}


async def all_ends(runtime: Runtime, topics: Iterable[str]) -> dict[TopicPartition, int]:
    """Return the end of each partition of topics with as many partitions as the log."""
    consumer = AIOKafkaConsumer(**runtime.broker.aiokafka_options())
    await consumer.start()
    try:
        tps = [TopicPartition(topic, number) for topic in topics for number in range(PARTITIONS)]
        return dict(await consumer.end_offsets(tps))
    finally:
        await consumer.stop()


async def wait_until_processed(runtime: Runtime) -> None:
    goal = await ends(runtime)

    async def has_reached_goal() -> bool:
        return await committed_offsets(runtime) == goal

    await wait_until(has_reached_goal, f"the group at {goal}")


async def delete_before(runtime: Runtime, partition: int, before_offset: int) -> None:
    """Delete the first records of a partition, as after their archival."""
    admin = AIOKafkaAdminClient(**runtime.broker.aiokafka_options())
    await admin.start()
    try:
        await admin.delete_records(
            {
                TopicPartition(runtime.topic(TRANSACTIONS), partition): RecordsToDelete(
                    before_offset=before_offset
                )
            }
        )
    finally:
        await admin.close()


HOLD_ONLY = D01_VERSION_1
"""D01 without its warning: one record an alert, so that tests of the agent can count them."""


def settings_of(runtime: Runtime, **changes) -> FraudSettings:
    return FraudSettings(
        broker=runtime.broker,
        database_url=runtime.database_url,
        namespace=runtime.namespace,
        code_version="test",
        **{"rules": (HOLD_ONLY,), **changes},
    )


@asynccontextmanager
async def running_agent(settings: FraudSettings) -> AsyncIterator[PitbossApp]:
    """Run the fraud app in this process; raise if it crashes, also if the test did not notice."""
    app = create_app(settings)
    await app.start()
    try:
        yield app
    finally:
        reason = app.crash_reason
        await app.stop()
    if reason is not None:
        raise reason
