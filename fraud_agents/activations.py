"""From which record of a partition on which rules judge it: markers that a replay obeys. Pure.

A worker chooses the offset, at the end of the log, and records it before it judges a record behind
it. Its successor and a replay change rules at the same record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from fraud_agents.detectors.global_signals import GlobalDetectors
from fraud_agents.detectors.shard import WATCHED, ShardDetectors
from fraud_agents.rule_set import RuleSet
from schemas.events import FraudAlert, RiskSignal
from schemas.heartbeats import Watched
from schemas.topics import SIGNALS, TRANSACTIONS


class Marker(msgspec.Struct, frozen=True, order=True):
    """From `from_offset` of a partition on, the rules as of `position` judge its records.

    `rule_set` is the name of that set, for a person and to notice another release's rules.
    """

    from_offset: int
    position: int
    rule_set: str = ""


class Timeline:
    """The activation markers of one partition, by offset."""

    def __init__(self, markers: Sequence[Marker] = ()) -> None:
        self._markers = sorted(markers)

    def add(self, marker: Marker) -> None:
        """Add a marker; one at the same offset replaces the earlier, which judged nothing."""
        kept = [one for one in self._markers if one.from_offset != marker.from_offset]
        self._markers = sorted([*kept, marker])

    def judged_before(self, offset: int) -> int | None:
        """Return the position that judged the record before `offset`.

        Without one it is the first position of all; None without any marker.
        """
        earlier = [one.position for one in self._markers if one.from_offset < offset]
        if earlier:
            return earlier[-1]
        return self._markers[0].position if self._markers else None

    def switches_from(self, offset: int) -> list[Marker]:
        """Return the markers that take effect at `offset` or later."""
        return [one for one in self._markers if one.from_offset >= offset]

    @property
    def last(self) -> Marker | None:
        """The marker of the highest offset."""
        return self._markers[-1] if self._markers else None


def rerun_shard(
    records: Mapping[str, Iterable[tuple[int, Watched]]],
    partition: int,
    timelines: Mapping[str, Timeline],
    rule_set_at: Callable[[int], RuleSet],
) -> Iterator[tuple[FraudAlert, ShardDetectors]]:
    """Yield the alerts of all records of a partition number, and the detectors at each.

    `records` are by topic, from its first on, with their offsets. Topics are read one after the
    other: how they interleave changes no alert.
    """
    starts = {
        topic: rule_set_at(timelines.get(topic, Timeline()).judged_before(1) or 0)
        for topic in WATCHED
    }
    detectors = ShardDetectors(starts, partition)
    log = timelines.get(TRANSACTIONS, Timeline())
    planned = [(one.from_offset, one.position) for one in log.switches_from(1)]
    detectors.plan_switches(planned, rule_set_at)
    for topic, own in records.items():
        due = deque(timelines.get(topic, Timeline()).switches_from(1))
        for offset, event in own:
            found: list[FraudAlert] = []
            while due and due[0].from_offset <= offset:
                found += detectors.switch_rules(topic, rule_set_at(due.popleft().position))
            for alert in (*found, *detectors.observe(topic, event, offset)):
                yield alert, detectors


def rerun_signals(
    records: Iterable[tuple[int, RiskSignal]],
    partition: int,
    count: int,
    timeline: Timeline,
    rule_set_at: Callable[[int], RuleSet],
) -> Iterator[FraudAlert]:
    """Yield the alerts of a partition of `risk.signals.v1`, from its first record on.

    `count` is the number of partitions of the watched topics.
    """
    due = deque(timeline.switches_from(1))
    detectors = GlobalDetectors(rule_set_at(timeline.judged_before(1) or 0), partition, count)
    for offset, record in records:
        while due and due[0].from_offset <= offset:
            yield from detectors.switch_rules(SIGNALS, rule_set_at(due.popleft().position))
        yield from detectors.observe(SIGNALS, record, offset)
