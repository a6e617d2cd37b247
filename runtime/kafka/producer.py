"""The producer of a worker: idempotent, whole batches to a partition, and final in its failures.

Records are packed per partition and awaited together; a batch costs what its bytes cost, not what
its records cost. A send that fails permanently ends the process: otherwise a later batch could
succeed although an earlier one is missing.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    UnknownTopicOrPartitionError,
)
from aiokafka.structs import RecordMetadata
from mode import Service

from runtime.kafka.clients import start_client, stop_client
from runtime.kafka.partitioner import partition_for
from runtime.security import BrokerAddress
from runtime.telemetry.samples import MetricSample, count_samples
from schemas.errors import RejectCode, Rejected, SendFailed, Unavailable
from schemas.topics import provider_of

Headers: TypeAlias = Sequence[tuple[str, bytes | None]]
OutRecord: TypeAlias = tuple[bytes | None, bytes | None, Headers, int | None]
"""Key, value (None deletes), headers, timestamp in epoch ms (None: now)."""

STOP_TIMEOUT_S: Final = 10.0
SENT: Final = "messaging.client.sent.messages"

_NO_HEADERS: Final[list[tuple[str, bytes]]] = []


class TooLarge(Rejected):
    """A record is too large for any batch; nothing of its call has been sent."""

    def __init__(self, detail: str, index: int) -> None:
        """Name the record by its index in the call."""
        super().__init__(RejectCode.TOO_LARGE, detail)
        self.index = index


@dataclass(frozen=True)
class ProducerSettings:
    """Settings of the producer."""

    broker: BrokerAddress
    client_id: str
    compression: str | None = None
    """gzip, snappy, lz4 or zstd; None costs the least CPU on both sides."""
    linger_ms: int = 0
    """Only for single sends: batches are never held back."""
    request_timeout_ms: int = 30_000
    batch_bytes_max: int = 1_000_000
    """At most `max.message.bytes` of any topic written to; Kafka's default is 1,048,588."""


def describe_missing(topic: str) -> str:
    """Return the sentence about a topic that does not exist, with what makes it."""
    try:
        provider = provider_of(topic)
    except ValueError:
        return f"the topic {topic} does not exist: run `pitboss topics create`"
    return (
        f"the topic {topic} does not exist: this installation reads {provider!r} if "
        "PITBOSS_PROVIDERS names it; set it and run `pitboss provision`"
    )


class BatchProducer(Service):
    """Service that appends batches of records to partitions, in order."""

    if TYPE_CHECKING:  # mode says only that it is a service

        async def __aenter__(self) -> Self: ...

    def __init__(self, settings: ProducerSettings, **kwargs: Any) -> None:
        """Prepare without connecting."""
        super().__init__(**kwargs)
        self.settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._failure: SendFailed | None = None
        self._counts: dict[str, int] = {}
        self._sent: Counter[str] = Counter()
        self._order: defaultdict[tuple[str, int], asyncio.Lock] = defaultdict(asyncio.Lock)

    def samples(self) -> Iterator[MetricSample]:
        """Yield how many records the broker has acknowledged, by topic."""
        return count_samples(SENT, self._sent)

    async def on_start(self) -> None:
        """Connect. Raises Unavailable if no broker answers."""
        settings = self.settings
        producer = AIOKafkaProducer(
            **settings.broker.aiokafka_options(),
            client_id=settings.client_id,
            enable_idempotence=True,
            acks="all",
            compression_type=settings.compression,
            linger_ms=settings.linger_ms,
            request_timeout_ms=settings.request_timeout_ms,
            max_batch_size=settings.batch_bytes_max,
            max_request_size=settings.batch_bytes_max,
        )
        await start_client(producer, settings.broker)
        self._producer = producer

    async def on_stop(self) -> None:
        """Wait for the sends that are under way, and close."""
        if self._producer is not None:
            try:
                await asyncio.wait_for(stop_client(self._producer), STOP_TIMEOUT_S)
            except TimeoutError:
                self.log.warning("closed the producer while some records were unacknowledged")

    async def partition_count(self, topic: str) -> int:
        """Return how many partitions a topic has, which never changes.

        Raises Unavailable while the topic does not exist. It may be created meanwhile, so the
        caller waits; work on other topics continues.
        """
        count = self._counts.get(topic)
        if count is None:
            try:
                count = self._counts[topic] = len(await self._client.partitions_for(topic))
            except UnknownTopicOrPartitionError as error:
                raise Unavailable(describe_missing(topic)) from error
        return count

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Append one record and return its acknowledgement; without a partition, to its key's.

        Raises TooLarge, SendFailed as `send_batch` does, and Unavailable while the topic does not
        exist.
        """
        if partition is None:
            partition = partition_for(key or b"", await self.partition_count(topic))
        self._check()
        while True:
            try:
                pending = await self._client.send(
                    topic,
                    value,
                    key,
                    partition=partition,
                    timestamp_ms=timestamp_ms,
                    headers=list(headers),
                )
                break
            except MessageSizeTooLargeError as error:
                raise TooLarge(f"{error} ({topic}-{partition})", 0) from error
            except KafkaTimeoutError:
                self._log_wait(topic, partition)
            except KafkaError as error:
                raise await self._fail(topic, partition, error) from error
        [acknowledged] = await self._await_acks(topic, [(partition, pending)])
        self._sent[topic] += 1
        return acknowledged

    async def send_batch(self, topic: str, partition: int, records: Sequence[OutRecord]) -> None:
        """Append records to a partition in their order, and wait until all are acknowledged.

        Calls for one partition take effect in the order they were made. Raises TooLarge before
        anything is sent, and SendFailed when the append failed permanently: the service has crashed
        then, and every later send fails alike.
        """
        packed = self._pack(topic, partition, records)
        await self._append(topic, {partition: packed})
        self._sent[topic] += len(records)

    async def send_keyed(self, topic: str, records: Sequence[OutRecord]) -> None:
        """Append each record to its key's partition, all at once; raises what `send` raises."""
        count = await self.partition_count(topic)
        groups: dict[int, list[OutRecord]] = {}
        for record in records:
            partition = partition_for(record[0] or b"", count)
            if (group := groups.get(partition)) is None:
                groups[partition] = [record]
            else:
                group.append(record)
        packed = {}
        for partition, group in groups.items():
            try:
                packed[partition] = self._pack(topic, partition, group)
            except TooLarge as error:
                culprit = group[error.index]
                index = next(i for i, record in enumerate(records) if record is culprit)
                raise TooLarge(error.detail, index) from error
        await self._append(topic, packed)
        self._sent[topic] += len(records)

    def _pack(self, topic: str, partition: int, records: Sequence[OutRecord]) -> list[Any]:
        create_batch = self._client.create_batch
        batch = create_batch()
        packed, firsts, append = [batch], [0], batch.append
        for index, (key, value, pairs, timestamp) in enumerate(records):
            # aiokafka's builder in C takes nothing but a list.
            headers = list(pairs) if pairs else _NO_HEADERS
            if append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
                batch = create_batch()
                append = batch.append
                append(timestamp=timestamp, key=key, value=value, headers=headers)
                packed.append(batch)
                firsts.append(index)
        for batch, first in zip(packed, firsts, strict=True):
            # The first record of a batch is taken whatever its size, and then stays alone.
            size = batch.size()
            if size > self.settings.batch_bytes_max:
                message = f"a record of {size:,} bytes is too large for {topic}-{partition}"
                raise TooLarge(message, first)
        return packed

    async def _append(self, topic: str, packed: Mapping[int, Sequence[Any]]) -> None:
        """Submit all batches, a partition's in their order, then wait for all of them.

        Nothing waits between two batches while the producer has room: one request takes all.
        """
        pending: list[tuple[int, Awaitable[RecordMetadata]]] = []
        for partition, batches in packed.items():
            async with self._order[topic, partition]:
                pending += [
                    (partition, await self._submit(topic, partition, batch)) for batch in batches
                ]
        await self._await_acks(topic, pending)

    async def _submit(self, topic: str, partition: int, batch: Any) -> Awaitable[RecordMetadata]:
        self._check()
        while True:
            try:
                pending: Awaitable[RecordMetadata] = await self._client.send_batch(
                    batch, topic, partition=partition
                )
            except KafkaTimeoutError:
                self._log_wait(topic, partition)
            except KafkaError as error:
                raise await self._fail(topic, partition, error) from error
            else:
                return pending

    def _log_wait(self, topic: str, partition: int) -> None:
        # The batch was not taken, since the ones before it still wait for the broker: trying again
        # sends nothing twice.
        self.log.warning("%s-%d waits for the broker", topic, partition)

    async def _await_acks(
        self, topic: str, pending: Sequence[tuple[int, Awaitable[RecordMetadata]]]
    ) -> list[RecordMetadata]:
        sends = [send for _, send in pending]
        results = await asyncio.gather(*sends, return_exceptions=True)
        acknowledged = []
        for (partition, _), result in zip(pending, results, strict=True):
            if isinstance(result, BaseException):
                raise await self._fail(topic, partition, result) from result
            acknowledged.append(result)
        return acknowledged

    async def _fail(self, topic: str, partition: int, error: BaseException) -> SendFailed:
        if self._failure is None:
            self._failure = SendFailed(
                f"{topic}-{partition}: records could not be appended: {error!r}; this process ends,"
                " its successor continues from the last committed position"
            )
            await self.crash(self._failure)
        return self._failure

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    @property
    def _client(self) -> AIOKafkaProducer:
        assert self._producer is not None, "the producer has not been started"
        return self._producer
