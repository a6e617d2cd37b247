"""The fraud agent: batches of the log through the detectors, alerts out, snapshots to the database.
It decides nothing.

Why a killed worker loses no alert and raises none anew: a batch is done only when its alerts are
acknowledged, and a partition always begins at its snapshot, never at the group's committed offset,
which only shows the lag. What a successor reads again gives the same alerts under the same ids,
since the detectors know nothing but the records.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiokafka.structs import TopicPartition

from fraud_agents.detectors import FIELDS
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.rules import Rule, rule_set_name
from fraud_agents.snapshots import SnapshotClaim, SnapshotStore
from runtime.dead_letters.sink import KafkaDeadLetterSink, Rejection
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.start_offsets import LOG_START
from runtime.kafka.producer import BatchProducer, OutRecord
from schemas import codec
from schemas.errors import Fenced, OffsetHole, Rejected, Unavailable, UsageError
from schemas.events import FraudAlert, WalletTransaction

SNAPSHOT_STAGGER: Final = 16
"""Partitions claimed together take their first snapshots in this many different parts of the
interval.
"""

UNSAVED_FACTOR: Final = 10
"""Without a database, detection goes on for this many times the records of a snapshot: what a kill
would then have to be read again is still a matter of seconds. Beyond that it waits.
"""

DATABASE_RETRY_S: Final = 5.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class OwnedPartition:
    """A partition that is ours: its detectors, where they stand, and what they want sent and
    buried.
    """

    partition: int
    epoch: int
    watch: PartitionDetectors
    next_offset: int
    saved_offset: int
    saved_at_s: float
    alerts: list[OutRecord] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    is_consistent: bool = True
    """False while the detectors are between two records: no state to keep."""

    def observe(self, batch: RecordBatch) -> None:
        """Show the detectors what they have not seen of a batch; without an await, so that they
        stop at its end.

        Raises OffsetHole for a batch that begins beyond the next record.
        """
        if self.next_offset == LOG_START:
            self.next_offset = self.saved_offset = batch.from_offset
        if batch.from_offset > self.next_offset:
            raise OffsetHole(f"{batch}: the detectors expect the record at {self.next_offset}")
        self.is_consistent = False
        decode, encode = codec.decoder(WalletTransaction, FIELDS), codec.encoder(FraudAlert)
        observe, seen = self.watch.observe, self.next_offset
        for record in batch.records:
            offset = record.offset
            if offset < seen:
                continue  # the batch is tried again, after the database or the broker was away
            try:
                event = decode(record.value)
            except Rejected as error:
                self.rejections.append(Rejection(record, error.reason, error.detail))
                continue
            for alert in observe(event, offset):
                self.alerts.append((alert.key.encode(), encode(alert), (), None))
        self.next_offset = max(seen, batch.next_offset)
        self.is_consistent = True

    @property
    def is_acknowledged(self) -> bool:
        """Whether everything that the detectors said is acknowledged, so that a snapshot stands for
        it.
        """
        return self.is_consistent and not self.alerts and not self.rejections


class FraudAgent:
    """The intake's start positions and its handler, over one snapshot store.

    See `runtime.kafka.agent_loop.Handle`.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        store: SnapshotStore,
        producer: BatchProducer,
        dead_letters: KafkaDeadLetterSink,
        *,
        alerts_topic: str,
        snapshot_interval_ms: int,
        snapshot_records: int,
    ) -> None:
        self.rule_set = rule_set_name(rules)
        self._rules = tuple(rules)
        self._store = store
        self._producer = producer
        self._dead_letters = dead_letters
        self._alerts_topic = alerts_topic
        self._interval_s = snapshot_interval_ms / 1_000
        self._records = snapshot_records
        self._held: dict[TopicPartition, OwnedPartition] = {}
        self._database_away_until_s = 0.0

    async def claim(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Take partitions over at their snapshots; one without any begins where its log does.

        Raises Unavailable.
        """
        claims = await self._store.claim([tp.partition for tp in partitions], self.rule_set)
        by_part = {claim.partition: claim for claim in claims}
        self._held = {tp: self._restored(by_part[tp.partition]) for tp in partitions}
        return {tp: held.next_offset for tp, held in self._held.items()}

    def _restored(self, claim: SnapshotClaim) -> OwnedPartition:
        watch, next_offset = PartitionDetectors(self._rules, claim.partition), LOG_START
        if claim.state is not None:
            next_offset = claim.next_offset
            try:
                watch.restore(claim.state)
            except ValueError as error:
                raise UsageError(
                    f"the snapshot of partition {claim.partition} at {claim.next_offset} cannot be read: {error}; run the "
                    "release that wrote it, or delete its row of fraud.snapshot to watch all that the log still holds"
                ) from error
            if claim.rule_set != self.rule_set:
                logger.warning(
                    "partition %d is judged by %s from %d on, no longer by %s",
                    claim.partition,
                    self.rule_set,
                    claim.next_offset,
                    claim.rule_set,
                )
        now_s = asyncio.get_running_loop().time()
        saved_at_s = (
            now_s - self._interval_s * (claim.partition % SNAPSHOT_STAGGER) / SNAPSHOT_STAGGER
        )
        return OwnedPartition(
            claim.partition, claim.epoch, watch, next_offset, next_offset, saved_at_s
        )

    async def handle(self, batch: RecordBatch) -> None:
        """Watch a batch, and return when its alerts and dead letters are acknowledged.

        Raises Fenced where another worker has the partition, and Unavailable when too much of it is
        unsaved because the database is away.
        """
        held = self._held[batch.tp]
        held.observe(batch)
        if held.alerts:
            await self._producer.send_keyed(self._alerts_topic, held.alerts)
            held.alerts.clear()
        if held.rejections:
            await self._dead_letters.publish_all(held.rejections)
            held.rejections.clear()
        # A partition that was taken from us meanwhile is no longer ours to save, nor a reason to
        # end.
        if self._is_due(held) and self._held.get(batch.tp) is held:
            await self._save_or_put_off(held)

    def _is_due(self, held: OwnedPartition) -> bool:
        unsaved = held.next_offset - held.saved_offset
        # How often to save is no decision about a record: the only clock that is asked, and only
        # for that.
        now_s = asyncio.get_running_loop().time()
        if now_s < self._database_away_until_s and unsaved < self._records * UNSAVED_FACTOR:
            return False
        return unsaved >= self._records or (
            unsaved > 0 and now_s - held.saved_at_s >= self._interval_s
        )

    async def _save_or_put_off(self, held: OwnedPartition) -> None:
        try:
            await self._save(held)
        except Unavailable as error:
            if held.next_offset - held.saved_offset >= self._records * UNSAVED_FACTOR:
                raise
            self._database_away_until_s = asyncio.get_running_loop().time() + DATABASE_RETRY_S
            logger.warning(
                "partition %d is watched without snapshots since %d: %s",
                held.partition,
                held.saved_offset,
                error,
            )

    async def _save(self, held: OwnedPartition) -> None:
        next_offset = held.next_offset
        await self._store.save(
            held.partition, held.epoch, next_offset, self.rule_set, held.watch.state()
        )
        held.saved_offset, held.saved_at_s = next_offset, asyncio.get_running_loop().time()
        self._database_away_until_s = 0.0

    async def release(self, partitions: Collection[TopicPartition]) -> None:
        """Save what is settled, so that the next owner need not read it again; if that fails, it
        does.
        """
        for tp in partitions:
            held = self._held.pop(tp, None)
            if held is None or not held.is_acknowledged or held.next_offset == held.saved_offset:
                continue
            try:
                await self._save(held)
            except (Unavailable, Fenced) as error:
                logger.warning(
                    "%s-%d goes back to %d: %s", tp.topic, tp.partition, held.saved_offset, error
                )
