"""Expectations of a demo besides its checks, which also hold for an empty ledger. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fraud_agents.detectors import D01_BET_VELOCITY, DETECTORS
from lab.sandbox.records import RawEvent
from pitboss.demo.decisions import TrafficLog
from pitboss.demo.figures import DemoFigures
from replay.audit.checks import Check
from replay.audit.evidence import TopicEvidence, raised_again
from replay.audit.rerun import differing_alerts


@dataclass(frozen=True)
class DemoResult:
    """Result of a demo: its figures and its checks."""

    figures: DemoFigures
    checks: list[Check]
    namespace: str = ""
    """Name of what is kept for inspection; empty if nothing is."""
    hops_ms: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Times of the events by hop, for the report."""
    traffic: TrafficLog = field(default_factory=TrafficLog)
    """What was observed of the traffic, for the report."""

    @property
    def holds(self) -> bool:
        """Whether every check holds and every expectation is met."""
        return all(check.holds for check in self.checks) and not self.figures.unmet


class ChecksFailed(Exception):  # not an error of the program: it carries the result
    """A check does not hold or an expectation is not met."""

    def __init__(self, result: DemoResult) -> None:
        super().__init__("not every check holds")
        self.result = result


def unmet_expectations(
    records: Sequence[RawEvent], speeders: int, topics: TopicEvidence
) -> list[str]:
    """Return the expectations that the topics do not meet, a sentence each.

    `records` is everything that was fed, `speeders` the number of players that bet too fast.
    """
    return [*_raw(records, topics), *_dead_letters(records, topics), *_alerts(speeders, topics)]


def _raw(records: Sequence[RawEvent], topics: TopicEvidence) -> Iterator[str]:
    if len(topics.raw) != len(records):
        yield f"{len(records)} raw records were fed, and the topics hold {len(topics.raw)}"


def _dead_letters(records: Sequence[RawEvent], topics: TopicEvidence) -> Iterator[str]:
    expected = Counter(
        str(record.expected_reject) for record in records if record.expected_reject is not None
    )
    # After a crash a letter may be published twice; it counts once.
    letters = {(letter.source, letter.record_index, letter.code) for letter in topics.dead_letters}
    found = Counter(code for _, _, code in letters)
    if found != expected:
        yield f"the poison is {_text_of(expected)}, and the dead letters are {_text_of(found)}"


def _alerts(speeders: int, topics: TopicEvidence) -> Iterator[str]:
    # The ledger's own alerts come from its tables and not from a detector.
    published = {name: alert for name, alert in topics.alerts.items() if alert.rule_id in DETECTORS}
    if differing := differing_alerts(published, raised_again(topics)):
        yield f"alert {differing[0]} is not what the detectors find in the log"
    rule_id = D01_BET_VELOCITY.rule_id
    held = {
        alert.player_id
        for alert in published.values()
        if alert.rule_id == rule_id and alert.severity == "hold"
    }
    if (fast := len(held)) != speeders:
        yield f"{speeders} players bet too fast, and {rule_id} holds the money of {fast}"


def _text_of(codes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {code}" for code, count in sorted(codes.items())) or "none"
