"""A demo in which nothing happened fails its expectations, although all of its checks hold."""

from __future__ import annotations

import msgspec
import pytest

from lab.sandbox.records import RawEvent
from pitboss.demo.expectations import unmet_expectations
from replay.audit.evidence import TopicEvidence
from replay.audit.rerun import rerun_detectors
from schemas.errors import RejectCode
from schemas.events import DeadLetter, Position
from tests.support.fraud_log import T0, burst
from tests.support.ledger_events import log_event

SPEED = burst("fast", T0, 600)


def raw_event(poison: RejectCode | None = None) -> RawEvent:
    return RawEvent("hub88", b"p", b"{}", (), 0, 0, expected_reject=poison)


def letter(code: RejectCode, offset: int) -> DeadLetter:
    return DeadLetter(
        Position("raw", 0, offset), None, None, None, [], 0, code, "", "normalise", "0", None
    )


@pytest.fixture
def settled() -> tuple[list[RawEvent], TopicEvidence]:
    """602 records, of which two are poison and the rest one burst, and what comes of them."""
    records = [raw_event() for _ in SPEED] + [
        raw_event(RejectCode.MALFORMED),
        raw_event(RejectCode.BAD_AMOUNT),
    ]
    topics = TopicEvidence(
        raw={Position("raw", 0, offset) for offset in range(len(records))},
        log={0: [log_event(event, 0, offset) for offset, event in enumerate(SPEED)]},
        dead_letters=[letter(RejectCode.MALFORMED, 600), letter(RejectCode.BAD_AMOUNT, 601)],
    )
    topics.alerts = rerun_detectors(topics.log)
    return records, topics


def test_everything_as_expected(settled):
    records, topics = settled
    assert [alert.severity for alert in topics.alerts.values()] == ["review", "hold"]
    assert unmet_expectations(records, 1, topics) == []


def test_a_letter_that_is_published_twice_counts_once(settled):
    records, topics = settled
    topics.dead_letters.append(topics.dead_letters[0])
    assert unmet_expectations(records, 1, topics) == []


def test_an_alert_for_a_debt_is_not_a_detectors(settled):
    records, topics = settled
    [_, alert] = topics.alerts.values()
    topics.alerts["debt"] = msgspec.structs.replace(
        alert, alert_id="debt", rule_id="L01", player_id="other"
    )
    assert unmet_expectations(records, 1, topics) == []


def test_a_record_that_is_missing_on_the_broker(settled):
    records, topics = settled
    topics.raw.pop()
    assert unmet_expectations(records, 1, topics) == [
        "602 raw records were fed, and the topics hold 601"
    ]


def test_an_unexpected_rejection(settled):
    records, topics = settled
    topics.dead_letters.append(letter(RejectCode.BAD_SIGNATURE, 3))
    assert unmet_expectations(records, 1, topics) == [
        "the poison is 1 BAD_AMOUNT, 1 MALFORMED, and the dead letters are 1 BAD_AMOUNT, 1 BAD_SIGNATURE, 1 MALFORMED"
    ]


def test_poison_that_was_accepted(settled):
    records, topics = settled
    del topics.dead_letters[0]
    [sentence] = unmet_expectations(records, 1, topics)
    assert sentence.endswith("the dead letters are 1 BAD_AMOUNT")


def test_a_burst_without_an_alert(settled):
    records, topics = settled
    topics.alerts.clear()
    differing, missing = unmet_expectations(records, 1, topics)
    assert "is not what the detectors find in the log" in differing
    assert missing == "1 players bet too fast, and D01 holds the money of 0"


def test_an_alert_with_another_count(settled):
    records, topics = settled
    [_, (name, alert)] = topics.alerts.items()
    topics.alerts[name] = msgspec.structs.replace(alert, observed=501)
    assert unmet_expectations(records, 1, topics) == [
        f"alert {name} is not what the detectors find in the log"
    ]


def test_empty_evidence_fails():
    assert (
        len(unmet_expectations([raw_event(), raw_event(RejectCode.MALFORMED)], 1, TopicEvidence()))
        == 3
    )
