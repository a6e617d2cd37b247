"""The appender of raw records: what arrives together goes into one batch of its partition.

A batch of a partition is sent when the one before it is acknowledged; what is appended meanwhile
forms the next. So a quiet gateway adds nothing to the broker's own time, and a busy one sends few
large batches.

A record that the broker refuses must not end its partition for every later one, as it does with an
idempotent aiokafka producer (findings/aiokafka-refused-batch-ends-the-partition.sh). So another
producer takes over after a failed batch, and the records of a batch that was refused are sent one
by one: only the refused one fails.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnknownTopicOrPartitionError,
)
from mode import Service

from runtime.kafka.clients import start_client, stop_client
from runtime.kafka.partitioner import partition_for
from runtime.kafka.producer import SENT, describe_missing
from runtime.kafka.records import Headers
from runtime.security import BrokerAddress
from runtime.telemetry.samples import MetricSample, count_samples
from schemas.errors import Fatal, PitbossError, RejectCode, Rejected, Unavailable

_LOG = logging.getLogger(__name__)

BATCH_BYTES_MAX: Final = 1_040_000
"""Below Kafka's default limit of 1,048,588 with what frames a batch."""
BATCH_RECORDS_MAX: Final = 500
REQUEST_TIMEOUT_MS: Final = 10_000

_REFUSED: Final = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidTimestampError)
"""Errors after which nothing of the batch is in the log, because of one of its records."""


class AppendRefused(Rejected):
    """The broker does not take this record: it is not in the log."""


class AppendUncertain(Unavailable):
    """The record may be in the log or not, and its place is not known."""


class Place(NamedTuple):
    """Where a record was appended; `timestamp` is the broker's, epoch ms, or -1."""

    partition: int
    offset: int
    timestamp: int


class AppendWithdrawn(Unavailable):
    """The record was taken back before anything of it was sent: it is not in the log."""


class PendingAppend:
    """A record that is being appended; `place` is a future of where it came to be."""

    __slots__ = ("headers", "is_sent", "key", "place", "value")

    def __init__(self, key: bytes, value: bytes | None, headers: Headers) -> None:
        """Keep the record; it is not sent yet."""
        self.key = key
        self.value = value
        # aiokafka's builder in C takes nothing but a list.
        self.headers = list(headers)
        self.is_sent = False
        self.place: asyncio.Future[Place] = asyncio.get_running_loop().create_future()

    def withdraw(self) -> bool:
        """Take the record back if nothing of it has been sent, and say whether that was so.

        Its future raises AppendWithdrawn then.
        """
        if self.is_sent:
            return False
        self.fail(AppendWithdrawn("the record waited for the broker until its time was over"))
        return True

    def settle(self, place: Place) -> None:
        """Note the place."""
        if not self.place.done():
            self.place.set_result(place)

    def fail(self, error: PitbossError) -> None:
        """Note why the record has not got a place."""
        if not self.place.done():
            self.place.set_exception(error)


class _Lane:
    """The records of one partition that are not acknowledged, in their order."""

    __slots__ = ("is_sending", "partition", "singles", "topic", "waiting")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.waiting: deque[PendingAppend] = deque()
        self.is_sending = False
        self.singles = 0
        """So many of the next records go alone: they were in a batch that was refused."""


class RawAppender(Service):
    """Service that appends records to the partitions of their keys."""

    if TYPE_CHECKING:  # mode says only that it is a service

        async def __aenter__(self) -> Self: ...

    def __init__(
        self, broker: BrokerAddress, client_id: str, topics: Collection[str], **kwargs: Any
    ) -> None:
        """Prepare to append to `topics`, without connecting."""
        super().__init__(**kwargs)
        self._broker = broker
        self._client_id = client_id
        self._topics = topics
        self._producer: AIOKafkaProducer | None = None
        self._lanes: dict[str, list[_Lane]] = {}
        self._ready: deque[_Lane] = deque()
        self._wake = asyncio.Event()
        self._replacing = asyncio.Lock()
        self._retired: set[asyncio.Task[None]] = set()
        self._sent: Counter[str] = Counter()
        self.replaced = 0
        """Producers that were given up after a failed batch."""

    def samples(self) -> Iterator[MetricSample]:
        """Yield how many records the broker has acknowledged, by topic."""
        return count_samples(SENT, self._sent)

    async def on_start(self) -> None:
        """Connect, and find the partitions. Raises Unavailable without broker or topic."""
        producer = await self._start_producer()
        for topic in sorted(self._topics):
            try:
                partitions = await producer.partitions_for(topic)
            except UnknownTopicOrPartitionError as error:
                await stop_client(producer)
                raise Unavailable(describe_missing(topic)) from error
            self._lanes[topic] = [_Lane(topic, number) for number in sorted(partitions)]
        self._producer = producer

    async def on_stop(self) -> None:
        """Wait for what is being sent, and close."""
        producers = [self._producer] if self._producer is not None else []
        try:
            async with asyncio.timeout(10):
                for producer in producers:
                    await stop_client(producer)
                await asyncio.gather(*self._retired)
        except TimeoutError:
            _LOG.warning("closed the producer while some records were unacknowledged")

    def append(
        self, topic: str, key: bytes, value: bytes | None, headers: Headers
    ) -> PendingAppend:
        """Append a record behind all earlier ones of its partition.

        Its future raises AppendRefused where the record is not in the log, AppendUncertain where
        that is not known. Without a broker it waits: an idempotent producer sends until it is
        answered.
        """
        lanes = self._lanes[topic]
        lane = lanes[partition_for(key, len(lanes))]
        entry = PendingAppend(key, value, headers)
        lane.waiting.append(entry)
        self._schedule(lane)
        return entry

    def _schedule(self, lane: _Lane) -> None:
        if lane.waiting and not lane.is_sending:
            lane.is_sending = True
            self._ready.append(lane)
            self._wake.set()

    @Service.task
    async def _send_loop(self) -> None:
        while not self.should_stop:
            await self._wake.wait()
            self._wake.clear()
            while self._ready:
                await self._send(self._ready.popleft())

    async def _send(self, lane: _Lane) -> None:
        producer = self._producer
        assert producer is not None, "the appender has not been started"
        batch, entries = _pack(producer.create_batch, lane)
        if not entries:
            lane.is_sending = False
            return
        try:
            acknowledged = await producer.send_batch(batch, lane.topic, partition=lane.partition)
        except KafkaTimeoutError:
            # Not taken, since the broker has not answered for long: nothing of it was sent.
            for entry in entries:
                entry.is_sent = False
            lane.waiting.extendleft(reversed(entries))
            lane.is_sending = False
            self._schedule(lane)
            return
        except KafkaError as error:
            await self._fail(lane, entries, producer, error)
            return
        acknowledged.add_done_callback(partial(self._finish, lane, entries, producer))

    def _finish(
        self,
        lane: _Lane,
        entries: list[PendingAppend],
        producer: AIOKafkaProducer,
        acknowledged: asyncio.Future[Any],
    ) -> None:
        error: BaseException | None = AppendUncertain("the producer was closed")
        if not acknowledged.cancelled():
            error = acknowledged.exception()
        if error is not None:
            self.add_future(self._fail(lane, entries, producer, error))
            return
        sent = acknowledged.result()
        self._sent[lane.topic] += len(entries)
        if sent.offset < 0:
            _settle_all(entries, AppendUncertain(_uncertain(lane, "its offset is not known")))
        else:
            for index, entry in enumerate(entries):
                entry.settle(Place(lane.partition, sent.offset + index, sent.timestamp))
        lane.is_sending = False
        self._schedule(lane)

    async def _fail(
        self,
        lane: _Lane,
        entries: list[PendingAppend],
        producer: AIOKafkaProducer,
        error: BaseException,
    ) -> None:
        if isinstance(error, _REFUSED):
            if len(entries) > 1:
                lane.waiting.extendleft(reversed(entries))
                lane.singles += len(entries)
            else:
                is_time = isinstance(error, InvalidTimestampError)
                code = RejectCode.BAD_TIME if is_time else RejectCode.TOO_LARGE
                _settle_all(entries, AppendRefused(code, _describe_refused(lane, error)))
        else:
            _settle_all(entries, AppendUncertain(_uncertain(lane, repr(error))))
        await self._replace(producer)
        lane.is_sending = False
        self._schedule(lane)

    async def _replace(self, failed: AIOKafkaProducer) -> None:
        """Make another producer, unless an earlier failure has done so."""
        async with self._replacing:
            if self._producer is not failed:
                return
            self.replaced += 1
            try:
                self._producer = await self._start_producer()
            except PitbossError as error:
                await self.crash(Fatal(f"no producer to append with: {error}"))
                return
        # What it still sends for other partitions is acknowledged before it is closed.
        closing = asyncio.ensure_future(stop_client(failed))
        self._retired.add(closing)
        closing.add_done_callback(self._retired.discard)

    async def _start_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._broker.aiokafka_options(),
            client_id=self._client_id,
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=4 * BATCH_BYTES_MAX,
        )
        await start_client(producer, self._broker)
        return producer


def _pack(create_batch: Callable[[], Any], lane: _Lane) -> tuple[Any, list[PendingAppend]]:
    """Move the next records of a partition into a batch: as many as fit, or one that goes alone."""
    batch, waiting = create_batch(), lane.waiting
    entries: list[PendingAppend] = []
    count_max = 1 if lane.singles else BATCH_RECORDS_MAX
    while waiting and len(entries) < count_max:
        entry = waiting[0]
        if entry.place.done():  # withdrawn
            waiting.popleft()
            continue
        appended = batch.append(
            timestamp=None, key=entry.key, value=entry.value, headers=entry.headers
        )
        if appended is None:
            break
        entry.is_sent = True
        entries.append(waiting.popleft())
    lane.singles = max(0, lane.singles - len(entries))
    return batch, entries


def _settle_all(entries: Iterable[PendingAppend], error: PitbossError) -> None:
    for entry in entries:
        entry.fail(error)


def _describe_refused(lane: _Lane, error: BaseException) -> str:
    return (
        f"{lane.topic}-{lane.partition}: the broker refuses this record: {error!r}; compare "
        "max.message.bytes of the topic with the catalogue (`pitboss topics check`)"
    )


def _uncertain(lane: _Lane, why: str) -> str:
    return f"{lane.topic}-{lane.partition}: whether a record was appended is not known: {why}"
