"""The log on a live broker, read by a client of its own.

It joins no group and commits nothing, so the broker and the workers know nothing of it but its
fetches; how many records it takes a second is bounded.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Final, Self

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # of its stubs
    AdminClient,
    ConfigResource,
    ResourceType,
)

from replay.log.blocks import Bounds, LogBlock, LogGap
from runtime.connection_faults import find_broker_fault
from runtime.kafka.intake.client import new_consumer
from runtime.kafka.intake.client_errors import END_OF_LOG
from runtime.kafka.records import decode_headers
from runtime.security import BrokerAddress
from schemas.errors import Unavailable, UsageError, suggest

CLIENT_ID: Final = "pitboss.replay"
"""Name for the broker's quotas and logs."""

BLOCK_RECORDS: Final = 8_192
_ANSWER_TIMEOUT_S: Final = 20.0
_IDLE_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.5
_PREFETCHED_KBYTES: Final = 32 * 1024
_SLOW_PREFETCHED_KBYTES: Final = 2 * 1024
_FETCH_BYTES: Final = 4 * 1024 * 1024


class RecordQuota:
    """Bounds records a second: a reader that is ahead sleeps."""

    def __init__(
        self,
        records_per_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Allow so many records a second; 0 sets no bound."""
        self.records_per_s = records_per_s
        self._clock = clock
        self._sleep = sleep
        self._free_at_s = 0.0

    def spend(self, records: int) -> None:
        """Count records that were read, and wait until the next ones may be."""
        if self.records_per_s:
            now_s = self._clock()
            # What was not used is not saved up: a stretch without records allows no burst.
            self._free_at_s = max(self._free_at_s, now_s) + records / self.records_per_s
            self._sleep(max(0.0, self._free_at_s - now_s))


def list_topics(broker: BrokerAddress, prefix: str) -> list[str]:
    """Return the names of a namespace's topics, without its prefix.

    Without a namespace, names that begin like one and a topic of ours are another's. Raises
    Unavailable.
    """
    admin = AdminClient({**broker.librdkafka_options(), "client.id": CLIENT_ID})
    try:
        names = admin.list_topics(timeout=_ANSWER_TIMEOUT_S).topics
    except KafkaException as error:
        message = f"the broker at {broker} does not list its topics: {error}"
        raise find_broker_fault(broker) or Unavailable(message) from error
    mine = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    return sorted(name for name in mine if _OURS.fullmatch(name))


_OURS: Final = re.compile(
    r"(wallet|player|sports|game|risk|schema|audit|provider|pitboss)\.[a-z0-9_.]+\.v\d+(\.dlt)?",
    re.ASCII,
)
"""First words of the catalogue's topics, and of raw topics."""


class BrokerLog:
    """A `LogSource` over one broker; a context that closes its client."""

    def __init__(self, broker: BrokerAddress, quota: RecordQuota | None = None) -> None:
        self._servers = broker
        self._quota = quota or RecordQuota(0)
        is_slow = 0 < self._quota.records_per_s < BLOCK_RECORDS
        self._consumer: Consumer = new_consumer(
            {
                **broker.librdkafka_options(),
                "client.id": CLIENT_ID,
                "group.id": CLIENT_ID,  # required by the client; it is never joined
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "check.crcs": True,
                "fetch.wait.max.ms": 100,
                "max.partition.fetch.bytes": _FETCH_BYTES,
                "queued.min.messages": 1 if is_slow else 100_000,
                "queued.max.messages.kbytes": (
                    _SLOW_PREFETCHED_KBYTES if is_slow else _PREFETCHED_KBYTES
                ),
                "fetch.queue.backoff.ms": 10,
                "enable.metrics.push": False,
            }
        )
        self._reading: tuple[str, int, int] | None = None
        """Topic, partition and next offset of the assignment that the client prefetches for."""
        self._pending: list[Message] = []
        """Fetched and not handed over, from that next offset on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the client."""
        self._consumer.close()

    def bounds(self, topic: str) -> Mapping[int, Bounds]:
        """Return what each partition holds, as `LogSource`. Raises UsageError, Unavailable."""
        found = {}
        for partition in self._partitions(topic):
            place = TopicPartition(topic, partition)
            try:
                begin, end = self._consumer.get_watermark_offsets(
                    place, timeout=_ANSWER_TIMEOUT_S, cached=False
                )
            except KafkaException as error:
                raise self._unavailable(f"where {topic}-{partition} ends", error) from error
            found[partition] = (begin, end)
        return found

    def first_at(self, topic: str, at_ms: int) -> Mapping[int, int]:
        """Return the first offsets at or after a time, as `LogSource`. Raises Unavailable."""
        ends = self.bounds(topic)
        places = [TopicPartition(topic, partition, at_ms) for partition in ends]
        try:
            answers = self._consumer.offsets_for_times(places, timeout=_ANSWER_TIMEOUT_S)
        except KafkaException as error:
            raise self._unavailable(f"where {at_ms} is in {topic}", error) from error
        found = {}
        for answer in answers:
            if answer.error is not None:
                raise self._unavailable(f"where {at_ms} is in {topic}", answer.error)
            end = ends[answer.partition][1]
            found[answer.partition] = answer.offset if 0 <= answer.offset <= end else end
        return found

    def has_append_time(self, topic: str) -> bool:
        """Return whether the broker sets the times, as `LogSource`. Raises Unavailable."""
        admin = AdminClient({**self._servers.librdkafka_options(), "client.id": CLIENT_ID})
        resource = ConfigResource(ResourceType.TOPIC, topic)
        try:
            answers = admin.describe_configs([resource], request_timeout=_ANSWER_TIMEOUT_S)
            settings = answers[resource].result(_ANSWER_TIMEOUT_S)
        except KafkaException as error:
            raise self._unavailable(f"the settings of {topic}", error) from error
        return bool(settings["message.timestamp.type"].value == "LogAppendTime")

    def read(
        self, topic: str, partition: int, from_offset: int, to_offset: int
    ) -> Iterator[LogBlock]:
        """Yield records in blocks, as `LogSource`. Raises LogGap, Unavailable."""
        self._go_to(topic, partition, from_offset)
        silent_since_s = time.monotonic()
        position = from_offset
        while position < to_offset:
            messages = self._pending or self._consumer.consume(BLOCK_RECORDS, _POLL_S)
            self._pending = []
            block, position = self._to_block(topic, partition, messages, position, to_offset)
            self._reading = (topic, partition, position)
            if messages:
                silent_since_s = time.monotonic()
            elif time.monotonic() - silent_since_s > _IDLE_TIMEOUT_S:
                where = f"{topic}-{partition}@{position}"
                raise Unavailable(
                    f"the broker at {self._servers} delivers nothing of {where} for"
                    f" {_IDLE_TIMEOUT_S:.0f} s"
                )
            if block:
                self._quota.spend(len(block))
                yield block

    def _go_to(self, topic: str, partition: int, offset: int) -> None:
        """Let the client fetch from an offset on, unless it does so already."""
        if self._reading == (topic, partition, offset):
            return
        begin = self.bounds(topic)[partition][0]
        if offset < begin:
            raise LogGap(
                f"{topic}-{partition}@{offset}: the broker holds it from {begin} on; read what is "
                "older from the archive, or begin later"
            )
        self._pending = []
        self._consumer.assign([TopicPartition(topic, partition, offset)])
        self._reading = (topic, partition, offset)

    def _to_block(
        self, topic: str, partition: int, messages: list[Message], position: int, to_offset: int
    ) -> tuple[LogBlock, int]:
        """Take the records before `to_offset`; the rest stays pending. Return the next position."""
        block = LogBlock(topic, partition)
        add_offset, add_time = block.offsets.append, block.timestamps_ms.append
        add_key, add_value, headers = block.keys.append, block.values.append, block.headers
        for index, message in enumerate(messages):
            error = message.error()
            offset = message.offset() or 0
            if error is not None:
                if error.code() != END_OF_LOG:
                    raise self._unavailable(f"{topic}-{partition}@{position}", error)
                position = max(position, offset)
                continue
            if offset >= to_offset:
                self._pending = messages[index:]
                return block, max(position, to_offset)
            found = decode_headers(message)
            if found is None:
                block.unreadable_headers.append(offset)
            elif found:
                headers[len(block.offsets)] = found
            add_offset(offset)
            add_time(message.timestamp()[1])
            add_key(message.key())
            add_value(message.value())
            position = offset + 1
        return block, position

    def _partitions(self, topic: str) -> list[int]:
        try:
            topics = self._consumer.list_topics(timeout=_ANSWER_TIMEOUT_S).topics
        except KafkaException as error:
            raise self._unavailable("its topics", error) from error
        if topic not in topics:
            raise UsageError(f"the broker has no topic {topic!r}{suggest(topic, topics)}")
        return sorted(topics[topic].partitions)

    def _unavailable(self, what: str, error: object) -> Unavailable:
        return Unavailable(f"the broker at {self._servers} does not return {what}: {error}")
