"""From which record of a partition on which rules judge it: markers that a replay obeys. Pure.

A worker chooses the offset, at the end of the log, and records it before it judges a record behind
it. Its successor and a replay change rules at the same record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from fraud_agents.detectors.observation import Observation
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.rule_set import RuleSet
from schemas.events import FraudAlert


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


def switch_rules(
    detectors: PartitionDetectors,
    due: deque[Marker],
    offset: int,
    rule_set_at: Callable[[int], RuleSet],
) -> list[FraudAlert]:
    """Take the markers that are due at `offset`; return the alerts that their changes close."""
    closed: list[FraudAlert] = []
    while due and due[0].from_offset <= offset:
        closed += detectors.switch_rules(rule_set_at(due.popleft().position))
    return closed


def rerun_partition(
    records: Iterable[tuple[int, Observation]],
    partition: int,
    timeline: Timeline,
    rule_set_at: Callable[[int], RuleSet],
) -> Iterator[tuple[FraudAlert, PartitionDetectors]]:
    """Yield the alerts of a partition's records from its first on, and the detectors at each."""
    due = deque(timeline.switches_from(1))
    detectors = PartitionDetectors(rule_set_at(timeline.judged_before(1) or 0), partition)
    for offset, event in records:
        found = switch_rules(detectors, due, offset, rule_set_at)
        for alert in (*found, *detectors.observe(event, offset)):
            yield alert, detectors
