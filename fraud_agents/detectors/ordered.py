"""Detectors over several partitions in the order of event time: pure.

Their records are merged by watermark, so that a location and the bet it belongs to are seen in the
order in which they happened, whatever topic and partition they came through. Alerts come when the
lowest watermark of the inputs has passed, which is the grace later than the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
from fraud_agents.detectors.repeats import RepeatFilter, RepeatState
from fraud_agents.detectors.signal_base import Scope
from fraud_agents.rules import Rule, rule_set_name
from fraud_agents.signals import Signal, signals_of
from fraud_agents.windows import InputId, OrderedMerge, Released
from fraud_agents.windows.watermark import MergeState
from schemas.events import FraudAlert, GameResult, Kind, PlayerEvent, WalletTransaction

STATE_VERSION: Final = 1
GRACE_MS: Final = 10_000
"""How far behind its partition's newest record a record may be: delays of connectors, not outages;
what comes later is counted as late."""


class OrderedState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot: the merge with its waiting signals, known events of each input, and detectors."""

    version: int
    merge: MergeState
    waiting: list[Signal]
    repeats: list[RepeatState]
    detectors: dict[str, bytes]


class OrderedDetectors:
    """The signal detectors of one scope over its inputs."""

    def __init__(self, rules: Sequence[Rule], inputs: Sequence[InputId], scope: Scope) -> None:
        self.rule_set = rule_set_name(rules)
        self.detectors = tuple(
            SIGNAL_DETECTORS[rule.detector_id](rule, 0)
            for rule in rules
            if rule.detector_id in SIGNAL_DETECTORS
            and SIGNAL_DETECTORS[rule.detector_id].scope is scope
        )
        self._merge: OrderedMerge[Signal] = OrderedMerge(inputs, GRACE_MS)
        self._repeats = {name: RepeatFilter() for name in self._merge.inputs}

    def observe(
        self, event: WalletTransaction | PlayerEvent | GameResult, source: InputId, offset: int
    ) -> list[FraudAlert]:
        """Take in a record of an input, each offset once and in the order of its partition."""
        at_ms = event.occurred_at
        if isinstance(event, WalletTransaction) and event.legs[0].kind == Kind.HEARTBEAT:
            self._merge.beat(source, at_ms)
        elif self._repeats[source].is_repeat(event.event_id, at_ms):
            return []
        else:
            self._merge.push(source, at_ms, offset, signals_of(event, *source, offset))
        alerts: list[FraudAlert] = []
        for released in self._merge.drain():
            alerts += self._show(released)
        for detector in self.detectors:
            alerts += detector.advance(self._merge.watermark_ms)
        return alerts

    def _show(self, released: Released[Signal]) -> list[FraudAlert]:
        alerts: list[FraudAlert] = []
        for detector in self.detectors:
            # Timers that are due before the signal fire before it.
            if detector.next_due_ms <= released.at_ms:
                alerts += detector.advance(released.at_ms)
            if released.item.kind in detector.signals:
                detector.watermark_ms = max(detector.watermark_ms, released.at_ms)
                alerts += detector.observe(released.item, released.offset)
        return alerts

    @property
    def late_counts(self) -> dict[InputId, int]:
        """Records of each input that came too late to be looked at."""
        return self._merge.late_counts

    def state(self) -> bytes:
        """Return a snapshot; equal states give equal bytes."""
        merge, waiting = self._merge.dump()
        return msgspec.msgpack.encode(
            OrderedState(
                STATE_VERSION,
                merge,
                waiting,
                [self._repeats[name].dump() for name in self._merge.inputs],
                {detector.rule.rule_id: detector.state() for detector in self.detectors},
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot. Raises ValueError for one of other inputs or another format."""
        saved = msgspec.msgpack.decode(state, type=OrderedState)
        if saved.version != STATE_VERSION:
            raise ValueError(f"state version {saved.version}; this program reads {STATE_VERSION}")
        self._merge.restore(saved.merge, saved.waiting)
        for name, own in zip(self._merge.inputs, saved.repeats, strict=True):
            self._repeats[name].restore(own)
        for detector in self.detectors:
            if (mine := saved.detectors.get(detector.rule.rule_id)) is not None:
                detector.restore(mine)
