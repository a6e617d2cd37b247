"""What a demo must have shown besides its checks, which hold of a ledger in which nothing happened,
too. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from fraud_agents.rules import D01_BET_VELOCITY
from lab.sandbox.records import RawEvent
from replay.audit.evidence import TopicEvidence
from replay.audit.rerun import differing_alerts, rerun_detectors


def unmet_expectations(
    records: Sequence[RawEvent], speeders: int, topics: TopicEvidence
) -> list[str]:
    """What was fed and did not come out as it was meant to, a sentence each.

    `records` are all that was fed, `speeders` the players among them who bet too fast.
    """
    return [*_raw(records, topics), *_dead_letters(records, topics), *_alerts(speeders, topics)]


def _raw(records: Sequence[RawEvent], topics: TopicEvidence) -> Iterator[str]:
    if len(topics.raw) != len(records):
        yield f"{len(records)} raw records were fed, and the topics hold {len(topics.raw)}"


def _dead_letters(records: Sequence[RawEvent], topics: TopicEvidence) -> Iterator[str]:
    meant = Counter(
        str(record.expected_reject) for record in records if record.expected_reject is not None
    )
    # A letter may come twice, after a crash, and is one all the same.
    letters = {(letter.source, letter.record_index, letter.code) for letter in topics.dead_letters}
    found = Counter(code for _, _, code in letters)
    if found != meant:
        yield f"the poison is {_text_of(meant)}, and the dead letters are {_text_of(found)}"


def _alerts(speeders: int, topics: TopicEvidence) -> Iterator[str]:
    rule_id = D01_BET_VELOCITY.rule_id
    published = {name: alert for name, alert in topics.alerts.items() if alert.rule_id == rule_id}
    if differing := differing_alerts(published, rerun_detectors(topics.log)):
        yield f"alert {differing[0]} is not what the detectors find in the log"
    if (fast := len({alert.player_id for alert in published.values()})) != speeders:
        yield f"{speeders} players bet too fast, and {rule_id} tells of {fast}"


def _text_of(codes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {code}" for code, count in sorted(codes.items())) or "none"
