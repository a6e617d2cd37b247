"""Decision times: what counts as before, during and after a kill, and what the gap is."""

from __future__ import annotations

from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lab.sandbox.calling import PlannedCall
from lab.sandbox.keys import SandboxKeys
from pitboss.demo.decisions import (
    Decision,
    DecisionTimes,
    RecentDecisions,
    TrafficLog,
    feed_shortfall,
    find_outage,
    measured_from,
    times_by_phase,
    traffic_figures,
)
from pitboss.demo.display import DemoDisplay
from pitboss.demo.traffic import TrafficRun
from pitboss.settings import runtime_of
from runtime.security import BrokerAddress

START_S, KILLED_S, BACK_S = 1_000.0, 1_010.0, 1_013.0
WAIT_S = 0.020


def steady_traffic_with_an_outage() -> list[Decision]:
    """A record every 10 ms for 20 s, answered after 20 ms; from the kill nothing is answered for
    3 s, and then one every 2 ms until the backlog is gone."""
    decisions, free_s = [], BACK_S
    for index in range(2_000):
        due_s = START_S + index / 100
        decided_s = due_s + WAIT_S
        if decided_s >= KILLED_S:
            decided_s = max(decided_s, free_s)
            free_s = decided_s + 0.002
        decisions.append(Decision(due_s, decided_s))
    return decisions


def test_an_outage_lasts_until_the_worker_answers_again_and_its_backlog_is_gone():
    outage = find_outage(steady_traffic_with_an_outage(), START_S + 4, KILLED_S)
    # 302 waited when the worker was back, and each 10 ms one came and five went.
    assert outage.gap_s == pytest.approx(3.0, abs=0.02)
    assert outage.recovered_s == pytest.approx(BACK_S + 302 / 400, abs=0.03)


def test_each_decision_belongs_to_the_time_that_it_waited_in():
    log = TrafficLog(steady_traffic_with_an_outage(), 2_000, START_S, START_S + 20.0, KILLED_S, 998)
    figures = traffic_figures(log)
    assert (figures.killed_at, figures.fed_per_s) == (998, 100)
    assert figures.kill_gap_ms == pytest.approx(3_000, abs=20)
    assert figures.decision_ms.before == DecisionTimes(20, 20)
    assert figures.decision_ms.after == DecisionTimes(20, 20)
    during = figures.decision_ms.during
    assert during.p50 == pytest.approx(1_500, abs=100)
    assert during.p99 == pytest.approx(2_975, abs=30)


def test_the_warm_up_is_not_before():
    slow = [Decision(START_S + at / 10, START_S + at / 10 + 0.9) for at in range(30)]
    log = TrafficLog(
        slow + steady_traffic_with_an_outage(), 2_030, START_S, START_S + 20.0, KILLED_S, 998
    )
    assert traffic_figures(log).decision_ms.before == DecisionTimes(20, 20)


@pytest.mark.parametrize(("killed_after_s", "warm_up_s"), [(30.0, 5.0), (8.0, 4.0), (3.0, 1.5)])
def test_the_warm_up_is_at_most_half_of_the_time_before_the_kill(killed_after_s, warm_up_s):
    assert measured_from(START_S, START_S + killed_after_s) == START_S + warm_up_s


def test_what_arrives_just_after_the_kill_does_not_end_the_gap():
    decisions = [
        Decision(0.0, 0.9),
        Decision(0.1, 1.05),
        Decision(0.2, 1.1),
        Decision(0.3, 4.1),
        Decision(0.4, 4.2),
        Decision(0.5, 99.0),  # found by the resolver at the end: no part of the outage
    ]
    assert find_outage(decisions, 0.0, 1.0).gap_s == pytest.approx(3.0)


def test_a_worker_that_never_answers_again_leaves_no_time_after():
    decisions = [Decision(at / 10, at / 10 + 0.05) for at in range(50)]
    outage = find_outage(decisions, 0.0, 5.0)
    assert outage.gap_s == 0.0
    times = times_by_phase(decisions, 0.0, outage)
    assert times.before == DecisionTimes(50, 50)
    assert times.during == times.after == DecisionTimes(None, None)


@given(
    st.lists(st.tuples(st.floats(0, 20), st.floats(0.001, 9)), min_size=1, max_size=80),
    st.floats(1, 19),
)
def test_every_decision_after_the_warm_up_is_in_one_phase(pairs, killed_s):
    decisions = [Decision(due_s, due_s + took_s) for due_s, took_s in pairs]
    outage = find_outage(decisions, 0.0, killed_s)
    assert outage.recovered_s >= killed_s
    before = [one for one in decisions if one.decided_s < killed_s]
    after = [one for one in decisions if one.due_s > outage.recovered_s]
    assert not set(before) & set(after)
    times = times_by_phase(decisions, 0.0, outage)
    is_split = len(before) + len(after) < len(decisions)
    assert (times.during.p50 is not None) == is_split
    assert (times.before.p50 is not None) == bool(before)
    assert (times.after.p50 is not None) == bool(after)


@pytest.mark.parametrize(
    ("fed_per_s", "rate", "is_short"),
    [(1_000, 1_000.0, False), (970, 1_000.0, False), (969, 1_000.0, True), (300, None, False)],
)
def test_a_feeder_that_falls_behind_is_reported(fed_per_s, rate, is_short):
    assert ("instead of 1,000" in feed_shortfall(fed_per_s, rate)) == is_short


def test_the_display_has_the_last_second_or_how_long_nothing_came():
    recent = RecentDecisions()
    assert recent.describe(5.0) == ""
    for at_s, took_s in ((5.0, 9.0), (6.5, 0.03), (6.9, 0.05), (6.95, 0.04)):
        recent.add(Decision(at_s - took_s, at_s))
    assert recent.describe(7.0) == "p50 40 ms"
    assert recent.describe(9.45) == "no answer for 2.5 s"
    recent.add(Decision(7.0, 9.5))
    assert recent.describe(9.6) == "p50 2,500 ms"


RUNTIME = runtime_of(
    BrokerAddress("127.0.0.1:1"), "postgresql://pitboss@127.0.0.1:1/postgres", "demo_x"
)


def test_a_decision_begins_with_its_calls_due_time_and_deposits_only_warm_up(monkeypatch):
    calls = [PlannedCall("hub88", b"", (), phase, None) for phase in (0, 1, 1)]
    stand_in: Any = SimpleNamespace()
    display = DemoDisplay(Console(file=StringIO()))
    run = TrafficRun(RUNTIME, calls, SandboxKeys({}), 100.0, 1, stand_in, display)
    run._on_due(0, 50.0)
    run._on_settled(50.0, 50.2)
    run._on_due(1, 51.0)
    run._on_due(2, 52.0)
    run._on_settled(52.0, 60.0)
    run._on_settled(51.0, 60.0)
    assert run.log.decisions == [Decision(52.0, 60.0), Decision(51.0, 60.0)]
    assert (run.log.play_s, run.log.play_records) == (51.0, 2)
    clock = SimpleNamespace(monotonic=lambda: 70.0)
    monkeypatch.setattr("pitboss.demo.traffic.time", clock)
    monkeypatch.setattr(run, "_show", lambda: None)
    run._on_fed(2)
    assert run.log.fed_s == 0.0
    run._on_fed(3)
    assert run.log.fed_s == 70.0
