"""Detectors over several partitions in the order of event time: pure.

Their records are merged by watermark, so that a location and the bet it belongs to are seen in the
order in which they happened, whatever topic and partition they came through. Alerts come when the
lowest watermark of the inputs has passed, which is the grace later than the record. How the records
of different inputs interleave changes no alert.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
from fraud_agents.detectors.signal_base import Scope, SignalDetector
from fraud_agents.detectors.versions import RuleVersions
from fraud_agents.rule_set import RuleSet, rule_set_of
from fraud_agents.rules import Rule, RuleScope
from fraud_agents.signals import Signal, signals_of
from fraud_agents.windows import Arrival, InputId, OrderedMerge, Released
from fraud_agents.windows.watermark import MergeState
from schemas.events import FraudAlert
from schemas.heartbeats import Watched, is_heartbeat
from schemas.topics import TRANSACTIONS

STATE_VERSION: Final = 2
GRACE_MS: Final = 10_000
"""How far behind its partition's newest record a record may be: delays of connectors, not outages;
what comes later is counted as late."""
SWEEP_MS: Final = 60_000


Watching: TypeAlias = tuple[SignalDetector[Any], RuleScope | None, frozenset[str] | None]
"""A detector, what it is limited to, and the players of its segments."""


class OrderedState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot: the merge with its waiting signals, and detectors by rule and version."""

    version: int
    merge: MergeState
    waiting: list[Signal]
    detectors: dict[str, bytes]
    judged_offset: int


class OrderedDetectors:
    """The signal detectors of one scope over the same topics, and their inputs.

    `on_late` is called with each signal that comes too late to be shown.
    """

    def __init__(
        self,
        rules: Iterable[Rule] | RuleSet,
        inputs: Sequence[InputId],
        scope: Scope,
        topics: Sequence[str],
        on_late: Callable[[Signal], None] | None = None,
    ) -> None:
        def make(rule: Rule) -> list[SignalDetector[Any]]:
            own = SIGNAL_DETECTORS.get(rule.detector_id)
            fits = own is not None and own.scope is scope and own.topics == tuple(topics)
            return [own(rule, 0)] if own is not None and fits else []

        self._versions: RuleVersions[SignalDetector[Any]] = RuleVersions(rule_set_of(rules), make)
        self._merge: OrderedMerge[Signal] = OrderedMerge(inputs, GRACE_MS)
        self._on_late = on_late
        self._next_due_ms = 0
        self.judged_offset = -1
        """Highest offset of the log at which rules were changed: see `plan_switches`."""
        self._switches: deque[tuple[int, int]] = deque()
        self._rule_set_at: Callable[[int], RuleSet] | None = None
        self.kinds = signal_kinds(scope, topics)
        self._watching = self._find_watching()

    def _find_watching(self) -> dict[str, list[Watching]]:
        """Return by kind of signal the detectors that look at it, and what each is limited to."""
        return {
            kind: [
                (detector, detector.rule.scope, self._versions.players_of(detector))
                for detector in self.detectors
                if kind in detector.signals
            ]
            for kind in self.kinds
        }

    @property
    def detectors(self) -> tuple[SignalDetector[Any], ...]:
        """The detectors, the active version of a rule before its others."""
        return self._versions.detectors

    @property
    def inputs(self) -> tuple[InputId, ...]:
        """Topics and partitions that are merged."""
        return self._merge.inputs

    @property
    def newest_ms(self) -> int:
        """The newest event time of any input; negative before the first."""
        return self._merge.newest_ms

    @property
    def next_release_ms(self) -> int | None:
        """Event time that all inputs must come to for the next signal to be shown.

        None where none waits.
        """
        first_ms = self._merge.first_waiting_ms
        return None if first_ms is None else first_ms + GRACE_MS + 1

    def last_release_ms(self, newest_ms: int) -> int | None:
        """Return what all inputs must come to, so that nothing waits which `newest_ms` has passed.

        None where nothing does.
        """
        last_ms = self._merge.last_waiting_ms(newest_ms - GRACE_MS)
        return None if last_ms is None else last_ms + GRACE_MS + 1

    def may_stop(self, alert: FraudAlert) -> bool:
        """Return whether an alert may block or hold its player, by its rule and its handling."""
        return self._versions.may_stop(alert)

    def observe(
        self, event: Watched, source: InputId, offset: int, *, is_repeat: bool = False
    ) -> list[FraudAlert]:
        """Take in a record of an input, each offset once and in the order of its partition.

        Of an event whose id was there before (`is_repeat`), only the time counts.
        """
        if is_repeat or is_heartbeat(event):
            self._merge.beat(source, event.occurred_at)
        else:
            signals = signals_of(event, *source, offset, self.kinds)
            self._push(source, event.occurred_at, offset, signals)
        return self._release()

    def take(self, signal: Signal) -> list[FraudAlert]:
        """Take in a signal that was made of a record elsewhere, in the order of its partition."""
        self._push((signal.topic, signal.partition), signal.at_ms, signal.offset, [signal])
        return self._release()

    def _push(self, source: InputId, at_ms: int, offset: int, signals: Sequence[Signal]) -> None:
        if self._merge.push(source, at_ms, offset, signals) is Arrival.LATE:
            for released in self._merge.take_late():
                if self._on_late is not None:
                    self._on_late(released.item)

    def beat(self, source: InputId, at_ms: int) -> list[FraudAlert]:
        """Take in that an input has come to an event time."""
        self._merge.beat(source, at_ms)
        return self._release()

    def _release(self) -> list[FraudAlert]:
        alerts: list[FraudAlert] = []
        for released in self._merge.drain():
            if self._switches and released.source[0] == TRANSACTIONS:
                alerts += self._switch_at(released.offset)
            alerts += self._show(released)
        if self._merge.watermark_ms >= self._next_due_ms:
            alerts += self._advance(self._merge.watermark_ms)
        return alerts

    def _show(self, released: Released[Signal]) -> list[FraudAlert]:
        at_ms, signal = released.at_ms, released.item
        # Timers that are due before the signal fire before it.
        alerts = self._advance(at_ms) if self._next_due_ms <= at_ms else []
        for detector, scope, players in self._watching[signal.kind]:
            if scope is not None and not scope.includes(signal.region, signal.brand, None):
                continue
            if players is not None and signal.player_id not in players:
                continue
            detector.watermark_ms = max(detector.watermark_ms, at_ms)
            if found := detector.observe(signal, released.offset):
                alerts += self._versions.handle(detector, found)
            if (due_ms := detector.next_due_ms) < self._next_due_ms:
                self._next_due_ms = due_ms
        return alerts

    def _advance(self, watermark_ms: int) -> list[FraudAlert]:
        alerts: list[FraudAlert] = []
        for detector in self.detectors:
            alerts += self._versions.handle(detector, detector.advance(watermark_ms))
        self._next_due_ms = self._find_next_due(watermark_ms)
        return alerts

    def _find_next_due(self, watermark_ms: int) -> int:
        minute_ms = watermark_ms - watermark_ms % SWEEP_MS + SWEEP_MS
        return min([minute_ms, *(detector.next_due_ms for detector in self.detectors)])

    # --- rules that change -------------------------------------------------------------------

    def plan_switches(
        self, switches: Iterable[tuple[int, int]], rule_set_at: Callable[[int], RuleSet]
    ) -> None:
        """Have rules changed at offsets of the log: (from offset, position of the rules).

        They change before the first signal of a record at or behind the offset is shown; the order
        of signals is that of event time, so it is the same in every run.
        """
        self._switches = deque(one for one in switches if one[0] > self.judged_offset)
        self._rule_set_at = rule_set_at

    def _switch_at(self, offset: int) -> list[FraudAlert]:
        closed: list[FraudAlert] = []
        while self._switches and self._switches[0][0] <= offset:
            self.judged_offset, position = self._switches.popleft()
            assert self._rule_set_at is not None
            closed += self.switch_rules(self._rule_set_at(position))
        return closed

    def switch_rules(self, rules: RuleSet) -> list[FraudAlert]:
        """Go on under other rules; return the ends of alerts that their rules no longer raise."""
        closed = self._versions.switch(rules)
        self._watching = self._find_watching()
        self._next_due_ms = self._find_next_due(self._merge.watermark_ms)
        return closed

    # --- snapshots ---------------------------------------------------------------------------

    def state(self) -> bytes:
        """Return a snapshot; equal states give equal bytes."""
        merge, waiting = self._merge.dump()
        states = self._versions.states()
        return msgspec.msgpack.encode(
            OrderedState(STATE_VERSION, merge, waiting, states, self.judged_offset)
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot. Raises ValueError for one of other inputs or another format."""
        saved = msgspec.msgpack.decode(state, type=OrderedState)
        if saved.version != STATE_VERSION:
            raise ValueError(f"state version {saved.version}; this program reads {STATE_VERSION}")
        self._merge.restore(saved.merge, saved.waiting)
        self._versions.restore(saved.detectors)
        self.judged_offset = saved.judged_offset
        self._next_due_ms = self._find_next_due(self._merge.watermark_ms)


def signal_kinds(scope: Scope, topics: Sequence[str]) -> frozenset[str]:
    """Return the kinds of signals that detectors of a scope over these topics look at.

    They do not depend on the rules in force: a rule may take effect before a signal is shown that
    is waiting already.
    """
    own = [
        one.signals
        for one in SIGNAL_DETECTORS.values()
        if one.scope is scope and one.topics == tuple(topics)
    ]
    return frozenset[str]().union(*own)


def judged_offset_of(state: bytes) -> int:
    """Return the offset of the log at which the rules of a snapshot took effect.

    Raises ValueError for bytes that are not a snapshot.
    """
    return msgspec.msgpack.decode(state, type=OrderedState).judged_offset
