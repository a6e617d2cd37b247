"""All detectors over one partition of a topic, and their state as one snapshot: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from fraud_agents.detectors.base import RESULT, escape_key
from fraud_agents.detectors.catalogue import DETECTORS
from fraud_agents.detectors.observation import Detector, Observation
from fraud_agents.detectors.repeats import RepeatFilter, RepeatState
from fraud_agents.rules import Rule, rule_set_name
from schemas.errors import UsageError
from schemas.events import AlertStatus, FraudAlert, Kind, PlayerEvent, WalletTransaction
from schemas.topics import TRANSACTIONS

STATE_VERSION: Final = 2
SWEEP_MS: Final = 60_000
_STATE_KINDS: Final = (Kind.PLAYER_STATE.value,)


class PartitionState(msgspec.Struct, frozen=True, array_like=True):
    """The state of each rule's detector, by rule id, and the newest event time."""

    version: int
    detectors: dict[str, bytes]
    watermark_ms: int
    repeats: RepeatState
    blocked: list[str]


class PartitionDetectors:
    """The detectors of one partition of a topic.

    Raises UsageError for a rule that no detector implements.
    """

    def __init__(self, rules: Sequence[Rule], partition: int, topic: str = TRANSACTIONS) -> None:
        unknown = [rule.rule_id for rule in rules if rule.rule_id not in DETECTORS]
        if unknown:
            raise UsageError(
                f"no detector for {', '.join(unknown)}; there are {', '.join(DETECTORS)}"
            )
        self.rule_set = rule_set_name(rules)
        self.detectors: tuple[Detector, ...] = tuple(
            detector(rule, partition)
            for rule in rules
            for detector in DETECTORS[rule.rule_id]
            if detector.topic == topic
        )
        self._stopping = {rule.rule_id for rule in rules if rule.stops_player}
        self._watermark_ms = 0
        self._repeats = RepeatFilter()
        self._blocked: dict[str, None] = {}
        self._next_due_ms = 0
        self._by_kinds: dict[tuple[tuple[str, ...], bool], tuple[Detector, ...]] = {}

    def observe(self, event: Observation, offset: int) -> list[FraudAlert]:
        """Show one record to its detectors, each offset once and in the order of the log."""
        alerts: list[FraudAlert] = []
        if event.occurred_at > self._watermark_ms:
            self._watermark_ms = event.occurred_at
            if self._watermark_ms >= self._next_due_ms:
                alerts += self._advance()
        is_repeat = self._repeats.is_repeat(event.event_id, self._watermark_ms)
        kinds = (_kinds_of(event), is_repeat)
        watching = self._by_kinds.get(kinds)
        if watching is None:
            watching = self._find_watching(kinds)
        for detector in watching:
            detector.watermark_ms = self._watermark_ms
            if found := detector.observe(event, offset):
                alerts += found
            if (due_ms := detector.next_due_ms) < self._next_due_ms:
                self._next_due_ms = due_ms
        if kinds[0] == _STATE_KINDS and _releases(event):
            self._blocked.pop(f"{escape_key(event.brand)}:{event.player_id}", None)
        for alert in alerts:
            is_stop = alert.severity == "block" and alert.rule_id in self._stopping
            is_over = alert.status == AlertStatus.CLOSED
            if is_stop and not is_over and alert.player_id is not None:
                self._blocked[f"{alert.key.partition(':')[0]}:{alert.player_id}"] = None
        return alerts

    def is_blocked(self, alert: FraudAlert) -> bool:
        """Return whether an alert has blocked this alert's player, who was not released since."""
        return f"{alert.key.partition(':')[0]}:{alert.player_id}" in self._blocked

    def _advance(self) -> list[FraudAlert]:
        alerts: list[FraudAlert] = []
        for detector in self.detectors:
            alerts += detector.advance(self._watermark_ms)
        self._next_due_ms = self._find_next_due()
        return alerts

    def _find_next_due(self) -> int:
        # Idle keys are forgotten at whole minutes of event time, so at the same record after a
        # restart.
        minute_ms = self._watermark_ms - self._watermark_ms % SWEEP_MS + SWEEP_MS
        return min([minute_ms, *(detector.next_due_ms for detector in self.detectors)])

    def _find_watching(self, kinds: tuple[tuple[str, ...], bool]) -> tuple[Detector, ...]:
        if len(self._by_kinds) > 1_024:  # combinations come from outside
            self._by_kinds.clear()
        watching = tuple(
            detector
            for detector in self.detectors
            if detector.kinds is None or not detector.kinds.isdisjoint(kinds[0])
            if detector.sees_repeats or not kinds[1]
        )
        self._by_kinds[kinds] = watching
        return watching

    def state(self) -> bytes:
        """Return a snapshot; equal states give equal bytes."""
        states = {detector.rule.rule_id: detector.state() for detector in self.detectors}
        return msgspec.msgpack.encode(
            PartitionState(
                STATE_VERSION,
                states,
                self._watermark_ms,
                self._repeats.dump(),
                [*self._blocked],
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot, of this or an earlier version of the rules, before any record.

        Windows and open episodes belong to the players, not to a version: a new version of a rule
        continues with them, and a rule that the snapshot does not know begins empty. Raises
        ValueError for bytes that are not a snapshot.
        """
        saved = msgspec.msgpack.decode(state, type=PartitionState)
        if saved.version != STATE_VERSION:
            raise ValueError(
                f"snapshot version {saved.version}; this program reads {STATE_VERSION}"
            )
        self._watermark_ms = saved.watermark_ms
        self._repeats.restore(saved.repeats)
        self._blocked = dict.fromkeys(saved.blocked)
        for detector in self.detectors:
            if (own := saved.detectors.get(detector.rule.rule_id)) is not None:
                detector.restore(own)
        self._next_due_ms = self._find_next_due()


def _releases(event: Observation) -> bool:
    """Return whether an event of the log lifts what alerts have done to its player."""
    cause = event.cause if isinstance(event, WalletTransaction) else None
    is_release = event.operation == "player.released"
    return is_release and cause is not None and cause.type == "alert"


def _kinds_of(event: Observation) -> tuple[str, ...]:
    if isinstance(event, WalletTransaction):
        legs = event.legs
        return (legs[0].kind,) if len(legs) == 1 else tuple([leg.kind for leg in legs])
    return (event.type,) if isinstance(event, PlayerEvent) else (RESULT,)
