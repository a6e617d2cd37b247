"""Run the production detectors over labelled traffic, and score their alerts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

import msgspec

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.global_signals import GlobalDetectors
from fraud_agents.detectors.shard import WATCHED, ShardDetectors
from fraud_agents.rule_feed import POLL_MS
from fraud_agents.rules import SEVERITIES, Rule
from lab.fraud.story import Sent
from lab.fraud.traffic import Traffic
from lab.fraud.truth import Truth
from runtime.kafka.partitioner import partition_for
from schemas.events import AlertStatus, FraudAlert
from schemas.topics import SIGNALS

PARTITIONS: Final = 4
CATALOGUE: Final = tuple(
    sorted([*(f"D{number:02}" for number in range(1, 21)), "D01B", "D02B", "D18B"])
)
"""The detectors of the definitions; one without a rule is None in a score."""


class Raised(msgspec.Struct, frozen=True):
    """One record of an alert, and when the record was appended that raised it."""

    alert: FraudAlert
    append_ms: int


class DetectorScore(msgspec.Struct):
    """Score of one detector."""

    recall: float
    precision: float
    seconds_to_alert: float | None
    """Median over the cases found, from the moment that the definition was met."""
    exposed_minor: int
    """Money of the cases that was at stake before their alerts, in minor units."""
    injections: int
    near_misses: int
    alerts: int
    cases_alerted: int
    """Cases with an alert that is right: several of one case are one for the precision."""
    missed: list[str]
    false_alerts: list[str]


class FraudScore(msgspec.Struct):
    """Score of a run. A detector that does not exist is None."""

    seed: int
    records: int
    precision: float
    detectors: dict[str, DetectorScore | None]
    hard_negative_alerts: list[str]


class Watch:
    """The production detectors over every partition of the topics that they read, in memory.

    As in a worker, the shards' signals are what the detectors with other keys see.
    """

    def __init__(self, rules: Sequence[Rule] = DEFAULT_RULES) -> None:
        self._shards = [ShardDetectors(rules, partition) for partition in range(PARTITIONS)]
        self._everywhere = GlobalDetectors(rules, 0, PARTITIONS)
        self._offsets: dict[tuple[str, int], int] = defaultdict(int)

    def observe(self, sent: Sent) -> list[FraudAlert]:
        """Append a record to its partition, or to every one, and return the alerts it raises."""
        # A record without a key is a heartbeat: every partition of the log has its own.
        partitions = (
            [partition_for(sent.key.encode(), PARTITIONS)] if sent.key else range(PARTITIONS)
        )
        return [
            alert
            for partition in partitions
            for alert in self._append(sent.topic, partition, sent.record)
        ]

    def announce_idle(self) -> list[FraudAlert]:
        """Say of partitions without new records how far the others have come, as a worker does."""
        newest_ms = max(one.newest_ms(topic) for one in self._shards for topic in WATCHED)
        alerts: list[FraudAlert] = []
        releases = {topic: self._everywhere.releases(topic, newest_ms) for topic in WATCHED}
        for shard in self._shards:
            for topic in WATCHED:
                if not shard.is_waited_for(topic, newest_ms, releases[topic]):
                    continue
                next_offset = self._offsets[topic, shard.partition]
                signal, beat = shard.announce(topic, next_offset, newest_ms, releases[topic])
                if signal is not None:
                    alerts += self._append(SIGNALS, 0, signal)
                if beat is not None:
                    alerts += self._append(topic, shard.partition, beat)
        return alerts

    def _append(self, topic: str, partition: int, record: Any) -> list[FraudAlert]:
        if topic == SIGNALS:
            return self._everywhere.observe(topic, record, self._next_offset(topic, 0))
        offset, shard = self._next_offset(topic, partition), self._shards[partition]
        alerts = shard.observe(topic, record, offset)
        for signal in shard.take_signals(topic, offset + 1):
            alerts += self._everywhere.observe(SIGNALS, signal, self._next_offset(SIGNALS, 0))
        return alerts

    def _next_offset(self, topic: str, partition: int) -> int:
        self._offsets[topic, partition] += 1
        return self._offsets[topic, partition] - 1

    def states(self) -> list[dict[str, bytes]]:
        """Return a snapshot of each set of detectors."""
        return [*(shard.states() for shard in self._shards), self._everywhere.states()]

    def restore(
        self, states: Sequence[Mapping[str, bytes]], offsets: Mapping[tuple[str, int], int]
    ) -> None:
        """Take over the snapshots of another watch, and where it stopped."""
        *of_shards, everywhere = states
        for shard, state in zip(self._shards, of_shards, strict=True):
            shard.restore(state)
        self._everywhere.restore(everywhere)
        self._offsets |= offsets

    @property
    def offsets(self) -> Mapping[tuple[str, int], int]:
        """The next offset of each partition."""
        return self._offsets


def run_detectors(traffic: Traffic, rules: Sequence[Rule] = DEFAULT_RULES) -> list[Raised]:
    """Return every alert record that the rules raise over the traffic, in order."""
    watch = Watch(rules)
    raised: list[Raised] = []
    before_ms = 0
    for sent in traffic.sent:
        if sent.append_ms >= before_ms + POLL_MS:
            raised += [Raised(alert, before_ms + POLL_MS) for alert in watch.announce_idle()]
        raised += [Raised(alert, sent.append_ms) for alert in watch.observe(sent)]
        before_ms = sent.append_ms
    return raised + [Raised(alert, before_ms + POLL_MS) for alert in watch.announce_idle()]


def score(
    traffic: Traffic, raised: Sequence[Raised], rules: Sequence[Rule] = DEFAULT_RULES, seed: int = 0
) -> FraudScore:
    """Compare alerts with the truth."""
    truth_of = _truth_by_subject(traffic.truths)
    by_rule: dict[str, dict[str, list[Raised]]] = defaultdict(lambda: defaultdict(list))
    for one in raised:
        if one.alert.status != AlertStatus.CLOSED:
            by_rule[one.alert.rule_id][one.alert.alert_id].append(one)
    detectors: dict[str, DetectorScore | None] = {}
    for name in CATALOGUE:
        has_rule = any(rule.rule_id == name for rule in rules)
        truths = [truth for truth in traffic.truths if truth.detector == name]
        detectors[name] = _score_one(traffic, truths, by_rule[name], truth_of) if has_rule else None
    right = sum(one.cases_alerted for one in detectors.values() if one)
    wrong = sum(len(one.false_alerts) for one in detectors.values() if one)
    return FraudScore(
        seed=seed,
        records=len(traffic.sent),
        precision=_ratio(right, right + wrong),
        detectors=detectors,
        hard_negative_alerts=sorted(
            f"{alerts[0].alert.rule_id} {traffic.hard_negatives[alerts[0].alert.player_id or '']}"
            for own in by_rule.values()
            for alerts in own.values()
            if (alerts[0].alert.player_id or "") in traffic.hard_negatives
        ),
    )


def _truth_by_subject(truths: Sequence[Truth]) -> dict[str, Truth]:
    return {subject: truth for truth in truths for subject in (*truth.players, *truth.keys)}


def _score_one(
    traffic: Traffic,
    truths: Sequence[Truth],
    alerts: Mapping[str, list[Raised]],
    truth_of: Mapping[str, Truth],
) -> DetectorScore:
    found: dict[int, Raised] = {}
    false_alerts: list[str] = []
    right: set[int] = set()
    skipped = 0
    for records in alerts.values():
        truth = _truth_of(records[0].alert, truth_of)
        if truth is not None and records[0].alert.rule_id in truth.also:
            skipped += 1
            continue
        if truth is None or truth not in truths or not _is_right(truth, records):
            false_alerts.append(_describe(records[-1].alert, truth))
            continue
        right.add(truth.number)
        for one in records:
            if _rank(one.alert.severity) >= _rank(truth.severity or "info"):
                found.setdefault(truth.number, one)
                break
    expected = [truth for truth in truths if truth.severity is not None]
    seconds = [
        max(0.0, (found[truth.number].append_ms - truth.complete_ms) / 1_000)
        for truth in expected
        if truth.number in found
    ]
    return DetectorScore(
        recall=_ratio(len(found), len(expected)),
        precision=_ratio(len(right), len(right) + len(false_alerts)),
        seconds_to_alert=round(median(seconds), 3) if seconds else None,
        exposed_minor=_exposed_before(traffic, found),
        injections=len(expected),
        near_misses=len(truths) - len(expected),
        alerts=len(alerts) - skipped,
        cases_alerted=len(right),
        missed=sorted(
            f"{truth.name} {truth.level}" for truth in expected if truth.number not in found
        ),
        false_alerts=sorted(false_alerts),
    )


def _exposed_before(traffic: Traffic, found: dict[int, Raised]) -> int:
    """Return the money of the cases found that was at stake before their alerts."""
    return sum(
        sent.money
        for sent in traffic.sent
        if sent.case in found and sent.append_ms <= found[sent.case].append_ms
    )


def _truth_of(alert: FraudAlert, truth_of: Mapping[str, Truth]) -> Truth | None:
    return truth_of.get(alert.player_id or "") or truth_of.get(alert.key)


def _is_right(truth: Truth, records: Sequence[Raised]) -> bool:
    worst = max(_rank(one.alert.severity) for one in records)
    return truth.severity is not None and worst <= _rank(truth.severity_max)


def _rank(severity: str) -> int:
    return [*SEVERITIES].index(severity)  # type: ignore[arg-type] # a word of an alert


def _describe(alert: FraudAlert, truth: Truth | None) -> str:
    where = "ordinary" if truth is None else f"{truth.detector} {truth.name} {truth.level}"
    return f"{alert.severity} {alert.reason} on {where}"


def _ratio(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 1.0
