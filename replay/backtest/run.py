"""A stretch of the log through the detectors, once for each rule, by the code of production."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType
from typing import Any, Final

from fraud_agents.detectors.catalogue import DETECTORS
from fraud_agents.detectors.observation import Observation
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.rules import Rule
from replay.backtest.margins import MARGINS, demand_more
from replay.backtest.merged import (
    BacktestRecord,
    PlayerMerge,
    RuleDetectors,
    SignalMerge,
    merged_topics,
    read_merged,
)
from replay.backtest.scoping import RuleSwitches, ScopedRule, SegmentMembers
from replay.log.blocks import LogBlock, LogSource
from schemas import codec
from schemas.errors import Rejected
from schemas.events import (
    AlertStatus,
    FraudAlert,
    GameResult,
    PlayerEvent,
    RiskSignal,
    WalletTransaction,
)
from schemas.topics import GAME_RESULTS, PLAYER_EVENTS, SIGNALS, TRANSACTIONS

DRAFT: Final = "draft"
ACTIVE: Final = "active"

_RECORD_TYPES: Final[Mapping[str, type[Any]]] = MappingProxyType(
    {
        TRANSACTIONS: WalletTransaction,
        PLAYER_EVENTS: PlayerEvent,
        GAME_RESULTS: GameResult,
        SIGNALS: RiskSignal,
    }
)
_CHUNK: Final = 4_096

ShowProgress = Callable[[int, int], None]
"""Takes how many offsets have been read, and how many there are."""


@dataclass(frozen=True)
class BacktestPlan:
    """Which rules are tried over which time of a topic's records, by their append times."""

    prefix: str
    """Of the topics' names on the broker."""
    draft: Rule
    active: Rule | None
    """The version that applies now; None for a rule that has none."""
    since_ms: int
    until_ms: int
    warm_up_ms: int
    """So long before the time the detectors begin, so that windows are full at its beginning."""
    members: SegmentMembers = field(default_factory=SegmentMembers)
    """Players of the segments that the rules' scopes name."""

    @property
    def topics(self) -> list[str]:
        """The topics that the rule's detectors read, without the prefix."""
        detector_id = self.draft.detector_id
        if (merged := merged_topics(detector_id)) is not None:
            return [*merged]
        found = {detector.topic for detector in DETECTORS[detector_id]}
        return sorted(found, key=lambda topic: (topic != TRANSACTIONS, topic))

    @property
    def rules(self) -> dict[str, Rule]:
        """The rules by name: the draft, the active one, and the draft moved by each margin."""
        rules = {DRAFT: self.draft}
        if self.active is not None:
            rules[ACTIVE] = self.active
        for percent in (*MARGINS, *(-percent for percent in MARGINS)):
            rules[margin_name(percent)] = demand_more(self.draft, percent)
        return rules


def margin_name(percent: int) -> str:
    """Return the name of the draft moved by a percent."""
    return f"{percent:+d}%"


def default_warm_up_ms(*rules: Rule | None) -> int:
    """Return the time after which every one of the rules has forgotten what came before."""
    return max(rule.idle_ms for rule in rules if rule is not None)


@dataclass
class RaisedAlert:
    """An alert of one rule: its last record, and the time of the record that opened it."""

    alert: FraudAlert
    opened_at_ms: int


@dataclass
class RuleRun:
    """What one rule did with the events."""

    rule: Rule
    alerts: dict[str, RaisedAlert] = field(default_factory=dict)
    """By id; only those that were opened within the time."""
    cpu_ns: int = 0

    def take(self, alert: FraudAlert, append_ms: int, *, is_inside: bool) -> None:
        """Note one record of an alert."""
        known = self.alerts.get(alert.alert_id)
        if known is not None:
            known.alert = alert
        elif is_inside and alert.status == AlertStatus.OPEN:
            self.alerts[alert.alert_id] = RaisedAlert(alert, append_ms)


@dataclass
class BacktestRun:
    """Every rule's alerts, and what they were raised over."""

    runs: dict[str, RuleRun]
    events: int = 0
    """Of the time itself."""
    observed: int = 0
    """With those before it, which the detectors have seen too."""
    players: set[str] = field(default_factory=set)
    unreadable: list[str] = field(default_factory=list)


def run_backtest(
    source: LogSource, plan: BacktestPlan, progress: ShowProgress = lambda _, __: None
) -> BacktestRun:
    """Show the records of a time to each rule's detectors.

    The same log gives the same alerts, to the id. Raises UsageError, LogGap, Unavailable.
    """
    topics = plan.topics
    result = BacktestRun({name: RuleRun(rule) for name, rule in plan.rules.items()})
    if merged_topics(plan.draft.detector_id) is not None:
        _run_merged(source, plan, topics, result, progress)
        return result
    for topic in topics:
        _run_topic(source, plan, topic, result, progress)
    return result


def _run_topic(
    source: LogSource, plan: BacktestPlan, topic: str, result: BacktestRun, progress: ShowProgress
) -> None:
    name = plan.prefix + topic
    begins = source.first_at(name, max(0, plan.since_ms - plan.warm_up_ms))
    insides = source.first_at(name, plan.since_ms)
    ends = source.first_at(name, plan.until_ms)
    total = sum(max(0, ends[partition] - begins[partition]) for partition in begins)
    done = 0
    for partition, begin in sorted(begins.items()):
        if begin >= ends[partition]:
            continue
        detectors = {
            key: _OneTopic(plan.members.scope(rule, topic, partition, begin), partition, topic)
            for key, rule in plan.rules.items()
        }
        for block in source.read(name, partition, begin, ends[partition]):
            records = [*_events_of(block, topic, result)]
            _observe(records, insides[partition], detectors, result)
            progress(done + block.offsets[-1] + 1 - begin, total)
        done += ends[partition] - begin


def _run_merged(
    source: LogSource,
    plan: BacktestPlan,
    topics: Sequence[str],
    result: BacktestRun,
    progress: ShowProgress,
) -> None:
    names = {topic: plan.prefix + topic for topic in topics}
    begins, insides, ends = (
        {topic: source.first_at(name, max(0, at_ms)) for topic, name in names.items()}
        for at_ms in (plan.since_ms - plan.warm_up_ms, plan.since_ms, plan.until_ms)
    )
    count = len(source.bounds(plan.prefix + TRANSACTIONS))
    total = sum(
        max(0, ends[topic][partition] - begin)
        for topic, own in begins.items()
        for partition, begin in own.items()
    )
    done = 0
    for partition in sorted(begins[topics[0]]):
        spans = {topic: (begins[topic][partition], ends[topic][partition]) for topic in topics}
        detectors: dict[str, RuleDetectors] = {
            key: SignalMerge(scoped, partition, count)
            if topics == [SIGNALS]
            else PlayerMerge(scoped, partition)
            for key, rule in plan.rules.items()
            for scoped in (_scope_merged(plan, rule, partition, begins),)
        }
        records = read_merged(
            source,
            plan.prefix,
            partition,
            spans,
            lambda block, topic: _events_of(block, topic, result),
        )
        while chunk := [*islice(records, _CHUNK)]:
            _observe_merged(chunk, insides, partition, detectors, result)
            done += len(chunk)
            progress(min(done, total), total)


def _scope_merged(
    plan: BacktestPlan, rule: Rule, partition: int, begins: Mapping[str, Mapping[int, int]]
) -> ScopedRule:
    """Return a rule of a merge, whose rules change at offsets of the log or of the signals."""
    topic = SIGNALS if SIGNALS in begins else TRANSACTIONS
    return plan.members.scope(rule, topic, partition, begins[topic][partition])


class _OneTopic:
    """One rule over a partition of one topic."""

    def __init__(self, scoped: ScopedRule, partition: int, topic: str) -> None:
        self._detectors = PartitionDetectors(scoped.rules, partition, topic)
        self._switches = RuleSwitches(scoped, self._detectors.switch_rules)

    def observe(self, event: Observation, offset: int) -> list[FraudAlert]:
        """Take in a record."""
        closed = self._switches.reach(offset)
        return closed + self._detectors.observe(event, offset)


def _observe_merged(
    records: Sequence[BacktestRecord],
    insides: Mapping[str, Mapping[int, int]],
    partition: int,
    detectors: Mapping[str, RuleDetectors],
    result: BacktestRun,
) -> None:
    inside = [record.offset >= insides[record.topic][partition] for record in records]
    for record, is_inside in zip(records, inside, strict=True):
        result.observed += record.is_event
        if is_inside and record.is_event:
            result.events += 1
            if record.event.player_id is not None:
                result.players.add(f"{record.event.brand}:{record.event.player_id}")
    for name, own in detectors.items():
        run = result.runs[name]
        began_ns = time.thread_time_ns()
        for record, is_inside in zip(records, inside, strict=True):
            for alert in own.observe(record):
                run.take(alert, record.append_ms, is_inside=is_inside)
        run.cpu_ns += time.thread_time_ns() - began_ns


def _observe(
    records: Sequence[tuple[int, int, Observation]],
    inside_from: int,
    detectors: Mapping[str, _OneTopic],
    result: BacktestRun,
) -> None:
    for offset, _, event in records:
        result.observed += 1
        if offset >= inside_from:
            result.events += 1
            if event.player_id is not None:
                result.players.add(f"{event.brand}:{event.player_id}")
    for name, own in detectors.items():
        run = result.runs[name]
        began_ns = time.thread_time_ns()
        for offset, append_ms, event in records:
            for alert in own.observe(event, offset):
                run.take(alert, append_ms, is_inside=offset >= inside_from)
        run.cpu_ns += time.thread_time_ns() - began_ns


def _events_of(block: LogBlock, topic: str, result: BacktestRun) -> Iterator[tuple[int, int, Any]]:
    decode = codec.decoder(_RECORD_TYPES[topic])
    records = zip(block.offsets, block.timestamps_ms, block.values, strict=True)
    for index, (offset, append_ms, value) in enumerate(records):
        try:
            yield offset, append_ms, decode(value or b"")
        except Rejected:
            result.unreadable.append(block.place(index))
