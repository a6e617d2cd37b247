"""Explaining an alert from the records alone, and noticing when they do not support it."""

from __future__ import annotations

import msgspec
import pytest

from fraud_agents.detectors import BetVelocity
from fraud_agents.detectors.d01_bet_velocity import VERSION_1 as D01_VERSION_1
from fraud_agents.explanation import explain, first_offset_of
from schemas.errors import UsageError
from schemas.events import Leg
from tests.support.fraud_log import bet

T0 = 1_750_000_020_000
BET, WIN = [Leg("BET")], [Leg("WIN")]
RULES = (D01_VERSION_1,)


def event(n: int, at_ms: int, legs=BET):
    event = bet("p1", at_ms, str(n), game="slot")
    return msgspec.structs.replace(event, event_id=f"e{n}", legs=legs, received_at=None)


@pytest.fixture
def story():
    """A burst of ten a second with what surrounds real ones: earlier bets, wins, copies, a late one, a pause."""
    events = [event(n, T0 - 50_000 + n * 1_000) for n in range(40)]
    events.append(event(900, T0 - 400_000))  # late
    for n in range(500):
        at_ms = T0 + n * 100 + (5_000 if n >= 300 else 0)
        events.append(event(1_000 + n, at_ms))
        if n % 50 == 0:
            events += [event(1_000 + n, at_ms), event(2_000 + n, at_ms, WIN)]
    detector, log = BetVelocity(D01_VERSION_1, 0), list(enumerate(events, 100))
    [alert] = [alert for offset, one in log for alert in detector.observe(one, offset)]
    return alert, log


def test_the_same_records_raise_the_same_alert(story):
    alert, log = story
    assert first_offset_of(alert) == 100
    explanation = explain(alert, log, RULES)
    assert explanation.agrees
    assert explanation.records == alert.sources[0].last_offset - 99
    assert len(set(explanation.event_ids)) == 500
    assert set(alert.sample_event_ids) <= set(explanation.event_ids)


def test_the_seconds_of_the_window_add_up(story):
    alert, log = story
    seconds = explain(alert, log, RULES).seconds
    assert [second.at_ms for second in seconds] == list(
        range(alert.window_start, alert.window_end, 1_000)
    )
    assert sum(second.counted for second in seconds) == alert.observed == seconds[-1].running == 500
    assert [second.counted for second in seconds if T0 <= second.at_ms < T0 + 55_000] == [
        10
    ] * 30 + [0] * 5 + [10] * 20
    assert [second.at_ms for second in seconds if second.is_crossing] == [T0 + 54_000]
    # What came before the window still counts for its first seconds.
    assert seconds[0].running > seconds[0].counted


def test_records_after_the_alert_change_nothing(story):
    alert, log = story
    longer = [*log, *((offset, event(offset, T0 + 55_000)) for offset in range(5_000, 5_100))]
    assert explain(alert, longer, RULES) == explain(alert, log, RULES)


def test_a_missing_record_is_noticed(story):
    alert, log = story
    explanation = explain(alert, [one for one in log if one[1].event_id != "e1234"], RULES)
    assert explanation.differences == [
        "the rule does not raise this alert over these records; it raises none"
    ]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"observed": 501}, "observed: published 501, found 500"),
        ({"severity": "info"}, "severity: published 'info', found 'hold'"),
        ({"player_id": "p2"}, "player_id: published 'p2', found 'p1'"),
    ],
)
def test_an_altered_alert_is_noticed(story, change, difference):
    alert, log = story
    explanation = explain(msgspec.structs.replace(alert, **change), log, RULES)
    assert difference in explanation.differences


def test_altered_evidence_is_noticed(story):
    alert, log = story
    evidence = {**alert.evidence, "inter_arrival_cv": "9.999"}
    explanation = explain(msgspec.structs.replace(alert, evidence=evidence), log, RULES)
    [difference] = explanation.differences
    assert difference.startswith("evidence.inter_arrival_cv: published '9.999'")


def test_only_the_very_rule_may_judge_its_alert(story):
    alert, log = story
    other = msgspec.structs.replace(D01_VERSION_1, threshold=400)
    with pytest.raises(UsageError, match="unknown to this release"):
        explain(alert, log, (other,))
