"""Explanation of an alert: its window by the second, and its rule run again.

Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from fraud_agents.detectors import BetVelocity, Observation
from fraud_agents.detectors.base import NEVER
from fraud_agents.detectors.d01_bet_velocity import REOPENED
from fraud_agents.detectors.global_signals import GlobalDetectors
from fraud_agents.detectors.ordered import OrderedDetectors
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.detectors.shard import MERGED
from fraud_agents.detectors.signal_base import Scope
from fraud_agents.rule_set import RuleEntry, RuleSet, RuleState
from fraud_agents.rules import Rule, find_rule
from fraud_agents.windows import SECOND_MS
from schemas.events import FraudAlert, RiskSignal
from schemas.heartbeats import Watched
from schemas.rule_changes import AlertHandling
from schemas.topics import SIGNALS

_SINCE_FIRST_SEEN: Final = ("late_events", "duplicate_events")
"""Evidence that counts from a key's first record on; a re-run sees only the last records."""


_SINCE_CLOSED: Final = ("revision", "status", "occurred_at", f"evidence.{REOPENED}")


class WindowSecond(msgspec.Struct, frozen=True):
    """One second of the window, epoch ms of its start.

    `running` counts the window that ends with it.
    """

    at_ms: int
    counted: int
    running: int
    is_crossing: bool
    """The first second whose window reaches the threshold."""


class Explanation(msgspec.Struct, frozen=True):
    """Seconds of an alert's window, and whether its rule raises it again over the same records.

    Only a rule that counts by the second has seconds to show.
    """

    alert_id: str
    seconds: list[WindowSecond]
    records: int
    """Number of the player's records that were read again."""
    differences: list[str]
    event_ids: list[str] = []
    """The events of the window, where the rule counts by the second."""

    @property
    def agrees(self) -> bool:
        """Whether the re-run raised the same alert."""
        return not self.differences


def first_offset_of(alert: FraudAlert) -> int:
    """Return the offset to begin at, so that the rule sees what it saw when it raised the alert.

    What the rule remembered begins before the window. The offset is enough unless a copy, under
    another event time, of an event that was forgotten since is among the records. Then a re-run
    from here counts it, and only one from further back agrees.
    """
    first = min(source.first_offset for source in alert.sources)
    return min(first, int(alert.evidence.get("warm_from_offset", first)))


def explain(
    alert: FraudAlert, events: Iterable[tuple[int, Observation]], rules: Sequence[Rule]
) -> Explanation:
    """Run the alert's rule over the records that it rests on.

    `events` are offsets and observations in the log's order; they begin at `first_offset_of(alert)`
    or earlier and may be those of the alert's player alone. Raises UsageError if the rule that
    raised the alert is not among `rules`.
    """
    entry = _entry_of(alert, rules)
    rule = entry.rule
    [source] = alert.sources
    watch, read = PartitionDetectors(RuleSet((entry,)), source.partition, source.topic), 0
    raised: list[FraudAlert] = []
    for offset, event in events:
        if offset <= source.last_offset:
            raised += watch.observe(event, offset)
            read += 1
    [detector] = watch.detectors
    # Timers were due at records of other players, which are not read again.
    due = (watch.rules.handle(one, entry) for one in detector.advance(NEVER))
    raised += [one for one in due if one is not None]
    seconds: list[WindowSecond] = []
    event_ids: list[str] = []
    if isinstance(detector, BetVelocity):
        before = detector.contributions(
            alert.key, alert.window_start - rule.window_ms, alert.window_end
        )
        seconds = _seconds(alert, rule, Counter(event.at_ms // SECOND_MS for event in before))
        event_ids = [event.event_id for event in before if event.at_ms >= alert.window_start]
    return Explanation(
        alert_id=alert.alert_id,
        seconds=seconds,
        records=read,
        differences=_differences(alert, raised),
        event_ids=event_ids,
    )


def explain_merged(
    alert: FraudAlert,
    records: Mapping[str, Iterable[tuple[int, Watched]]],
    partition: int,
    rules: Sequence[Rule],
) -> Explanation:
    """Run a rule over the log and the player events again: all records of the alert's player.

    Raises UsageError if the rule that raised the alert is not among `rules`.
    """
    entry = _entry_of(alert, rules)
    inputs = [(topic, partition) for topic in MERGED]
    watch = OrderedDetectors(RuleSet((entry,)), inputs, Scope.PLAYER, MERGED)
    raised: list[FraudAlert] = []
    read = 0
    for topic, own in records.items():
        for offset, event in own:
            raised += watch.observe(event, (topic, partition), offset)
            read += 1
    for source in inputs:
        raised += watch.beat(source, NEVER)
    return Explanation(alert.alert_id, [], read, _differences(alert, raised))


def explain_global(
    alert: FraudAlert,
    signals: Iterable[tuple[int, RiskSignal]],
    partition: int,
    count: int,
    rules: Sequence[Rule],
) -> Explanation:
    """Run a rule over a partition of the signals again, from the first on.

    `count` is the number of partitions of the log. Raises UsageError if the rule that raised the
    alert is not among `rules`.
    """
    entry = _entry_of(alert, rules)
    watch = GlobalDetectors(RuleSet((entry,)), partition, count)
    raised: list[FraudAlert] = []
    read = 0
    for offset, signal in signals:
        raised += watch.observe(SIGNALS, signal, offset)
        read += 1
    return Explanation(alert.alert_id, [], read, _differences(alert, raised))


def _entry_of(alert: FraudAlert, rules: Sequence[Rule]) -> RuleEntry:
    rule = find_rule(
        rules, alert.rule_id, alert.rule_version, alert.evidence.get("rule_digest", "")
    )
    is_trial = alert.handling == AlertHandling.SHADOW
    return RuleEntry(rule, RuleState.SHADOW if is_trial else RuleState.ACTIVE)


def _seconds(alert: FraudAlert, rule: Rule, counts: Counter[int]) -> list[WindowSecond]:
    length = rule.window_ms // SECOND_MS
    seconds, has_crossed = [], False
    for second in range(alert.window_start // SECOND_MS, alert.window_end // SECOND_MS):
        running = sum(counts[earlier] for earlier in range(second - length + 1, second + 1))
        is_crossing = running >= alert.threshold and not has_crossed
        has_crossed = has_crossed or is_crossing
        seconds.append(WindowSecond(second * SECOND_MS, counts[second], running, is_crossing))
    return seconds


def _differences(alert: FraudAlert, raised: Sequence[FraudAlert]) -> list[str]:
    is_reopened = REOPENED in alert.evidence
    same = [
        again
        for again in raised
        if again.alert_id == alert.alert_id
        if again.revision == alert.revision or (is_reopened and again.severity == alert.severity)
    ]
    if not same:
        others = ", ".join(again.alert_id for again in raised) or "none"
        return [f"the rule does not raise this alert over these records; it raises {others}"]
    published, found = _comparable(alert), _comparable(same[0])
    return [
        f"{name}: published {published[name]!r}, found {found.get(name)!r}"
        for name in published
        if published[name] != found.get(name)
        # A snooze is of the installation, not of the rule.
        if not (name == "handling" and alert.handling == AlertHandling.SNOOZED)
        # Other players' records had closed it before; they are not read again.
        if not (is_reopened and name in _SINCE_CLOSED)
    ]


def _comparable(alert: FraudAlert) -> dict[str, object]:
    fields: dict[str, object] = {
        name: getattr(alert, name) for name in alert.__struct_fields__ if name != "evidence"
    }
    evidence = {
        f"evidence.{name}": text
        for name, text in alert.evidence.items()
        if name not in _SINCE_FIRST_SEEN
    }
    return {**fields, **evidence}
