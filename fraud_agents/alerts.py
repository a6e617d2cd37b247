"""Alerts and the records they rest on, read again from Kafka each time; no copy is kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.structs import ConsumerRecord, TopicPartition

from runtime.kafka.clients import start_client, stop_client
from runtime.security import BrokerAddress
from schemas import codec
from schemas.errors import Unavailable, UsageError
from schemas.events import AlertStatus, FraudAlert

POLL_MS: Final = 500


class PublishedAlert(msgspec.Struct):
    """Alert as of its latest finding, the copies of that record, and whether copies differ.

    Copies of one revision that differ are a fault. `closed` is the record that ended the episode.
    """

    alert: FraudAlert
    times_sent: int = 1
    closed: FraudAlert | None = None
    is_contradicted: bool = False


@asynccontextmanager
async def _open_consumer(
    broker: BrokerAddress, topic: str
) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    partitions = await _partitions_of(broker, topic)
    consumer = AIOKafkaConsumer(
        **broker.aiokafka_options(),
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    await start_client(consumer, broker)
    try:
        consumer.assign(partitions)
        yield consumer, partitions
    finally:
        await stop_client(consumer)


async def _partitions_of(broker: BrokerAddress, topic: str) -> list[TopicPartition]:
    # From an admin client: a consumer knows only its subscribed topics, and waits for a missing
    # one.
    admin = AIOKafkaAdminClient(**broker.aiokafka_options())
    await start_client(admin, broker)
    try:
        [described] = await admin.describe_topics([topic])
    finally:
        await admin.close()
    if described["error_code"] == UnknownTopicOrPartitionError.errno:
        raise UsageError(f"the topic {topic} does not exist: run `pitboss topics create`")
    if described["error_code"]:
        raise Unavailable(f"the broker does not describe {topic}: error {described['error_code']}")
    return sorted(TopicPartition(topic, row["partition"]) for row in described["partitions"])


async def read_alerts(broker: BrokerAddress, topic: str) -> list[PublishedAlert]:
    """Return every alert on the topic now, once each, in the order of their event times.

    Raises UsageError, Unavailable.
    """
    decode = codec.decoder(FraudAlert)
    published: dict[str, PublishedAlert] = {}
    async with _open_consumer(broker, topic) as (consumer, partitions):
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    _add(published, decode(record.value))
    return sorted(published.values(), key=lambda one: (one.alert.occurred_at, one.alert.alert_id))


def _add(published: dict[str, PublishedAlert], alert: FraudAlert) -> None:
    known = published.get(alert.alert_id)
    if known is None:
        published[alert.alert_id] = PublishedAlert(alert)
        return
    if alert.status == AlertStatus.CLOSED:
        known.closed = alert
    elif alert.revision > known.alert.revision:
        known.alert, known.times_sent = alert, 1
    elif alert.revision == known.alert.revision:
        known.times_sent += 1
        known.is_contradicted |= known.alert != alert


async def follow_alerts(
    broker: BrokerAddress, topic: str, *, from_start: bool
) -> AsyncIterator[FraudAlert]:
    """Yield alerts as they come, for ever, once each. Raises UsageError, Unavailable."""
    decode = codec.decoder(FraudAlert)
    seen: set[tuple[str, int]] = set()
    async with _open_consumer(broker, topic) as (consumer, _):
        await (consumer.seek_to_beginning() if from_start else consumer.seek_to_end())
        while True:
            for records in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    alert = decode(record.value)
                    record_id = (alert.alert_id, alert.revision)
                    if record_id not in seen:
                        seen.add(record_id)
                        yield alert


async def read_records(
    broker: BrokerAddress,
    topic: str,
    partition: int,
    first_offset: int,
    last_offset: int,
    key: bytes | None,
) -> list[ConsumerRecord[Any, Any]]:
    """Return the records of [first_offset, last_offset], of one key or of all.

    Raises UsageError if the log does not hold all of them, Unavailable.
    """
    found: list[ConsumerRecord[Any, Any]] = []
    async with _open_consumer(broker, topic) as (consumer, partitions):
        tp = TopicPartition(topic, partition)
        if tp not in partitions:
            raise UsageError(
                f"{topic} has no partition {partition}: the alert is from another installation"
            )
        consumer.assign([tp])
        begin, end = (
            (await consumer.beginning_offsets([tp]))[tp],
            (await consumer.end_offsets([tp]))[tp],
        )
        if begin > first_offset or end <= last_offset:
            raise UsageError(
                f"{topic}-{partition} holds [{begin}, {end}), "
                f"not all of [{first_offset}, {last_offset}]"
            )
        consumer.seek(tp, first_offset)
        while await consumer.position(tp) <= last_offset:
            for records in (await consumer.getmany(tp, timeout_ms=POLL_MS)).values():
                found += [
                    r for r in records if r.offset <= last_offset and (key is None or r.key == key)
                ]
    return found
