"""Records of an archive back into the partitions of a cluster, byte for byte, offset for offset."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined] # of its stubs
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from replay.archive.archived_log import ArchivedLog
from replay.log.blocks import Bounds, LogBlock, LogSource
from runtime.security import BrokerAddress
from schemas.errors import SendFailed, Unavailable, UsageError

_ANSWER_TIMEOUT_S: Final = 30.0
_FLUSH_RECORDS: Final = 20_000
_TIMES: Final = "message.timestamp.type"


class RestoredPartition(msgspec.Struct, frozen=True):
    """What was, or would be, played back of one partition."""

    topic: str
    partition: int
    from_offset: int
    to_offset: int
    records: int


class RestoreOptions(msgspec.Struct, frozen=True):
    """What is restored, and what is accepted."""

    topics: tuple[str, ...]
    """Without a namespace."""
    resume: bool = False
    """Whether a partition that holds records goes on behind them."""
    renumber: bool = False
    """Whether records may get other offsets, where the archive has none for some."""


def plan_restore(
    archive: ArchivedLog, target: LogSource, prefix: str, options: RestoreOptions
) -> list[RestoredPartition]:
    """Return what is to be played back into which partition.

    Raises UsageError where a target is not empty, has other partitions, or would number the records
    otherwise than the archive does.
    """
    planned = []
    for topic in options.topics:
        held, there = archive.bounds(topic), target.bounds(prefix + topic)
        for partition, (begin, end) in sorted(held.items()):
            if partition not in there:
                raise UsageError(
                    f"{prefix}{topic} has {len(there)} partitions, the archive has partition "
                    f"{partition}: create the topic with as many partitions as it had"
                )
            start = _start(f"{prefix}{topic}-{partition}", begin, there[partition], options)
            planned.append(RestoredPartition(topic, partition, start, end, max(0, end - start)))
    return planned


def _start(where: str, begin: int, there: Bounds, options: RestoreOptions) -> int:
    end = there[1]
    if end and not options.resume:
        raise UsageError(
            f"{where} holds records up to {end}: restore into an empty cluster or namespace, or go "
            "on with an interrupted restore with --resume"
        )
    if end and options.renumber:
        raise UsageError(f"{where}: --resume finds its place by offsets, so not with --renumber")
    if not options.renumber and end < begin:
        raise UsageError(
            f"{where}: the archive begins at offset {begin}, the partition would at {end}: the "
            "records would get other offsets; --renumber accepts that"
        )
    return max(begin, end)


def restore(
    broker: BrokerAddress,
    archive: ArchivedLog,
    prefix: str,
    planned: Collection[RestoredPartition],
    options: RestoreOptions,
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> list[RestoredPartition]:
    """Play planned partitions back and return what was appended to each.

    The records keep their times: topics whose broker sets them are switched to the producer's for
    that while. Raises SendFailed where a record does not get the offset that it had, and
    Unavailable. An interrupted restore is resumed with a plan of its own.
    """
    admin = AdminClient(broker.librdkafka_options())
    total, done = sum(one.records for one in planned), 0
    restored = []
    times = {name: _time_type(admin, name) for name in {prefix + one.topic for one in planned}}
    try:
        for name in times:
            _set_time_type(admin, name, "CreateTime")
        for one in planned:
            sender = PartitionSender(broker, prefix + one.topic, one.partition)
            blocks = archive.read(one.topic, one.partition, one.from_offset, one.to_offset)
            count = sender.send_all(blocks, is_exact=not options.renumber)
            done += one.records
            restored.append(msgspec.structs.replace(one, records=count))
            progress(done, total)
    finally:
        for name, kind in times.items():
            _set_time_type(admin, name, kind)
    return restored


class PartitionSender:
    """Appends records to one partition in their order, and checks the offsets that they get."""

    def __init__(self, broker: BrokerAddress, topic: str, partition: int) -> None:
        self._topic = topic
        self._partition = partition
        self._failure: str | None = None
        self._producer = Producer(
            {
                **broker.librdkafka_options(),
                "client.id": "pitboss.restore",
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "partitioner": "murmur2_random",
                "queue.buffering.max.messages": 4 * _FLUSH_RECORDS,
                "enable.metrics.push": False,
            }
        )

    def send_all(self, blocks: Iterator[LogBlock], *, is_exact: bool) -> int:
        """Append all records and return how many. Raises SendFailed."""
        count = 0
        for block in blocks:
            for index, offset in enumerate(block.offsets):
                headers: Any = list(block.headers.get(index, ()))
                self._producer.produce(
                    self._topic,
                    value=block.values[index],
                    key=block.keys[index],
                    partition=self._partition,
                    timestamp=block.timestamps_ms[index],
                    headers=headers,
                    on_delivery=self._checker(offset if is_exact else None),
                )
                count += 1
                if count % _FLUSH_RECORDS == 0:
                    self._flush()
        self._flush()
        return count

    def _checker(self, offset: int | None) -> Callable[[Any, Any], None]:
        def check(error: Any, message: Any) -> None:
            if error is not None:
                self._fail(f"record {offset}: {error}")
            elif offset is not None and message.offset() != offset:
                self._fail(f"record {offset} got the offset {message.offset()}")

        return check

    def _fail(self, what: str) -> None:
        self._failure = self._failure or what

    def _flush(self) -> None:
        left = self._producer.flush(_ANSWER_TIMEOUT_S)
        where = f"{self._topic}-{self._partition}"
        if left:
            self._fail(f"{left} records were not acknowledged in {_ANSWER_TIMEOUT_S:.0f} s")
        if self._failure is not None:
            raise SendFailed(
                f"{where}: {self._failure}. Something else writes to the topic, or the archive has "
                "no record for an offset; --renumber accepts other offsets"
            )


def _time_type(admin: AdminClient, topic: str) -> str:
    resource = ConfigResource(ResourceType.TOPIC, topic)
    try:
        settings = admin.describe_configs([resource])[resource].result(_ANSWER_TIMEOUT_S)
    except KafkaException as error:
        raise Unavailable(f"the broker does not return the settings of {topic}: {error}") from error
    return str(settings[_TIMES].value)


def _set_time_type(admin: AdminClient, topic: str, kind: str) -> None:
    entry = ConfigEntry(_TIMES, kind, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    answers: Mapping[Any, Any] = admin.incremental_alter_configs([resource])
    try:
        answers[resource].result(_ANSWER_TIMEOUT_S)
    except KafkaException as error:
        raise Unavailable(
            f"the broker does not take {_TIMES}={kind} of {topic}: {error}"
        ) from error
