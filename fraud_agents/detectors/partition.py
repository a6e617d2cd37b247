"""All detectors over one partition of a topic, and their state as one snapshot: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from fraud_agents.detectors.base import RESULT, escape_key
from fraud_agents.detectors.catalogue import DETECTORS
from fraud_agents.detectors.observation import Detector, Observation
from fraud_agents.detectors.repeats import RepeatFilter, RepeatState
from fraud_agents.rule_set import RuleEntry, RuleSet, RuleState, rule_set_of
from fraud_agents.rules import Rule, RuleScope
from schemas.errors import UsageError
from schemas.events import (
    AlertStatus,
    FraudAlert,
    GameResult,
    Kind,
    PlayerEvent,
    WalletTransaction,
)
from schemas.rule_changes import AlertHandling
from schemas.topics import TRANSACTIONS

STATE_VERSION: Final = 3
SWEEP_MS: Final = 60_000
_STATE_KINDS: Final = (Kind.PLAYER_STATE.value,)


class PartitionState(msgspec.Struct, frozen=True, array_like=True):
    """The state of each version's detector, by rule and version, and the newest event time.

    The active version of a rule is before its others.
    """

    version: int
    detectors: dict[str, bytes]
    watermark_ms: int
    repeats: RepeatState
    blocked: list[str]


class PartitionDetectors:
    """The detectors of one partition of a topic.

    Raises UsageError for a rule that no detector implements.
    """

    def __init__(
        self, rules: Iterable[Rule] | RuleSet, partition: int, topic: str = TRANSACTIONS
    ) -> None:
        self._partition = partition
        self._topic = topic
        self._watermark_ms = 0
        self._repeats = RepeatFilter()
        self._blocked: dict[str, None] = {}
        self._next_due_ms = 0
        self.detectors: tuple[Detector, ...] = ()
        self._use(rule_set_of(rules), {})

    def _use(self, rules: RuleSet, running: dict[str, Detector]) -> None:
        """Make the detectors of a set, but for versions that are running already."""
        unknown = [e.rule.rule_id for e in rules.entries if e.rule.detector_id not in DETECTORS]
        if unknown:
            raise UsageError(
                f"no detector for {', '.join(unknown)}; there are {', '.join(DETECTORS)}"
            )
        self.rules, self.rule_set = rules, rules.name
        made = [
            (running.get(_version_name(entry.rule)) or detector(entry.rule, self._partition), entry)
            for entry in sorted(rules.entries, key=lambda e: e.state is not RuleState.ACTIVE)
            for detector in DETECTORS[entry.rule.detector_id]
            if detector.topic == self._topic
        ]
        self.detectors = tuple(detector for detector, _ in made)
        self._entries = {id(detector): entry for detector, entry in made}
        self._stopping = {e.rule.rule_id for e in rules.entries if e.rule.stops_player}
        self._by_kinds: dict[
            tuple[tuple[str, ...], bool], tuple[tuple[Detector, RuleScope | None], ...]
        ] = {}

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
        for detector, scope in watching:
            if scope is not None and not _is_within(scope, event):
                continue
            detector.watermark_ms = self._watermark_ms
            if found := detector.observe(event, offset):
                alerts += self._handle(detector, found)
            if (due_ms := detector.next_due_ms) < self._next_due_ms:
                self._next_due_ms = due_ms
        if alerts or kinds[0] == _STATE_KINDS:
            self._keep_blocked(event, alerts)
        return alerts

    def _keep_blocked(self, event: Observation, alerts: Iterable[FraudAlert]) -> None:
        if _releases(event):
            self._blocked.pop(f"{escape_key(event.brand)}:{event.player_id}", None)
        for alert in alerts:
            is_stop = alert.severity == "block" and self.may_stop(alert)
            is_over = alert.status == AlertStatus.CLOSED
            if is_stop and not is_over and alert.player_id is not None:
                self._blocked[f"{alert.key.partition(':')[0]}:{alert.player_id}"] = None

    def is_blocked(self, alert: FraudAlert) -> bool:
        """Return whether an alert has blocked this alert's player, who was not released since."""
        return f"{alert.key.partition(':')[0]}:{alert.player_id}" in self._blocked

    def _advance(self) -> list[FraudAlert]:
        alerts: list[FraudAlert] = []
        for detector in self.detectors:
            alerts += self._handle(detector, detector.advance(self._watermark_ms))
        self._next_due_ms = self._find_next_due()
        return alerts

    def _handle(self, detector: Detector, found: Iterable[FraudAlert]) -> Iterable[FraudAlert]:
        """Return the alerts of a detector as they are published."""
        entry = self._entries[id(detector)]
        raised = (self.rules.handle(alert, entry) for alert in found)
        return [alert for alert in raised if alert is not None]

    def may_stop(self, alert: FraudAlert) -> bool:
        """Return whether an alert may block or hold its player, by its rule and its handling."""
        is_meant = alert.handling in {AlertHandling.NORMAL, AlertHandling.CONTROL}
        return is_meant and alert.rule_id in self._stopping

    def switch_rules(self, rules: RuleSet) -> list[FraudAlert]:
        """Go on under other rules; return the ends of alerts that their rules no longer raise.

        A version that was in force keeps its state, a new one begins with that of the active
        version of its rule. An open alert whose handling changes is closed, so that the next
        finding opens one that is handled as the new set says.
        """
        old, old_rules = self.detectors, self.rules
        entries = [self._entries[id(detector)] for detector in old]
        running = {_version_name(one.rule): one for one in old}
        states = {_version_name(one.rule): one.state() for one in old}
        self._use(rules, running)
        closed: list[FraudAlert] = []
        for detector, entry in zip(old, entries, strict=True):
            closed += self._close_changed(detector, old_rules, entry)
        for detector in self.detectors:
            if _version_name(detector.rule) in states:
                continue
            own = self._entries[id(detector)]
            if (state := _state_of(detector.rule, states)) is not None:
                detector.restore(state)
                # The alerts that the superseded version left open go on under the new one.
                if own.state is not RuleState.ACTIVE:
                    detector.close_cases(lambda _: False)
        self._next_due_ms = self._find_next_due()
        return closed

    def _close_changed(
        self, detector: Detector, old_rules: RuleSet, old_entry: RuleEntry
    ) -> list[FraudAlert]:
        entry = self.rules.entry_of(detector.rule)
        if entry is None and self._is_superseded(old_entry):
            return []
        changed: list[FraudAlert] = []

        def is_kept(alert: FraudAlert) -> bool:
            after = None if entry is None else self.rules.handle(alert, entry)
            before = old_rules.handle(alert, old_entry)
            return before is not None and after == before

        for alert in detector.close_cases(is_kept):
            raised = old_rules.handle(alert, old_entry)
            if raised is not None:
                changed.append(raised)
        return changed

    def _is_superseded(self, old: RuleEntry) -> bool:
        """Return whether another version has taken over from an active one."""
        return old.state is RuleState.ACTIVE and any(
            entry.state is RuleState.ACTIVE and entry.rule.rule_id == old.rule.rule_id
            for entry in self.rules.entries
        )

    def _find_next_due(self) -> int:
        # Idle keys are forgotten at whole minutes of event time, so at the same record after a
        # restart.
        minute_ms = self._watermark_ms - self._watermark_ms % SWEEP_MS + SWEEP_MS
        return min([minute_ms, *(detector.next_due_ms for detector in self.detectors)])

    def _find_watching(
        self, kinds: tuple[tuple[str, ...], bool]
    ) -> tuple[tuple[Detector, RuleScope | None], ...]:
        if len(self._by_kinds) > 1_024:  # combinations come from outside
            self._by_kinds.clear()
        watching = tuple(
            (detector, detector.rule.scope)
            for detector in self.detectors
            if detector.kinds is None or not detector.kinds.isdisjoint(kinds[0])
            if detector.sees_repeats or not kinds[1]
        )
        self._by_kinds[kinds] = watching
        return watching

    def state(self) -> bytes:
        """Return a snapshot; equal states give equal bytes."""
        states = {_version_name(one.rule): one.state() for one in self.detectors}
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
            if (own := _state_of(detector.rule, saved.detectors)) is not None:
                detector.restore(own)
        self._next_due_ms = self._find_next_due()


def _version_name(rule: Rule) -> str:
    return f"{rule.rule_id}@{rule.version}"


def _state_of(rule: Rule, states: Mapping[str, bytes]) -> bytes | None:
    """Return the state of a version; else that of the first version of its rule."""
    own = states.get(_version_name(rule))
    if own is not None:
        return own
    return next((s for name, s in states.items() if name.startswith(f"{rule.rule_id}@")), None)


def _is_within(scope: RuleScope, event: Observation) -> bool:
    game_id = event.game_id if isinstance(event, WalletTransaction | GameResult) else None
    return scope.includes(event.region, event.brand, game_id)


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
