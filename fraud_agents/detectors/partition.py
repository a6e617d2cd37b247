"""All detectors over one partition of a topic, and their state as one snapshot: pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from fraud_agents.detectors.base import RESULT
from fraud_agents.detectors.catalogue import DETECTORS
from fraud_agents.detectors.observation import Detector, Observation
from fraud_agents.detectors.repeats import RepeatFilter, RepeatState
from fraud_agents.detectors.versions import RuleVersions
from fraud_agents.rule_set import RuleSet, rule_set_of
from fraud_agents.rules import Rule, RuleScope
from schemas.events import FraudAlert, GameResult, PlayerEvent, RiskSignal, WalletTransaction
from schemas.topics import TRANSACTIONS

STATE_VERSION: Final = 4
SWEEP_MS: Final = 60_000


Watching: TypeAlias = tuple[Detector, RuleScope | None, frozenset[str] | None]
"""A detector, what it is limited to, and the players of its segments."""


class PartitionState(msgspec.Struct, frozen=True, array_like=True):
    """The state of each version's detector, by rule and version, and the newest event time.

    The active version of a rule is before its others.
    """

    version: int
    detectors: dict[str, bytes]
    watermark_ms: int
    repeats: RepeatState


class PartitionDetectors:
    """The detectors of one partition of a topic.

    Raises UsageError for a rule that no detector implements.
    """

    def __init__(
        self, rules: Iterable[Rule] | RuleSet, partition: int, topic: str = TRANSACTIONS
    ) -> None:
        def make(rule: Rule) -> list[Detector]:
            own = DETECTORS[rule.detector_id]
            return [one(rule, partition) for one in own if one.topic == topic]

        self._versions: RuleVersions[Detector] = RuleVersions(rule_set_of(rules), make)
        self.watermark_ms = 0
        """Newest event time of the partition."""
        self.is_repeat = False
        """Whether the id of the latest record was there before."""
        self._repeats = RepeatFilter()
        self._next_due_ms = 0
        self._by_kinds: dict[tuple[tuple[str, ...], bool], tuple[Watching, ...]] = {}

    @property
    def detectors(self) -> tuple[Detector, ...]:
        """The detectors, the active version of a rule before its others."""
        return self._versions.detectors

    @property
    def rules(self) -> RuleSet:
        """The rules in force."""
        return self._versions.rules

    @property
    def rule_set(self) -> str:
        """Name of the rules in force."""
        return self._versions.name

    def observe(self, event: Observation, offset: int) -> list[FraudAlert]:
        """Show one record to its detectors, each offset once and in the order of the log."""
        alerts: list[FraudAlert] = []
        if event.occurred_at > self.watermark_ms:
            self.watermark_ms = event.occurred_at
            if self.watermark_ms >= self._next_due_ms:
                alerts += self._advance()
        event_id = event.signal_id if isinstance(event, RiskSignal) else event.event_id
        self.is_repeat = self._repeats.is_repeat(event_id, self.watermark_ms)
        kinds = (kinds_of(event), self.is_repeat)
        watching = self._by_kinds.get(kinds)
        if watching is None:
            watching = self._find_watching(kinds)
        for detector, scope, players in watching:
            if scope is not None and not _is_within(scope, event):
                continue
            if players is not None and event.player_id not in players:
                continue
            detector.watermark_ms = self.watermark_ms
            if found := detector.observe(event, offset):
                alerts += self._versions.handle(detector, found)
            if (due_ms := detector.next_due_ms) < self._next_due_ms:
                self._next_due_ms = due_ms
        return alerts

    def _advance(self) -> list[FraudAlert]:
        alerts: list[FraudAlert] = []
        for detector in self.detectors:
            alerts += self._versions.handle(detector, detector.advance(self.watermark_ms))
        self._next_due_ms = self._find_next_due()
        return alerts

    def may_stop(self, alert: FraudAlert) -> bool:
        """Return whether an alert may block or hold its player, by its rule and its handling."""
        return self._versions.may_stop(alert)

    def switch_rules(self, rules: RuleSet) -> list[FraudAlert]:
        """Go on under other rules; return the ends of alerts that their rules no longer raise."""
        closed = self._versions.switch(rules)
        self._by_kinds.clear()
        self._next_due_ms = self._find_next_due()
        return closed

    def _find_next_due(self) -> int:
        # Idle keys are forgotten at whole minutes of event time, so at the same record after a
        # restart.
        minute_ms = self.watermark_ms - self.watermark_ms % SWEEP_MS + SWEEP_MS
        return min([minute_ms, *(detector.next_due_ms for detector in self.detectors)])

    def _find_watching(self, kinds: tuple[tuple[str, ...], bool]) -> tuple[Watching, ...]:
        if len(self._by_kinds) > 1_024:  # combinations come from outside
            self._by_kinds.clear()
        watching = tuple(
            (detector, detector.rule.scope, self._versions.players_of(detector))
            for detector in self.detectors
            if detector.kinds is None or not detector.kinds.isdisjoint(kinds[0])
            if detector.sees_repeats or not kinds[1]
        )
        self._by_kinds[kinds] = watching
        return watching

    def state(self) -> bytes:
        """Return a snapshot; equal states give equal bytes."""
        return msgspec.msgpack.encode(
            PartitionState(
                STATE_VERSION,
                self._versions.states(),
                self.watermark_ms,
                self._repeats.dump(),
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot, of this or an earlier version of the rules, before any record.

        Raises ValueError for bytes that are not a snapshot.
        """
        saved = msgspec.msgpack.decode(state, type=PartitionState)
        if saved.version != STATE_VERSION:
            raise ValueError(
                f"snapshot version {saved.version}; this program reads {STATE_VERSION}"
            )
        self.watermark_ms = saved.watermark_ms
        self._repeats.restore(saved.repeats)
        self._versions.restore(saved.detectors)
        self._next_due_ms = self._find_next_due()


def _is_within(scope: RuleScope, event: Observation) -> bool:
    if isinstance(event, RiskSignal):
        return scope.includes("", event.brand, None)  # it names no region
    game_id = event.game_id if isinstance(event, WalletTransaction | GameResult) else None
    return scope.includes(event.region, event.brand, game_id)


def kinds_of(event: Observation) -> tuple[str, ...]:
    """Return the kinds of a record: of its legs, its type, its own, or that it is a result."""
    if isinstance(event, WalletTransaction):
        legs = event.legs
        return (legs[0].kind,) if len(legs) == 1 else tuple([leg.kind for leg in legs])
    if isinstance(event, RiskSignal):
        return (event.kind,)
    return (event.type,) if isinstance(event, PlayerEvent) else (RESULT,)
