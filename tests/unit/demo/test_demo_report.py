"""The page of a demo: what it counts, that it needs no network, and that a browser opens it."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from pitboss.demo.decisions import Decision, DecisionTimes, DecisionTimesByPhase, TrafficLog
from pitboss.demo.expectations import DemoResult
from pitboss.demo.figures import DemoFigures, Latency
from pitboss.demo.report import COLOURS, build_timeline, measure_hops, write_report
from tests.support.browser import colours_of, plots_of

NONE = DecisionTimes(None, None)
FIGURES = DemoFigures(
    seed=42,
    events_in=1_234,
    settled=1_200,
    duplicates=7,
    transfers=900,
    dead_letters=3,
    alerts=1,
    events_per_s=100,
    latency_ms=Latency(10, 20),
    outcomes_by_code={"POSTED": 900, "REFUSED_FUNDS": 30},
    dead_letters_by_code={"BAD_AMOUNT": 3},
    killed_at=600,
    fed_per_s=1_000,
    decision_ms=DecisionTimesByPhase(NONE, NONE, NONE),
    kill_gap_ms=2_500,
    checks={"conserved": True, "replay <equal>": False},
    unmet=[],
)
DECISIONS = [Decision(100.2, 100.3), Decision(100.9, 102.1), Decision(102.0, 102.2)]
LOG = TrafficLog(decisions=DECISIONS, play_s=100.0, killed_s=101.0, killed_at=600)


def test_a_play_is_counted_second_by_second():
    line = build_timeline(LOG)
    assert line.seconds == [0, 1, 2]
    assert (line.due, line.decided, line.waiting) == ([2, 0, 1], [1, 0, 2], [1, 1, 0])
    assert round(line.p50_ms[0]) == 100
    assert line.p99_ms[1] == 0.0
    assert 1_190 < line.p99_ms[2] <= 1_200


def test_a_play_without_decisions_has_a_timeline():
    assert build_timeline(TrafficLog()).waiting == [0]


def test_hops_are_times_from_raw_to_log_and_from_log_to_the_next_balance():
    def event(player: str | None, appended_at: int, logged_at: int | None):
        return SimpleNamespace(
            event=SimpleNamespace(player_id=player, appended_at=appended_at), logged_at=logged_at
        )

    topics = SimpleNamespace(
        log={0: [event("p", 10, 14), event("p", 20, 29), event(None, 5, 6), event("q", 1, None)]}
    )
    hops = measure_hops(topics, {"p:EUR": [(1, 15), (2, 29)]})  # type: ignore[arg-type]
    assert hops == {"raw record to log": [4, 9, 1], "log to balance": [1, 0]}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    pytest.importorskip("bokeh", reason="needs pitboss[report]")
    file = tmp_path / "demo.html"
    hops = {"raw record to log": [4, 9], "log to balance": []}
    write_report(file, DemoResult(FIGURES, [], hops_ms=hops, traffic=LOG))
    return file


def test_the_page_has_everything_in_it(page):
    text = page.read_text()
    assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(?:https?:)?//', text)
    for shown in ("Decision time", "Refusals", "REFUSED_FUNDS", "Dead letters", "is killed"):
        assert shown in text
    assert "replay <equal>" not in text


@pytest.mark.prove
def test_a_browser_opens_the_page(page, tmp_path):
    colours = colours_of(tmp_path, page)
    for drawn in COLOURS:
        assert tuple(bytes.fromhex(drawn[1:])) in colours, "every kind of plot is drawn"
    plots = plots_of(tmp_path, page)
    assert [one["y"] for one in plots["Rates"]["series"][:2]] == [[2, 0, 1], [1, 0, 2]]
    assert plots["Refusals"]["series"] == [{"x": ["REFUSED_FUNDS"], "top": [30]}]
    assert "the ledger's worker is killed" in plots["Rates"]["legend"]
