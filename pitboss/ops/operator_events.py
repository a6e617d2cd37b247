"""Operators' actions as events of the log: signed raw records of the provider `house`.

A block or a correction is therefore in the log with its actor and reason, a replay repeats it,
and no command writes to the ledger's tables.
"""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord

from pitboss.setting_files import read_keyring
from pitboss.settings import Runtime, WorkerSettings
from runtime.kafka.clients import start_client, stop_client
from runtime.kafka.partitioner import partition_for
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.security import BrokerAddress
from schemas import codec
from schemas.errors import Rejected, Unavailable, UsageError
from schemas.events import Attempt, DeadLetter, Position, WalletOutcome, WalletTransaction
from schemas.topics import OUTCOMES, TRANSACTIONS, dead_letter_topic, raw_topic
from streams.providers.house import SIGNATURE_HEADER, House

PROVIDER: Final = "house"
CONNECTOR: Final = b"pitboss-cli"

UNSIGNED: Final = (
    "earlier records of house are signed, and this shell has no key for house: workers that check "
    "signatures will reject this one; set PITBOSS_KEYS_FILE to the workers' keys file"
)
_LAST_RECORDS_S: Final = 5.0


def build_record(
    event: Mapping[str, Any], key: Mapping[str, str] | None, brand: str, now_ms: int
) -> tuple[bytes, list[tuple[str, bytes | None]]]:
    """Build body and headers of a raw record of the house, signed if there is a key (`hmac_hex`).

    `id` and `at` are added where `event` lacks them. Raises UsageError for a key that cannot sign.
    """
    at = (
        datetime.fromtimestamp(now_ms / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
    body = orjson.dumps({"id": str(uuid.uuid4()), "at": at} | dict(event))
    headers: list[tuple[str, bytes | None]] = [
        ("content-type", b"application/json"),
        ("received-at", str(now_ms).encode()),
        ("connector", CONNECTOR),
        ("brand", brand.encode()),
    ]
    if key is not None:
        try:
            secret = bytes.fromhex(key["hmac_hex"])
        except (KeyError, ValueError) as error:
            message = "the keyring's entry for 'house' has no hmac_hex to sign with"
            raise UsageError(message) from error
        headers.append((SIGNATURE_HEADER, hmac.digest(secret, body, "sha256").hex().encode()))
    return body, headers


def check_event(body: bytes) -> None:
    """Read an event as the normaliser will. Raises UsageError for what it would reject."""
    sizes = (None, 0, len(body))
    record = ConsumerRecord(raw_topic(PROVIDER), 0, 0, 0, 0, None, body, *sizes, ())
    try:
        House().reader(None)(record, {})
    except Rejected as error:
        raise UsageError(f"{error.reason.value}: {error.detail}; nothing was appended") from error


def active_signing_key(keyring: Mapping[str, Any], now_ms: int) -> Mapping[str, str] | None:
    """Return the house's key that is valid at `now_ms`, None if the keyring has no entry for it.

    The entry is one key or a list of keys with validity windows; of several valid keys the last one
    signs. Raises UsageError if none is valid.
    """
    entry = keyring.get(PROVIDER)
    entries = entry if isinstance(entry, list) else [entry]
    good = [one for one in entries if isinstance(one, dict) and _is_valid_at(one, now_ms)]
    if entry is not None and not good:
        message = "no key of the keyring's entry for 'house' is valid now"
        raise UsageError(message)
    return good[-1] if good else None


def _is_valid_at(entry: Mapping[str, Any], now_ms: int) -> bool:
    def at(bound: str, default: float) -> float:
        text = entry.get(bound)
        if text is None:
            return default
        when = datetime.fromisoformat(str(text))
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000

    is_revoked = entry.get("revoked") is True
    return not is_revoked and at("valid_from", 0) <= now_ms < at("valid_until", float("inf"))


@dataclass(frozen=True)
class SubmittedEvent:
    """Where an event was appended, and what became of it: neither answer if none came in time."""

    attempt: Attempt
    outcome: WalletOutcome | None = None
    letter: DeadLetter | None = None
    """The dead letter of a record that was rejected: the ledger never sees it."""
    logged: Position | None = None
    """Its place in the log, where it was waited for."""


def ignore_warning(_: str) -> None:
    """Do nothing with a warning."""


async def submit(
    runtime: Runtime,
    worker: WorkerSettings,
    event: Mapping[str, Any],
    brand: str,
    wait_s: float,
    warn: Callable[[str], None] = ignore_warning,
    log_partition: int | None = None,
) -> SubmittedEvent:
    """Append an event and wait up to `wait_s` s for its outcome or dead letter.

    Its key is its player, or its id if it names none. With `log_partition` its record in that
    partition of the log is waited for, too. `warn` is called before the append if it will probably
    be rejected. Raises Unavailable without a broker, UsageError without topics or a usable key,
    and for an event that the normaliser would reject.
    """
    now_ms = time.time_ns() // 1_000_000
    signing_key = active_signing_key(read_keyring(worker), now_ms)
    body, headers = build_record(event, signing_key, brand, now_ms)
    check_event(body)
    topic = runtime.topic(raw_topic(PROVIDER))
    key = str(event["player_id"] if "player_id" in event else event["id"]).encode()
    producer = BatchProducer(ProducerSettings(runtime.broker, "pitboss.house"))
    consumer = AIOKafkaConsumer(
        **runtime.broker.aiokafka_options(), isolation_level="read_committed"
    )
    await producer.start()
    try:
        await start_client(consumer, runtime.broker)
        if signing_key is None and await _is_last_signed(
            consumer, topic, await producer.partition_count(topic)
        ):
            warn(UNSIGNED)
        await _follow_answers(consumer, producer, runtime, topic, key, log_partition)
        sent = await producer.send(topic, key, body, headers)
        attempt = Attempt(sent.topic, sent.partition, sent.offset, 0)
        return await _wait_for_answer(consumer, attempt, wait_s)
    except KafkaError as error:
        message = f"the broker at {runtime.broker} does not answer: {error!r}"
        raise Unavailable(message) from error
    finally:
        await stop_client(consumer)
        await producer.stop()


async def _is_last_signed(consumer: AIOKafkaConsumer, topic: str, count: int) -> bool:
    """Return whether the last record of any partition of a raw topic of the house is signed."""
    partitions = [TopicPartition(topic, number) for number in range(count)]
    consumer.assign(partitions)
    starts = await consumer.beginning_offsets(partitions)
    ends = await consumer.end_offsets(partitions)
    left = {tp for tp in partitions if ends[tp] > starts[tp]}
    for tp in partitions:
        consumer.seek(tp, ends[tp] - (tp in left))
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST_RECORDS_S):
            while left:
                for tp, records in (await consumer.getmany(*left, timeout_ms=200)).items():
                    if any(SIGNATURE_HEADER in dict(record.headers) for record in records):
                        return True
                    left.discard(tp)
    return False


async def _follow_answers(
    consumer: AIOKafkaConsumer,
    producer: BatchProducer,
    runtime: Runtime,
    topic: str,
    key: bytes,
    log_partition: int | None,
) -> None:
    """Read from now on where the outcome of a key's record, or its dead letter, will be."""
    outcomes, letters = runtime.topic(OUTCOMES), dead_letter_topic(topic)
    number = partition_for(key, await producer.partition_count(outcomes))
    partitions = [
        TopicPartition(outcomes, number),
        *(TopicPartition(letters, n) for n in range(await producer.partition_count(letters))),
    ]
    if log_partition is not None:
        partitions.append(TopicPartition(runtime.topic(TRANSACTIONS), log_partition))
    consumer.assign(partitions)
    await consumer.seek_to_end(*partitions)
    for partition in partitions:
        await consumer.position(partition)  # the seek is lazy: resolve it before sending


async def _wait_for_answer(
    consumer: AIOKafkaConsumer, attempt: Attempt, wait_s: float
) -> SubmittedEvent:
    read_outcome, read_letter = codec.decoder(WalletOutcome), codec.decoder(DeadLetter)
    read_event = codec.decoder(WalletTransaction)
    source = Position(attempt.topic, attempt.partition, attempt.offset)
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            async for record in consumer:
                if record.topic == dead_letter_topic(attempt.topic):
                    letter: DeadLetter = read_letter(record.value)
                    if letter.source == source:
                        return SubmittedEvent(attempt, letter=letter)
                    continue
                if record.topic.endswith(TRANSACTIONS):
                    with suppress(Rejected):
                        if read_event(record.value or b"").attempt == attempt:
                            place = Position(record.topic, record.partition, record.offset)
                            return SubmittedEvent(attempt, logged=place)
                    continue
                outcome: WalletOutcome = read_outcome(record.value)
                if outcome.attempt == attempt:
                    return SubmittedEvent(attempt, outcome)
    return SubmittedEvent(attempt)


async def append_events(
    broker: BrokerAddress, topic: str, events: Sequence[WalletTransaction]
) -> None:
    """Append the sweep's events to the log, each under its player's key. Raises Unavailable."""
    encode = codec.encoder(WalletTransaction)
    producer = BatchProducer(ProducerSettings(broker, "pitboss.cli"))
    await producer.start()
    try:
        await producer.send_keyed(
            topic, [((e.player_id or "").encode(), encode(e), (), None) for e in events]
        )
    finally:
        await producer.stop()
