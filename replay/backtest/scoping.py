"""The players of segments in a back-test: those of now, or at each record those of then. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from fraud_agents.activations import Timeline
from fraud_agents.rule_set import RuleEntry, RuleSet
from fraud_agents.rules import Rule
from schemas.events import FraudAlert

Segments: TypeAlias = tuple[tuple[str, frozenset[str]], ...]
"""The players of each segment, as a rule set has them."""

MemberChanges: TypeAlias = Sequence[tuple[int, Segments]]
"""From which offsets of a partition on the segments have which players, by offset."""


@dataclass(frozen=True)
class ScopedRule:
    """A rule over a stretch of one partition, with the players that its scope is limited to."""

    rules: RuleSet
    """Over the first record."""
    switches: Sequence[tuple[int, RuleSet]] = ()
    """From which later offsets on its segments have other players."""


@dataclass(frozen=True)
class SegmentMembers:
    """Players of the segments: `now`, and where `then` is asked for, by topic and partition.

    A partition that no worker has judged has those of now.
    """

    now: Segments = ()
    then: Mapping[tuple[str, int], MemberChanges] = field(default_factory=dict)

    def scope(self, rule: Rule, topic: str, partition: int, begin: int) -> ScopedRule:
        """Return a rule for the records of a partition from `begin` on."""
        changes = self.then.get((topic, partition), ())
        earlier = [segments for offset, segments in changes if offset <= begin]
        # As in production: what was judged before the first marker was judged by its rules.
        first = [segments for _, segments in changes[:1]] or [self.now]
        sets = [(earlier or first)[-1], *(own for offset, own in changes if offset > begin)]
        rules = [RuleSet((RuleEntry(rule),), segments=segments) for segments in sets]
        offsets = [offset for offset, _ in changes if offset > begin]
        return ScopedRule(rules[0], [*zip(offsets, rules[1:], strict=True)])


class RuleSwitches:
    """The changes of a scoped rule that are still to come, as records pass."""

    def __init__(
        self, scoped: ScopedRule, switch: Callable[[RuleSet], Iterable[FraudAlert]]
    ) -> None:
        self._due = deque(scoped.switches)
        self._switch = switch

    def reach(self, offset: int) -> list[FraudAlert]:
        """Change the rules as they are from an offset on; return the ends of alerts."""
        closed: list[FraudAlert] = []
        while self._due and self._due[0][0] <= offset:
            closed += self._switch(self._due.popleft()[1])
        return closed


def members_of_then(
    timelines: Mapping[str, Mapping[int, Timeline]], segments_at: Callable[[int], Segments]
) -> dict[tuple[str, int], MemberChanges]:
    """Return when which players were in the segments, by the activation markers of production.

    `segments_at` gives the players after the changes of the rules below a position.
    """
    known: dict[int, Segments] = {}
    for own in timelines.values():
        for timeline in own.values():
            for marker in timeline.switches_from(0):
                if marker.position not in known:
                    known[marker.position] = segments_at(marker.position)
    return {
        (topic, partition): [
            (marker.from_offset, known[marker.position]) for marker in timeline.switches_from(0)
        ]
        for topic, own in timelines.items()
        for partition, timeline in own.items()
    }
