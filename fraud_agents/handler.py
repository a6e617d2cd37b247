"""Fraud agent: batches of the log through the detectors, alerts out, snapshots to the database.

Why a killed worker loses no alert and raises no new one: a batch is complete only when its alerts
are acknowledged, and a partition always begins at its snapshot, never at the group's committed
offset, which only shows the lag. A successor that reads records again raises the same alerts under
the same ids, since the detectors depend on the records alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from aiokafka.structs import TopicPartition

from fraud_agents.activations import Marker, Timeline, switch_rules
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.enforcement import Enforcement
from fraud_agents.rule_feed import ReleaseRules, RuleFeed, RuleSource
from fraud_agents.rule_set import RuleSet
from fraud_agents.rules import Rule
from fraud_agents.settings import GROUP, FraudSettings
from fraud_agents.snapshots import SnapshotClaim, SnapshotStore
from runtime.dead_letters.sink import KafkaDeadLetterSink, Rejection
from runtime.kafka.app import AppSettings, PitbossApp, add_agent
from runtime.kafka.app import create_app as create_faust_app
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.intake import Intake, IntakeSettings
from runtime.kafka.intake.start_offsets import LOG_START
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from runtime.telemetry.samples import MetricSample, count_samples
from schemas import codec
from schemas.errors import Fenced, OffsetHole, Rejected, Unavailable, UsageError
from schemas.events import FraudAlert, WalletTransaction
from schemas.identity import HOUSE
from schemas.topics import ALERTS, RULES, TRANSACTIONS, qualified_name, raw_topic

SNAPSHOT_STAGGER: Final = 16
"""Partitions claimed together take their first snapshots at this many different points of the
interval."""

UNSAVED_FACTOR: Final = 10
"""Without a database, detection continues for this many times the records of a snapshot: after a
kill they are read again within seconds. Beyond that it waits.
"""

DATABASE_RETRY_S: Final = 5.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class OwnedPartition:
    """Partition of this worker: its detectors, their position, unsent alerts and rejections."""

    partition: int
    epoch: int
    detectors: PartitionDetectors
    next_offset: int
    saved_offset: int
    saved_at_s: float
    alerts: list[OutRecord] = field(default_factory=list)
    orders: list[OutRecord] = field(default_factory=list)
    """Blocks and holds for the casino's own raw topic."""
    rejections: list[Rejection] = field(default_factory=list)
    enforcement: Enforcement | None = None
    alert_counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Of the whole worker, by rule and severity."""
    is_consistent: bool = True
    """False while the detectors are between two records: their state must not be kept."""
    timeline: Timeline = field(default_factory=Timeline)
    unrecorded: Marker | None = None
    """A marker that the database may have or not: no record at or behind it may be judged yet."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while records are judged, and while the offset of the next marker is chosen."""

    def observe(self, batch: RecordBatch, rule_set_at: Callable[[int], RuleSet]) -> None:
        """Show the detectors the records of a batch that they have not seen.

        Rules change at the records that the activation markers name. It does not await, so the
        detectors stop at the batch's end. Raises OffsetHole for a batch that begins beyond the next
        record.
        """
        if self.next_offset == LOG_START:
            self.next_offset = self.saved_offset = batch.from_offset
        if batch.from_offset > self.next_offset:
            raise OffsetHole(f"{batch}: the detectors expect the record at {self.next_offset}")
        self.is_consistent = False
        decode, encode = codec.decoder(WalletTransaction), codec.encoder(FraudAlert)
        observe, seen = self.detectors.observe, self.next_offset
        switches = deque(self.timeline.switches_from(seen))
        for record in batch.records:
            offset = record.offset
            if offset < seen:
                continue  # the batch is tried again, after the database or the broker was away
            if switches and switches[0].from_offset <= offset:
                for alert in switch_rules(self.detectors, switches, offset, rule_set_at):
                    self._publish(alert, encode(alert))
            try:
                event = decode(record.value or b"")
            except Rejected as error:
                self.rejections.append(Rejection(record, error.reason, error.detail))
                continue
            for alert in observe(event, offset):
                self._publish(alert, encode(alert))
        self.next_offset = max(seen, batch.next_offset)
        self.is_consistent = True

    def _publish(self, alert: FraudAlert, value: bytes) -> None:
        self.alerts.append((alert.key.encode(), value, (), None))
        self.alert_counts[alert.rule_id, alert.severity] += 1
        if self.enforcement is None or not self.detectors.may_stop(alert):
            return
        is_blocked = self.detectors.is_blocked(alert)
        order = self.enforcement.record_for(alert, is_blocked=is_blocked)
        if order is not None:
            self.orders.append(order)

    @property
    def is_acknowledged(self) -> bool:
        """Whether all output of the detectors is acknowledged, so that a snapshot may be taken."""
        waiting = (self.alerts, self.orders, self.rejections)
        return self.is_consistent and not any(waiting)


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
        *,
        alerts_topic: str,
        house_topic: str = "",
        enforcement: Enforcement | None = None,
        snapshot_interval_ms: int,
        snapshot_records: int,
    ) -> None:
        self._source = ReleaseRules(rules) if isinstance(rules, Sequence) else rules
        self._rule_sets: dict[int, RuleSet] = {}
        self._store = store
        self._producer = producer
        self._dead_letters = dead_letters
        self._alerts_topic = alerts_topic
        self._house_topic = house_topic
        self._enforcement = enforcement
        self._interval_s = snapshot_interval_ms / 1_000
        self._records = snapshot_records
        self._owned: dict[TopicPartition, OwnedPartition] = {}
        self._database_away_until_s = 0.0
        self._alert_counts: Counter[tuple[str, str]] = Counter()

    def samples(self) -> Iterator[MetricSample]:
        """Yield how many alerts and revisions were raised since the start."""
        return count_samples("pitboss.fraud.alerts", self._alert_counts)

    def _rule_set_at(self, position: int) -> RuleSet:
        found = self._rule_sets.get(position)
        if found is None:
            found = self._rule_sets[position] = self._source.book.rule_set_at(position)
        return found

    async def claim(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Take partitions over at their snapshots.

        One without a snapshot begins where its log does.

        Raises Unavailable, and UsageError for a snapshot that this release cannot read.
        """
        claims = await self._store.claim([tp.partition for tp in partitions])
        positions = [marker.position for claim in claims for marker in claim.markers]
        await self._source.reach(max([0, *positions]))
        by_partition = {claim.partition: claim for claim in claims}
        owned = {tp: self._restore_partition(by_partition[tp.partition]) for tp in partitions}
        for tp in partitions:
            await self._record_release(owned[tp], by_partition[tp.partition])
        self._owned = owned
        return {tp: one.next_offset for tp, one in owned.items()}

    def _restore_partition(self, claim: SnapshotClaim) -> OwnedPartition:
        timeline = Timeline(claim.markers)
        position = timeline.judged_before(claim.next_offset)
        if position is None:
            position = self._source.book.position
        detectors = PartitionDetectors(self._rule_set_at(position), claim.partition)
        next_offset = LOG_START
        if claim.state is not None:
            next_offset = claim.next_offset
            try:
                detectors.restore(claim.state)
            except ValueError as error:
                raise UsageError(
                    f"the snapshot of partition {claim.partition} at {claim.next_offset} cannot be "
                    f"read: {error}; run the release that wrote it, or delete its row of "
                    "fraud.snapshot to watch all that the log still holds"
                ) from error
        now_s = asyncio.get_running_loop().time()
        saved_at_s = (
            now_s - self._interval_s * (claim.partition % SNAPSHOT_STAGGER) / SNAPSHOT_STAGGER
        )
        return OwnedPartition(
            claim.partition,
            claim.epoch,
            detectors,
            next_offset,
            next_offset,
            saved_at_s,
            enforcement=self._enforcement,
            alert_counts=self._alert_counts,
            timeline=timeline,
        )

    async def _record_release(self, owned: OwnedPartition, claim: SnapshotClaim) -> None:
        """Record the rules from the snapshot's offset on, where no marker says the same.

        A partition that is new begins with the rules as they are now. Where another release wrote
        the markers, with other rules, they keep their offsets and positions, over this one's rules.
        """
        start, timeline = claim.next_offset, owned.timeline
        if claim.rule_set == owned.detectors.rule_set:
            return
        in_force = timeline.judged_before(start + 1)
        position = self._source.book.position if in_force is None else in_force
        for marker in (Marker(start, position), *timeline.switches_from(start + 1)):
            named = msgspec.structs.replace(
                marker, rule_set=self._rule_set_at(marker.position).name
            )
            if named in claim.markers:
                continue
            await self._store.activate(owned.partition, owned.epoch, named)
            timeline.add(named)
            if claim.state is not None:
                logger.warning(
                    "partition %d: rules %s apply from offset %d on, in place of %s",
                    claim.partition,
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
            last = owned.timeline.last
            if last is None or last.position >= self._source.book.position:
                continue
            try:
                await self._adopt(owned)
            except (Unavailable, Fenced) as error:
                logger.warning("partition %d keeps its rules for now: %s", owned.partition, error)

    async def _adopt(self, owned: OwnedPartition) -> None:
        async with owned.lock:
            if owned.unrecorded is None:
                last, position = owned.timeline.last, self._source.book.position
                end = await self._source.end_offset(owned.partition)
                from_offset = max(end, owned.next_offset, last.from_offset if last else 0)
                name = self._rule_set_at(position).name
                owned.unrecorded = Marker(from_offset, position, name)
            await self._record(owned)

    async def _record(self, owned: OwnedPartition) -> None:
        marker = owned.unrecorded
        assert marker is not None
        await self._store.activate(owned.partition, owned.epoch, marker)
        owned.timeline.add(marker)
        owned.unrecorded = None
        logger.info(
            "partition %d: rules %s apply from offset %d on",
            owned.partition,
            marker.rule_set,
            marker.from_offset,
        )

    async def handle(self, batch: RecordBatch) -> None:
        """Watch a batch, and return when its alerts and dead letters are acknowledged.

        Raises Fenced where another worker has the partition, and Unavailable when too much of it is
        unsaved because the database is away.
        """
        owned = self._owned[batch.tp]
        async with owned.lock:
            waiting = owned.unrecorded
            if waiting is not None and batch.next_offset > waiting.from_offset:
                await self._record(owned)
            owned.observe(batch, self._rule_set_at)
        if owned.orders:  # before the alerts: money may be about to leave
            await self._producer.send_keyed(self._house_topic, owned.orders)
            owned.orders.clear()
        if owned.alerts:
            await self._producer.send_keyed(self._alerts_topic, owned.alerts)
            owned.alerts.clear()
        if owned.rejections:
            await self._dead_letters.publish_all(owned.rejections)
            owned.rejections.clear()
        # A partition that was revoked meanwhile must not be saved, and is not a reason to end.
        if self._is_due(owned) and self._owned.get(batch.tp) is owned:
            await self._save_or_postpone(owned)

    def _is_due(self, owned: OwnedPartition) -> bool:
        unsaved = owned.next_offset - owned.saved_offset
        # The frequency of saving does not affect any decision about a record: the clock is read
        # only for it.
        now_s = asyncio.get_running_loop().time()
        if now_s < self._database_away_until_s and unsaved < self._records * UNSAVED_FACTOR:
            return False
        return unsaved >= self._records or (
            unsaved > 0 and now_s - owned.saved_at_s >= self._interval_s
        )

    async def _save_or_postpone(self, owned: OwnedPartition) -> None:
        try:
            await self._save(owned)
        except Unavailable as error:
            if owned.next_offset - owned.saved_offset >= self._records * UNSAVED_FACTOR:
                raise
            self._database_away_until_s = asyncio.get_running_loop().time() + DATABASE_RETRY_S
            logger.warning(
                "partition %d is watched without snapshots since %d: %s",
                owned.partition,
                owned.saved_offset,
                error,
            )

    async def _save(self, owned: OwnedPartition) -> None:
        next_offset = owned.next_offset
        await self._store.save(
            owned.partition,
            owned.epoch,
            next_offset,
            owned.detectors.rule_set,
            owned.detectors.state(),
        )
        owned.saved_offset, owned.saved_at_s = next_offset, asyncio.get_running_loop().time()
        self._database_away_until_s = 0.0

    async def release(self, partitions: Collection[TopicPartition]) -> None:
        """Save acknowledged partitions, so that the next owner need not read their records again.

        Where saving fails, the next owner reads them again.
        """
        for tp in partitions:
            owned = self._owned.pop(tp, None)
            if (
                owned is None
                or not owned.is_acknowledged
                or owned.next_offset == owned.saved_offset
            ):
                continue
            try:
                await self._save(owned)
            except (Unavailable, Fenced) as error:
                logger.warning(
                    "%s-%d was not saved, so its next owner begins at %d: %s",
                    tp.topic,
                    tp.partition,
                    owned.saved_offset,
                    error,
                )


def register(app: PitbossApp, settings: FraudSettings) -> Intake:
    """Attach the fraud agent and the services it needs to an app."""
    consumer = qualified_name(GROUP, settings.namespace)
    log = qualified_name(TRANSACTIONS, settings.namespace)
    producer = app.supervise(BatchProducer(ProducerSettings(settings.broker, consumer)))
    store = app.supervise(SnapshotStore(settings.database_url, GROUP, TRANSACTIONS))
    rules_topic = qualified_name(RULES, settings.namespace)
    feed = app.supervise(RuleFeed(settings.broker, rules_topic, log, settings.rules))
    dead_letters = KafkaDeadLetterSink(producer, "fraud", settings.code_version)
    agent = FraudAgent(
        feed,
        store,
        producer,
        dead_letters,
        alerts_topic=qualified_name(ALERTS, settings.namespace),
        house_topic=qualified_name(raw_topic(HOUSE), settings.namespace),
        enforcement=settings.enforcement,
        snapshot_interval_ms=settings.snapshot_interval_ms,
        snapshot_records=settings.snapshot_records,
    )
    feed.on_change = agent.adopt_rules
    app.when_observed(lambda telemetry: telemetry.meters.add_source(dead_letters.samples))
    app.when_observed(lambda telemetry: telemetry.meters.add_source(agent.samples))
    return add_agent(
        app,
        IntakeSettings(settings.broker, consumer, group_instance_id=settings.group_instance_id),
        agent.handle,
        name=GROUP,
        topics=[log],
        positions=agent,
    )


def create_app(settings: FraudSettings) -> PitbossApp:
    """Create a Faust app with the fraud agent alone; nothing is connected or started."""
    app = create_faust_app(AppSettings(GROUP, settings.broker))
    register(app, settings)
    return app
