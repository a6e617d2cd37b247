"""Partitions that a fraud worker owns: their detectors, positions, and what is not yet sent."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol

from fraud_agents.activations import Marker, Timeline
from fraud_agents.detectors.global_signals import SIGNAL_KEY
from fraud_agents.enforcement import Enforcement
from fraud_agents.rule_set import RuleSet
from fraud_agents.snapshots import SnapshotRow
from runtime.dead_letters.sink import Rejection
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.start_offsets import LOG_START
from runtime.kafka.producer import OutRecord
from runtime.kafka.records import RawRecord
from schemas import codec
from schemas.errors import OffsetHole, PartitionStuck, Rejected
from schemas.events import (
    FraudAlert,
    GameResult,
    PlayerEvent,
    RiskSignal,
    SignalKind,
    WalletTransaction,
)
from schemas.registry import UnknownSchema, describe_newer
from schemas.topics import GAME_RESULTS, PLAYER_EVENTS, SIGNALS, TRANSACTIONS

RECORD_TYPES: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {
        TRANSACTIONS: WalletTransaction,
        PLAYER_EVENTS: PlayerEvent,
        GAME_RESULTS: GameResult,
        SIGNALS: RiskSignal,
    }
)
"""What the records of each watched topic are."""


class WatchDetectors(Protocol):
    """The detectors over partitions of one number: see `ShardDetectors` and `GlobalDetectors`."""

    def observe(self, topic: str, event: Any, offset: int) -> list[FraudAlert]:
        """Take in a record of a topic, each offset once and in the order of its partition."""

    def take_signals(self, topic: str, next_offset: int) -> list[RiskSignal]:
        """Return the signals that a batch of the topic, before `next_offset`, has given."""

    def newest_ms(self, topic: str) -> int:
        """Return the newest event time of a topic; 0 before its first record."""

    def may_stop(self, alert: FraudAlert) -> bool:
        """Return whether an alert may block or hold its player."""

    def rule_set_of(self, topic: str) -> str:
        """Return the name of the rules in force over a topic."""

    def switch_rules(self, topic: str, rules: RuleSet) -> list[FraudAlert]:
        """Go on under other rules over a topic; return the ends of alerts that are not raised."""

    def plan_switches(
        self, switches: Sequence[tuple[int, int]], rule_set_at: Callable[[int], RuleSet]
    ) -> None:
        """Take over at which offsets of the log which rules begin."""

    def states(self) -> dict[str, bytes]:
        """Return a snapshot by topic, of one moment."""

    def restore(
        self, states: Mapping[str, bytes], rules_of_log: Callable[[int], RuleSet] | None = None
    ) -> None:
        """Take over a snapshot. Raises ValueError for one of another format."""


@dataclass(slots=True)
class WatchedInput:
    """Partition of one topic that this worker owns: its position, and its rules by offset."""

    topic: str
    partition: int
    epoch: int
    next_offset: int
    saved_offset: int
    timeline: Timeline = field(default_factory=Timeline)
    unrecorded: Marker | None = None
    """A marker that the database may have or not: no record at or behind it may be judged yet."""

    def __str__(self) -> str:
        """Return `topic-partition`."""
        return f"{self.topic}-{self.partition}"


@dataclass(slots=True)
class OwnedShard:
    """Partitions of one number of this worker: their detectors, and what is not yet sent of them.

    Their state is saved together, since some detectors see several of the topics.
    """

    inputs: dict[str, WatchedInput]
    detectors: WatchDetectors
    saved_at_s: float
    enforcement: Enforcement | None = None
    alerts: list[OutRecord] = field(default_factory=list)
    orders: list[OutRecord] = field(default_factory=list)
    """Blocks and holds for the casino's own raw topic."""
    signals: list[OutRecord] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    alert_counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Of the whole worker, by rule and severity."""
    late_counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Of the whole worker: late records by topic and by what they are late for."""
    observe_alert: Callable[[FraudAlert, RawRecord], None] | None = None
    """Takes each alert with the record that raised or ended it; None where telemetry is off."""
    is_consistent: bool = True
    """False while the detectors are between two records: their state must not be kept."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while records are judged and their output is sent, and while a marker is chosen."""

    def observe(
        self, topic: str, batch: RecordBatch, rule_set_at: Callable[[int], RuleSet]
    ) -> PartitionStuck | None:
        """Show the detectors the records of a batch that they have not seen.

        Rules change at the records that the activation markers name. It does not await, so the
        detectors stop at the batch's end, or before a record of a newer release: then what they
        wait for is returned. Raises OffsetHole for a batch that begins beyond the next record.
        """
        one, detectors = self.inputs[topic], self.detectors
        is_first = one.next_offset == LOG_START
        if is_first:
            one.next_offset = one.saved_offset = batch.from_offset
        if batch.from_offset > one.next_offset:
            raise OffsetHole(f"{batch}: the detectors expect the record at {one.next_offset}")
        self.is_consistent = False
        seen = one.next_offset
        # A log whose first records are gone begins under the rules of the last marker before it.
        switches = deque(one.timeline.switches_from(1 if is_first else seen))
        if topic == TRANSACTIONS:
            planned = [(m.from_offset, m.position) for m in one.timeline.switches_from(1)]
            detectors.plan_switches(planned, rule_set_at)
        # Those before are of a batch that is tried again, after a server was away.
        records = [record for record in batch.records if record.offset >= seen]
        stuck_at, stuck = self._observe_records(topic, records, switches, rule_set_at)
        one.next_offset = max(seen, batch.next_offset if stuck_at is None else stuck_at)
        self.add_signals(detectors.take_signals(topic, one.next_offset))
        self.is_consistent = True
        return stuck

    def _observe_records(
        self,
        topic: str,
        records: Sequence[RawRecord],
        switches: deque[Marker],
        rule_set_at: Callable[[int], RuleSet],
    ) -> tuple[int, PartitionStuck] | tuple[None, None]:
        """Return the offset of the first record of a newer release, and what is waited for."""
        detectors, encode = self.detectors, codec.encoder(FraudAlert)
        decode = codec.decoder(RECORD_TYPES[topic])
        for record in records:
            event, offset = None, record.offset
            try:
                event = decode(record.value or b"")
            except Rejected as error:
                if stuck := _find_newer(error, record):
                    return offset, stuck
                self.rejections.append(Rejection(record, error.reason, error.detail))
            while switches and switches[0].from_offset <= offset:
                rules = rule_set_at(switches.popleft().position)
                for alert in detectors.switch_rules(topic, rules):
                    self._publish(alert, encode(alert), record)
            if event is not None:
                for alert in detectors.observe(topic, event, offset):
                    self._publish(alert, encode(alert), record)
        return None, None

    def add_signals(self, signals: Sequence[RiskSignal]) -> None:
        """Add signals to what is to be sent."""
        if signals:
            self.late_counts.update(
                (one.source.topic, one.attributes["after"])
                for one in signals
                if one.kind == SignalKind.LATE
            )
            encode = codec.encoder(RiskSignal)
            self.signals += [(SIGNAL_KEY, encode(signal), (), None) for signal in signals]

    @property
    def newest_ms(self) -> int:
        """The newest event time of the topics."""
        return max((self.detectors.newest_ms(topic) for topic in self.inputs), default=0)

    def _publish(self, alert: FraudAlert, value: bytes, record: RawRecord) -> None:
        if self.observe_alert is not None:
            self.observe_alert(alert, record)
        self.alerts.append((alert.key.encode(), value, (), None))
        self.alert_counts[alert.rule_id, alert.severity] += 1
        if self.enforcement is None or not self.detectors.may_stop(alert):
            return
        order = self.enforcement.record_for(alert)
        if order is not None:
            self.orders.append(order)

    @property
    def is_acknowledged(self) -> bool:
        """Whether all output of the detectors is acknowledged, so that a snapshot may be taken."""
        waiting = (self.alerts, self.orders, self.signals, self.rejections)
        return self.is_consistent and not any(waiting)

    @property
    def unsaved_records(self) -> int:
        """Number of records since the last snapshot."""
        return sum(one.next_offset - one.saved_offset for one in self.inputs.values())

    @property
    def has_unsaved(self) -> bool:
        """Whether a record came since the last snapshot."""
        return any(one.next_offset != one.saved_offset for one in self.inputs.values())

    def rows(self) -> list[SnapshotRow]:
        """Return a snapshot of each input that has begun."""
        states, rule_set_of = self.detectors.states(), self.detectors.rule_set_of
        return [
            SnapshotRow(
                topic, one.partition, one.epoch, one.next_offset, rule_set_of(topic), states[topic]
            )
            for topic, one in self.inputs.items()
            if one.next_offset != LOG_START
        ]


def _find_newer(error: Rejected, record: RawRecord) -> PartitionStuck | None:
    if not isinstance(error, UnknownSchema):
        return None
    place = f"{record.topic}-{record.partition}@{record.offset}"
    detail = describe_newer(error, place)
    return None if detail is None else PartitionStuck(detail)
