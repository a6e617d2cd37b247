"""The log on a live broker, read by a client of its own.

It joins no group and commits nothing, so the broker and the workers know nothing of it but its
fetches; how many records it takes a second is bounded.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping
from operator import methodcaller
from types import TracebackType
from typing import Final, Self

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined] # of its stubs
    AdminClient,
    ConfigResource,
    ResourceType,
)

from replay.log.blocks import Bounds, LogBlock, LogGap
from replay.log.pace import BLOCK_RECORDS_MAX, NO_BOUND, ReplayPace
from runtime.connection_faults import find_broker_fault
from runtime.kafka.intake.client import new_consumer
from runtime.kafka.intake.client_errors import END_OF_LOG, OUT_OF_LOG
from runtime.kafka.records import decode_all_headers
from runtime.security import BrokerAddress
from schemas.errors import Unavailable, UsageError, suggest

CLIENT_ID: Final = "pitboss.replay"
"""Name for the broker's quotas and logs."""

_ANSWER_TIMEOUT_S: Final = 20.0
_IDLE_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.05
"""`consume` returns when it is full or this time is over: the wait behind a partition's last record
where offsets before its end have none."""
_PREFETCHED_KBYTES: Final = 32 * 1024
_PACED_PREFETCHED_KBYTES: Final = 2 * 1024
_FETCH_BYTES: Final = 4 * 1024 * 1024
_PACED_FETCH_BYTES: Final = 512 * 1024
"""Beside a quota the client and the broker work in small steps, too."""
_FETCH_WAIT_MS: Final = 10
"""How long the broker holds a request at the end of a partition: the next partition's first one
waits behind it."""

# Called by `map` over a whole batch: a loop with a line for each part costs twice as much.
_error: Final = methodcaller("error")
_offset: Final = methodcaller("offset")
_timestamp: Final = methodcaller("timestamp")
_key: Final = methodcaller("key")
_value: Final = methodcaller("value")


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

    def __init__(self, broker: BrokerAddress, pace: ReplayPace = NO_BOUND) -> None:
        self._servers = broker
        self._pace = pace
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
                "fetch.wait.max.ms": _FETCH_WAIT_MS,
                **_prefetch_options(pace.records_per_s),
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
        return self.all_bounds([topic])[topic]

    def all_bounds(self, topics: Collection[str]) -> Mapping[str, Mapping[int, Bounds]]:
        """Return what each partition of several topics holds, as `LogSource`; two requests.

        Raises UsageError for a topic that does not exist, Unavailable.
        """
        partitions = self._partitions_of(topics)
        places = [(topic, number) for topic in topics for number in partitions[topic]]
        begins, ends = (self._offsets_at(places, which) for which in (OFFSET_BEGINNING, OFFSET_END))
        found: dict[str, dict[int, Bounds]] = {topic: {} for topic in topics}
        for topic, partition in places:
            found[topic][partition] = begins[topic, partition], ends[topic, partition]
        return found

    def _offsets_at(
        self, places: Collection[tuple[str, int]], which: int
    ) -> Mapping[tuple[str, int], int]:
        """Return an offset of each partition: of a time, or of its beginning or end."""
        requested = [TopicPartition(topic, partition, which) for topic, partition in places]
        try:
            answers = self._consumer.offsets_for_times(requested, timeout=_ANSWER_TIMEOUT_S)
        except KafkaException as error:
            what = ", ".join(sorted({topic for topic, _ in places}))
            raise self._unavailable(f"the offsets of {what}", error) from error
        for answer in answers:
            if answer.error is not None:
                what = f"the offsets of {answer.topic}-{answer.partition}"
                raise self._unavailable(what, answer.error)
        return {(answer.topic, answer.partition): answer.offset for answer in answers}

    def first_at(self, topic: str, at_ms: int) -> Mapping[int, int]:
        """Return the first offsets at or after a time, as `LogSource`. Raises Unavailable."""
        ends = self.bounds(topic)
        found = self._offsets_at([(topic, partition) for partition in ends], at_ms)
        return {
            partition: offset if 0 <= (offset := found[topic, partition]) <= end else end
            for partition, (_, end) in ends.items()
        }

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
            wanted = min(self._pace.block_records, to_offset - position)
            messages = self._pending or self._consumer.consume(wanted, _POLL_S)
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
                self._pace.spend(len(block))
                yield block

    def _go_to(self, topic: str, partition: int, offset: int) -> None:
        """Let the client fetch from an offset on, unless it does so already."""
        if self._reading == (topic, partition, offset):
            return
        self._pending = []
        self._consumer.assign([TopicPartition(topic, partition, offset)])
        self._reading = (topic, partition, offset)

    def _to_block(
        self, topic: str, partition: int, messages: list[Message], position: int, to_offset: int
    ) -> tuple[LogBlock, int]:
        """Take the records before `to_offset`; the rest stays pending. Return the next position."""
        if any(map(_error, messages)):
            messages, position = self._without_notices(topic, partition, messages, position)
        offsets = list(map(_offset, messages))
        if offsets and offsets[-1] >= to_offset:
            count = bisect_left(offsets, to_offset)
            self._pending = messages[count:]
            messages, offsets, position = messages[:count], offsets[:count], to_offset
        elif offsets:
            position = max(position, offsets[-1] + 1)
        headers, unreadable = decode_all_headers(messages)
        block = LogBlock(
            topic,
            partition,
            offsets,
            [timestamp_ms for _, timestamp_ms in map(_timestamp, messages)],
            list(map(_key, messages)),
            list(map(_value, messages)),
            headers,
            [offsets[index] for index in unreadable],
        )
        return block, position

    def _without_notices(
        self, topic: str, partition: int, messages: list[Message], position: int
    ) -> tuple[list[Message], int]:
        """Return the messages that are records; a notice of the end moves the position."""
        records = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() == END_OF_LOG:
                position = max(position, message.offset() or 0)
            elif error.code() in OUT_OF_LOG:
                begin, _ = self.bounds(topic)[partition]
                raise LogGap(
                    f"{topic}-{partition}@{position}: the broker holds it from {begin} on; read "
                    "what is older from the archive, or begin later"
                )
            else:
                raise self._unavailable(f"{topic}-{partition}@{position}", error)
        return records, position

    def _partitions_of(self, topics: Collection[str]) -> Mapping[str, list[int]]:
        try:
            there = self._consumer.list_topics(timeout=_ANSWER_TIMEOUT_S).topics
        except KafkaException as error:
            raise self._unavailable("its topics", error) from error
        for topic in topics:
            if topic not in there:
                raise UsageError(f"the broker has no topic {topic!r}{suggest(topic, there)}")
        return {topic: sorted(there[topic].partitions) for topic in topics}

    def _unavailable(self, what: str, error: object) -> Unavailable:
        return Unavailable(f"the broker at {self._servers} does not return {what}: {error}")


def _prefetch_options(records_per_s: float) -> dict[str, int]:
    """Return how much the client fetches at a time and ahead; 0 records a second: no bound."""
    is_slow = 0 < records_per_s < BLOCK_RECORDS_MAX
    return {
        "max.partition.fetch.bytes": _PACED_FETCH_BYTES if records_per_s else _FETCH_BYTES,
        "queued.min.messages": 1 if is_slow else 100_000,
        "queued.max.messages.kbytes": (
            _PACED_PREFETCHED_KBYTES if records_per_s else _PREFETCHED_KBYTES
        ),
    }
