"""Lag of the consumer groups: how many offsets, and how old the oldest unread record is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from pitboss.ops.topic_admin import admin_client, is_of_namespace
from runtime.kafka.broker_queries import fetch_held_partitions, list_partitions
from runtime.kafka.clients import stop_client
from runtime.security import BrokerAddress
from schemas.errors import Unavailable, UsageError

_READ_TIMEOUT_S: Final = 20.0
_FETCH_BYTES: Final = 64 * 1024
"""Of a partition in one fetch: one record is needed, and a larger one is sent all the same."""


@dataclass(frozen=True)
class PartitionLag:
    """Lag of a consumer group on one partition."""

    group: str
    topic: str
    partition: int
    committed: int | None
    """None where the group never committed."""
    start: int
    """The first offset that the broker still has."""
    end: int
    oldest_ms: int | None = None
    """The broker's time of the first unread record, epoch ms; None if nothing is unread."""
    is_held: bool = True
    """Whether a member of the group reads the partition."""

    @property
    def next_offset(self) -> int:
        """Where the group reads on: its commit, or the first record that is still there."""
        return max(self.start, self.committed or 0)

    @property
    def records(self) -> int:
        """Offsets from there to the end, those of transactions' markers included."""
        return max(0, self.end - self.next_offset)

    def age_ms(self, now_ms: int) -> int | None:
        """Return how long the oldest unread record has waited; None if there is none."""
        return None if self.oldest_ms is None else max(0, now_ms - self.oldest_ms)


@dataclass(frozen=True)
class LagSum:
    """Lag over several partitions: of a group on a topic, or of everything."""

    group: str | None
    topic: str | None
    partitions: int
    lag: int
    most: int
    """The largest lag of one partition."""
    age_s: float | None
    """Seconds since the oldest unread record was appended; None if nothing is unread."""
    unheld: int = 0
    """Partitions that no member of the group reads."""


def sum_lags(lags: Sequence[PartitionLag], now_ms: int) -> tuple[LagSum, list[LagSum]]:
    """Return the total, and the sums by group and topic in their order. Ages are as of `now_ms`."""
    ordered = sorted(lags, key=lambda one: (one.group, one.topic, one.partition))
    by_topic = [
        _sum(group, topic, list(some), now_ms)
        for (group, topic), some in groupby(ordered, key=lambda one: (one.group, one.topic))
    ]
    return _sum(None, None, ordered, now_ms), by_topic


def _sum(group: str | None, topic: str | None, lags: Sequence[PartitionLag], now_ms: int) -> LagSum:
    records = [one.records for one in lags]
    ages_ms = [age_ms for one in lags if (age_ms := one.age_ms(now_ms)) is not None]
    age_s = max(ages_ms) / 1000 if ages_ms else None
    unheld = sum(not one.is_held for one in lags)
    return LagSum(group, topic, len(records), sum(records), max(records, default=0), age_s, unheld)


async def measure_lag(
    broker: BrokerAddress,
    namespace: str,
    groups: Collection[str] = (),
    topics: Collection[str] = (),
    sources: Mapping[str, str] | None = None,
) -> list[PartitionLag]:
    """Return the lag of consumer groups on the partitions of a namespace.

    `sources` are the groups of this installation with a pattern of the topics that each reads; no
    other topic of such a group counts. On a partition that a group never committed, everything is
    unread; without records it is left out, unless the group has members and none of them holds it.
    Of further groups that the broker knows, committed partitions are measured. `groups` and
    `topics` narrow to some, as on the broker. A partition with a lag is read for its first unread
    record. What the ledger commits here follows its true position, which is in PostgreSQL, within a
    second. Raises Unavailable, UsageError for a topic that does not exist.
    """
    patterns = dict(sources or {})
    async with admin_client(broker) as admin:
        existing = set(await admin.list_topics())
        if missing := sorted(set(topics) - existing):
            raise UsageError(
                f"the broker has no topic {missing[0]}: `pitboss topics check` shows what it lacks"
            )
        there = {group[0] for group in await admin.list_consumer_groups()}
        names = sorted(groups or there | patterns.keys())
        chosen = {name for name in existing if not topics or name in topics}
        offsets = {
            name: await _offsets_of(admin, name, patterns.get(name), chosen, namespace)
            for name in names
        }
        held = {name: await fetch_held_partitions(admin, name) for name in names if offsets[name]}
    present = sorted({tp for committed in offsets.values() for tp in committed})
    if not present:
        return []
    lags = await _measure(broker, offsets, present)
    return [
        replace(one, is_held=_tp(one) in (held[one.group] or ()))
        for one in lags
        if one.committed is not None or one.records or _is_left_out(_tp(one), held[one.group])
    ]


def _is_left_out(tp: TopicPartition, held: Collection[TopicPartition] | None) -> bool:
    """Return whether members of a group hold partitions (None: it has none), and not this one."""
    return held is not None and tp not in held


async def _offsets_of(
    admin: AIOKafkaAdminClient,
    group: str,
    pattern: str | None,
    topics: Collection[str],
    namespace: str,
) -> dict[TopicPartition, int | None]:
    """Return the committed offset of each partition that the group reads, None for no commit.

    A group remembers for a week what it committed of topics that were deleted, or that it reads no
    more: they are left out.
    """
    offsets: dict[TopicPartition, int | None] = {}
    read = {name for name in topics if pattern is None or re.match(pattern, name)}
    if pattern is not None:
        offsets |= dict.fromkeys(await list_partitions(admin, read))
    for tp, meta in (await admin.list_consumer_group_offsets(group)).items():
        if tp.topic in read and is_of_namespace(tp.topic, namespace):
            offsets[tp] = meta.offset if meta.offset >= 0 else None
    return offsets


def _tp(one: PartitionLag) -> TopicPartition:
    return TopicPartition(one.topic, one.partition)


async def _measure(
    broker: BrokerAddress,
    committed: Mapping[str, Mapping[TopicPartition, int | None]],
    present: Sequence[TopicPartition],
) -> list[PartitionLag]:
    consumer = AIOKafkaConsumer(
        **broker.aiokafka_options(),
        enable_auto_commit=False,
        # What retention has deleted meanwhile is passed over, as a worker would.
        auto_offset_reset="earliest",
        # Only the time of a record is needed, not its bytes.
        check_crcs=False,
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        await consumer.start()
        # Asked for offsets alone, aiokafka learns of one topic more every 100 ms; assigned, of all
        # at once.
        consumer.assign(present)
        starts = await consumer.beginning_offsets(present)
        ends = await consumer.end_offsets(present)
        lags = [
            PartitionLag(group, tp.topic, tp.partition, offset, starts[tp], ends[tp])
            for group, offsets in committed.items()
            for tp, offset in sorted(offsets.items())
            if tp in ends
        ]
        times = await _oldest_times(consumer, lags)
    except (KafkaError, TimeoutError) as error:
        raise Unavailable(f"the broker at {broker} does not answer: {error!r}") from error
    finally:
        await stop_client(consumer)
    return [replace(one, oldest_ms=times.get(_first_unread(one))) for one in lags]


_Wanted = tuple[TopicPartition, int]


def _first_unread(one: PartitionLag) -> _Wanted:
    return _tp(one), one.next_offset


async def _oldest_times(
    consumer: AIOKafkaConsumer, lags: Iterable[PartitionLag]
) -> dict[_Wanted, int]:
    """Return the broker's time of the first record at or after each position that has a lag.

    Several groups may read one partition from different positions: each round reads one position of
    each partition.
    """
    wanted: dict[TopicPartition, set[int]] = {}
    ends: dict[TopicPartition, int] = {}
    for one in lags:
        tp, offset = _first_unread(one)
        ends[tp] = one.end
        if one.records:
            wanted.setdefault(tp, set()).add(offset)
    times: dict[_Wanted, int] = {}
    while wanted:
        positions = {tp: offsets.pop() for tp, offsets in wanted.items()}
        wanted = {tp: offsets for tp, offsets in wanted.items() if offsets}
        async with asyncio.timeout(_READ_TIMEOUT_S):
            found = await _first_times(consumer, positions, ends)
        times |= {(tp, positions[tp]): at_ms for tp, at_ms in found.items()}
    return times


async def _first_times(
    consumer: AIOKafkaConsumer,
    positions: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    found: dict[TopicPartition, int] = {}
    left = set(positions)
    # Partitions that are assigned anew have no fetched records of an earlier position.
    consumer.assign(sorted(left))
    for tp in left:
        consumer.seek(tp, positions[tp])
    while left:
        fetched = await consumer.getmany(*left, timeout_ms=100)
        found |= {tp: records[0].timestamp for tp, records in fetched.items() if records}
        # Offsets may hold no record: a transaction's marker, or what compaction has removed.
        empty = {tp for tp in left - set(found) if await consumer.position(tp) >= ends[tp]}
        for tp in left & (set(found) | empty):
            consumer.pause(tp)
            left.discard(tp)
    return found
