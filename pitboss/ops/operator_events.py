"""What people do at the command line goes the way of everything else: a signed raw record of the
house, into the log.

So a block or a correction is in the log with who did it and why, a replay does it again, and no
command writes to the ledger's tables.
"""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pitboss.settings import Runtime, WorkerSettings, read_keyring
from runtime.kafka.clients import start_client, stop_client
from runtime.kafka.partitioner import partition_for
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas import codec
from schemas.errors import Unavailable, UsageError
from schemas.events import Attempt, WalletOutcome
from schemas.topics import OUTCOMES, raw_topic
from streams.providers.house import SIGNATURE_HEADER

PROVIDER: Final = "house"
CONNECTOR: Final = b"pitboss-cli"


def build_record(
    said: Mapping[str, Any], key: Mapping[str, str] | None, brand: str, now_ms: int
) -> tuple[bytes, list[tuple[str, bytes | None]]]:
    """Body and headers of what the house says, signed if there is a key (`hmac_hex`).

    `id` and `at` are added where `said` has none. Raises UsageError for a key that cannot sign.
    """
    at = (
        datetime.fromtimestamp(now_ms / 1000, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
    body = orjson.dumps({"id": str(uuid.uuid4()), "at": at} | dict(said))
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


def active_signing_key(keyring: Mapping[str, Any], now_ms: int) -> Mapping[str, str] | None:
    """The house's key that is good now, of one entry or of several with windows; None if nothing is
    signed.
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

    return at("valid_from", 0) <= now_ms < at("valid_until", float("inf"))


async def submit(
    runtime: Runtime, worker: WorkerSettings, said: Mapping[str, Any], brand: str, wait_s: float
) -> tuple[Attempt, WalletOutcome | None]:
    """Append what the house says of a player, and wait for the ledger's answer; None if none comes
    in time.

    Raises Unavailable without a broker, UsageError without topics or a usable key.
    """
    now_ms = time.time_ns() // 1_000_000
    body, headers = build_record(
        said, active_signing_key(read_keyring(worker), now_ms), brand, now_ms
    )
    topic, key = runtime.topic(raw_topic(PROVIDER)), str(said["player_id"]).encode()
    producer = BatchProducer(
        ProducerSettings(runtime.bootstrap_servers, "pitboss.ops.operator_events")
    )
    consumer = AIOKafkaConsumer(
        bootstrap_servers=runtime.bootstrap_servers, isolation_level="read_committed"
    )
    await producer.start()
    try:
        await start_client(consumer, runtime.bootstrap_servers)
        outcomes = runtime.topic(OUTCOMES)
        partition = TopicPartition(
            outcomes, partition_for(key, await producer.partition_count(outcomes))
        )
        consumer.assign([partition])
        await consumer.seek_to_end(partition)
        await consumer.position(partition)  # the seek is lazy: from here on nothing is missed
        sent = await producer.send(topic, key, body, headers)
        attempt = Attempt(sent.topic, sent.partition, sent.offset, 0)
        return attempt, await _wait_for_outcome(consumer, attempt, wait_s)
    except KafkaError as error:
        message = f"the broker at {runtime.bootstrap_servers} does not answer: {error!r}"
        raise Unavailable(message) from error
    finally:
        await stop_client(consumer)
        await producer.stop()


async def _wait_for_outcome(
    consumer: AIOKafkaConsumer, attempt: Attempt, wait_s: float
) -> WalletOutcome | None:
    decode = codec.decoder(WalletOutcome)
    with suppress(TimeoutError):
        async with asyncio.timeout(wait_s):
            async for record in consumer:
                outcome: WalletOutcome = decode(record.value)
                if outcome.attempt == attempt:
                    return outcome
    return None
