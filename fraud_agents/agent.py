"""Fraud agent: batches of the log through the detectors, alerts out, snapshots to the database.

Why a killed worker loses no alert and raises no new one: a batch is complete only when its alerts
are acknowledged, and a partition always begins at its snapshot, never at the group's committed
offset, which only shows the lag. A successor that reads records again raises the same alerts under
the same ids, since the detectors depend on the records alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

import msgspec
from aiokafka.structs import TopicPartition

from fraud_agents.activations import Marker, Timeline
from fraud_agents.announcer import Announcer
from fraud_agents.enforcement import Enforcement
from fraud_agents.owned import OwnedShard, WatchDetectors, WatchedInput
from fraud_agents.rule_feed import ReleaseRules, RuleSource
from fraud_agents.rule_set import RuleSet
from fraud_agents.rules import Rule
from fraud_agents.snapshots import SnapshotClaim, SnapshotStore
from runtime.dead_letters.sink import KafkaDeadLetterSink
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.start_offsets import LOG_START
from runtime.kafka.producer import BatchProducer
from runtime.kafka.records import RawRecord
from runtime.telemetry.samples import MetricSample, count_samples
from schemas.errors import Fenced, Unavailable
from schemas.events import FraudAlert
from schemas.topics import TRANSACTIONS

SNAPSHOT_STAGGER: Final = 16
"""Partitions claimed together take their first snapshots at this many different points of the
interval."""

UNSAVED_FACTOR: Final = 10
"""Without a database, detection continues for this many times the records of a snapshot: after a
kill they are read again within seconds. Beyond that it waits.
"""

DATABASE_RETRY_S: Final = 5.0

logger = logging.getLogger(__name__)


MakeDetectors: TypeAlias = Callable[[Mapping[str, RuleSet], int], Awaitable[WatchDetectors]]
"""Makes the detectors of a partition number under the rules of each topic."""


ShardKey: TypeAlias = tuple[tuple[str, ...], int]
"""Topics that are watched together, and the number of their partitions."""


class WatchedTopics(NamedTuple):
    """Topics whose partitions of one number are watched together, and by which detectors."""

    topics: tuple[str, ...]
    make: MakeDetectors


@dataclass(frozen=True, slots=True)
class AgentTopics:
    """Topics of a fraud agent, with their namespace: those it watches by name, and its outputs."""

    watched: Mapping[str, str]
    """Name in the catalogue by name on the broker."""
    alerts: str
    house: str
    signals: str = ""


class FraudAgent:
    """The intake's start positions and its handler, over one snapshot store.

    See `runtime.kafka.agent_loop.Handle`.
    """

    def __init__(
        self,
        rules: Sequence[Rule] | RuleSource,
        store: SnapshotStore,
        producer: BatchProducer,
        dead_letters: KafkaDeadLetterSink,
        topics: AgentTopics,
        watches: Sequence[WatchedTopics],
        *,
        enforcement: Enforcement | None = None,
        snapshot_interval_ms: int,
        snapshot_records: int,
    ) -> None:
        self._source = ReleaseRules(rules) if isinstance(rules, Sequence) else rules
        self._rule_sets: dict[int, RuleSet] = {}
        self._store = store
        self._producer = producer
        self._dead_letters = dead_letters
        self._topics = topics
        self._watch_of = {topic: watch for watch in watches for topic in watch.topics}
        self._enforcement = enforcement
        self._interval_s = snapshot_interval_ms / 1_000
        self._records = snapshot_records
        self._owned: dict[ShardKey, OwnedShard] = {}
        self._database_away_until_s = 0.0
        names = {topic: name for name, topic in topics.watched.items()}
        self._announcer = Announcer(self._source, producer, names, topics.signals, self._send)
        self._alert_counts: Counter[tuple[str, str]] = Counter()
        self._late_counts: Counter[tuple[str, str]] = Counter()
        self.observe_alert: Callable[[FraudAlert, RawRecord], None] | None = None
        """Takes each alert with the record that raised it; to be set before the start."""

    def samples(self) -> Iterator[MetricSample]:
        """Yield how many alerts and revisions, and late records, there were since the start."""
        yield from count_samples("pitboss.fraud.alerts", self._alert_counts)
        yield from count_samples("pitboss.fraud.late", self._late_counts)

    def _rule_set_at(self, position: int) -> RuleSet:
        found = self._rule_sets.get(position)
        if found is None:
            found = self._rule_sets[position] = self._source.book.rule_set_at(position)
        return found

    async def claim(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Take partitions over at their snapshots.

        One without a snapshot begins where its log does, and so does one whose snapshot this
        release cannot read.

        Raises Unavailable.
        """
        names = self._topics.watched
        self._check_topics(partitions)
        claims = await self._store.claim([(names[tp.topic], tp.partition) for tp in partitions])
        positions = [marker.position for claim in claims for marker in claim.markers]
        await self._source.reach(max([0, *positions]))
        shards: dict[ShardKey, list[SnapshotClaim]] = {}
        for claim in claims:
            shards.setdefault(self._key_of(claim.topic, claim.partition), []).append(claim)
        owned: dict[ShardKey, OwnedShard] = {}
        for key, own in shards.items():
            kept, owned[key] = await self._restore_shard(own)
            for claim in kept:
                await self._record_release(owned[key], claim)
        self._owned = owned
        return {
            tp: owned[self._key_of(topic, tp.partition)].inputs[topic].next_offset
            for tp in partitions
            for topic in (names[tp.topic],)
        }

    def _check_topics(self, partitions: Collection[TopicPartition]) -> None:
        """Raise Unavailable where a topic is missing that is watched together with another."""
        names = self._topics.watched
        there = {(names[tp.topic], tp.partition) for tp in partitions}
        for topic, partition in sorted(there):
            for other in self._watch_of[topic].topics:
                if (other, partition) not in there:
                    raise Unavailable(
                        f"{topic}-{partition} is watched together with {other}-{partition}, which "
                        "is not there: `pitboss topics create` makes it"
                    )

    def _key_of(self, topic: str, partition: int) -> ShardKey:
        return self._watch_of[topic].topics, partition

    async def _restore_shard(
        self, claims: Sequence[SnapshotClaim]
    ) -> tuple[Sequence[SnapshotClaim], OwnedShard]:
        """Return the detectors of claims, and the claims: without a state that is not readable."""
        partition = claims[0].partition
        timelines = {claim.topic: Timeline(claim.markers) for claim in claims}
        rules = {
            claim.topic: self._rules_before(timelines[claim.topic], claim.next_offset)
            for claim in claims
        }
        detectors = await self._watch_of[claims[0].topic].make(rules, partition)
        states = {claim.topic: claim.state for claim in claims if claim.state is not None}
        log = timelines.get(TRANSACTIONS, Timeline())
        try:
            detectors.restore(states, lambda offset: self._rules_before(log, offset + 1))
        except ValueError as error:
            return await self._restore_shard(await self._discard(claims, error))
        return claims, self._own(claims, detectors, timelines)

    async def _discard(
        self, claims: Sequence[SnapshotClaim], error: ValueError
    ) -> Sequence[SnapshotClaim]:
        """Delete snapshots that this release cannot read: the log is watched again."""
        await self._store.discard([(one.topic, one.partition, one.epoch) for one in claims])
        logger.warning(
            "the snapshot of %s cannot be read by this release: %s; the detectors are built again "
            "from all that these logs still hold, and what they raise again has the ids of before",
            ", ".join(f"{one.topic}-{one.partition}@{one.next_offset}" for one in claims),
            error,
        )
        return [one._replace(next_offset=0, rule_set=None, state=None) for one in claims]

    def _own(
        self,
        claims: Sequence[SnapshotClaim],
        detectors: WatchDetectors,
        timelines: Mapping[str, Timeline],
    ) -> OwnedShard:
        partition = claims[0].partition
        inputs = {}
        for claim in claims:
            start = LOG_START if claim.state is None else claim.next_offset
            inputs[claim.topic] = WatchedInput(
                claim.topic, partition, claim.epoch, start, start, timelines[claim.topic]
            )
        now_s = asyncio.get_running_loop().time()
        saved_at_s = now_s - self._interval_s * (partition % SNAPSHOT_STAGGER) / SNAPSHOT_STAGGER
        return OwnedShard(
            inputs,
            detectors,
            saved_at_s,
            enforcement=self._enforcement,
            alert_counts=self._alert_counts,
            late_counts=self._late_counts,
            observe_alert=self.observe_alert,
        )

    def _rules_before(self, timeline: Timeline, offset: int) -> RuleSet:
        """Return the rules that judged the record before an offset; else the present ones."""
        position = timeline.judged_before(offset)
        return self._rule_set_at(self._source.book.position if position is None else position)

    async def _record_release(self, owned: OwnedShard, claim: SnapshotClaim) -> None:
        """Record the rules from the snapshot's offset on, where no marker says the same.

        A partition that is new begins with the rules as they are now. Where another release wrote
        the markers, with other rules, they keep their offsets and positions, over this one's rules.
        """
        one, start = owned.inputs[claim.topic], claim.next_offset
        if claim.rule_set == owned.detectors.rule_set_of(claim.topic):
            return
        in_force = one.timeline.judged_before(start + 1)
        position = self._source.book.position if in_force is None else in_force
        for marker in (Marker(start, position), *one.timeline.switches_from(start + 1)):
            named = msgspec.structs.replace(
                marker, rule_set=self._rule_set_at(marker.position).name
            )
            if named in claim.markers:
                continue
            await self._store.activate(one.topic, one.partition, one.epoch, named)
            one.timeline.add(named)
            if claim.state is not None:
                logger.warning(
                    "%s: rules %s apply from offset %d on, in place of %s",
                    one,
                    named.rule_set,
                    named.from_offset,
                    claim.rule_set,
                )

    async def adopt_rules(self) -> None:
        """Let every partition go on under the present rules, each from an offset of its own.

        That is the end of the partition's log, so no record behind it was judged yet, by this
        worker or by one before. Where the database is away, the change waits for it.
        """
        for owned in list(self._owned.values()):
            for one in owned.inputs.values():
                last = one.timeline.last
                if last is None or last.position >= self._source.book.position:
                    continue
                try:
                    await self._adopt(owned, one)
                except (Unavailable, Fenced) as error:
                    logger.warning("%s keeps its rules for now: %s", one, error)

    async def _adopt(self, owned: OwnedShard, one: WatchedInput) -> None:
        async with owned.lock:
            if one.unrecorded is None:
                last, position = one.timeline.last, self._source.book.position
                place = (one.topic, one.partition)
                end = (await self._source.end_offsets([place]))[place]
                from_offset = max(end, one.next_offset, last.from_offset if last else 0)
                name = self._rule_set_at(position).name
                one.unrecorded = Marker(from_offset, position, name)
            await self._record(one)

    async def _record(self, one: WatchedInput) -> None:
        marker = one.unrecorded
        assert marker is not None
        await self._store.activate(one.topic, one.partition, one.epoch, marker)
        one.timeline.add(marker)
        one.unrecorded = None
        logger.info(
            "%s: rules %s apply from offset %d on", one, marker.rule_set, marker.from_offset
        )

    async def announce_idle(self) -> None:
        """Write how far partitions have come that others wait for: see `Announcer`."""
        await self._announcer.announce(list(self._owned.values()))

    async def handle(self, batch: RecordBatch) -> None:
        """Watch a batch, and return when its alerts and dead letters are acknowledged.

        Raises Fenced where another worker has the partition, Unavailable when too much of it is
        unsaved because the database is away, and PartitionStuck at a record of a newer release,
        once all before it is acknowledged.
        """
        topic = self._topics.watched[batch.topic]
        key = self._key_of(topic, batch.partition)
        owned = self._owned[key]
        async with owned.lock:
            one = owned.inputs[topic]
            waiting = one.unrecorded
            if waiting is not None and batch.next_offset > waiting.from_offset:
                await self._record(one)
            stuck = owned.observe(topic, batch, self._rule_set_at)
            await self._send(owned)
            # A partition that was revoked meanwhile must not be saved: no reason to end.
            if self._is_due(owned) and self._owned.get(key) is owned:
                await self._save_or_postpone(owned)
            if stuck is not None:
                batch.mark_reached(one.next_offset)
                raise stuck

    async def _send(self, owned: OwnedShard) -> None:
        """Send the output of the detectors, blocks first: money may be about to leave."""
        send, topics = self._producer.send_keyed, self._topics
        for topic, records in (
            (topics.house, owned.orders),
            (topics.alerts, owned.alerts),
            (topics.signals, owned.signals),
        ):
            if records:
                await send(topic, records)
                records.clear()
        if owned.rejections:
            await self._dead_letters.publish_all(owned.rejections)
            owned.rejections.clear()

    def _is_due(self, owned: OwnedShard) -> bool:
        unsaved = owned.unsaved_records
        # The frequency of saving does not affect any decision about a record: the clock is read
        # only for it.
        now_s = asyncio.get_running_loop().time()
        if now_s < self._database_away_until_s and unsaved < self._records * UNSAVED_FACTOR:
            return False
        return unsaved >= self._records or (
            unsaved > 0 and now_s - owned.saved_at_s >= self._interval_s
        )

    async def _save_or_postpone(self, owned: OwnedShard) -> None:
        try:
            await self._save(owned)
        except Unavailable as error:
            if owned.unsaved_records >= self._records * UNSAVED_FACTOR:
                raise
            self._database_away_until_s = asyncio.get_running_loop().time() + DATABASE_RETRY_S
            logger.warning(
                "%s are watched without snapshots for %d records: %s",
                ", ".join(map(str, owned.inputs.values())),
                owned.unsaved_records,
                error,
            )

    async def _save(self, owned: OwnedShard) -> None:
        rows = owned.rows()
        await self._store.save(rows)
        for row in rows:
            owned.inputs[row.topic].saved_offset = row.next_offset
        owned.saved_at_s = asyncio.get_running_loop().time()
        self._database_away_until_s = 0.0

    async def release(self, partitions: Collection[TopicPartition]) -> None:
        """Save acknowledged partitions, so that the next owner need not read their records again.

        Where saving fails, the next owner reads them again.
        """
        names = self._topics.watched
        for key in sorted({self._key_of(names[tp.topic], tp.partition) for tp in partitions}):
            owned = self._owned.pop(key, None)
            if owned is None or not owned.is_acknowledged or not owned.has_unsaved:
                continue
            try:
                await self._save(owned)
            except (Unavailable, Fenced) as error:
                logger.warning(
                    "%s were not saved, so their next owner begins at the last snapshot: %s",
                    ", ".join(map(str, owned.inputs.values())),
                    error,
                )
