"""The report of a demo: one HTML page with everything in it, so that it opens without a network."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

from lab.bench.rates import Latencies
from pitboss.demo.decisions import Decision, TrafficLog
from pitboss.demo.expectations import DemoResult
from pitboss.demo.figures import DemoFigures
from replay.audit.evidence import TopicEvidence
from schemas.errors import UsageError

WIDTH: Final = 900
HEIGHT: Final = 260
COLOURS: Final = ("#1f77b4", "#d62728")
KILL: Final = "the ledger's worker is killed"


@dataclass(frozen=True)
class PlayTimeline:
    """The play second by second, from the moment when the first record was due."""

    seconds: list[int]
    due: list[int]
    decided: list[int]
    waiting: list[int]
    """Attempts without an answer at the end of the second."""
    p50_ms: list[float]
    p99_ms: list[float]
    """Of what was decided in the second; 0 where nothing was."""


def check_report_library() -> None:
    """Raise UsageError where the library that draws the report is not installed."""
    try:
        import bokeh  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise UsageError("--report needs bokeh: install pitboss[report]") from error


def measure_hops(
    topics: TopicEvidence, published_at: Mapping[str, Sequence[tuple[int, int]]]
) -> dict[str, list[int]]:
    """Return the times of the events by hop: raw record to log, and log to balance.

    The second hop ends with the first balance of the event's player that is not older than it.
    """
    moments: dict[str, list[int]] = {}
    for key, history in published_at.items():
        player = key.rpartition(":")[0]
        moments.setdefault(player, []).extend(at_ms for _, at_ms in history)
    for times in moments.values():
        times.sort()
    hops: dict[str, list[int]] = {"raw record to log": [], "log to balance": []}
    for log_event in (one for log in topics.log.values() for one in log):
        event, logged_at = log_event.event, log_event.logged_at
        if logged_at is None:
            continue
        hops["raw record to log"].append(max(0, logged_at - event.appended_at))
        later = moments.get(event.player_id or "", [])
        position = bisect_right(later, logged_at - 1)
        if position < len(later):
            hops["log to balance"].append(later[position] - logged_at)
    return hops


def build_timeline(log: TrafficLog) -> PlayTimeline:
    """Count a play second by second."""
    start_s = log.play_s
    due = Counter(int(one.due_s - start_s) for one in log.decisions)
    decided = Counter(int(one.decided_s - start_s) for one in log.decisions)
    by_second: dict[int, list[Decision]] = {}
    for one in log.decisions:
        by_second.setdefault(int(one.decided_s - start_s), []).append(one)
    seconds = list(range(max([0, *due, *decided]) + 1))
    waiting, line = 0, PlayTimeline(seconds, [], [], [], [], [])
    for second in seconds:
        waiting += due[second] - decided[second]
        line.due.append(due[second])
        line.decided.append(decided[second])
        line.waiting.append(waiting)
        took = [(one.decided_s - one.due_s) * 1000 for one in by_second.get(second, ())]
        latencies = Latencies.of(took) if took else None
        line.p50_ms.append(0.0 if latencies is None else latencies.p50_ms)
        line.p99_ms.append(0.0 if latencies is None else latencies.p99_ms)
    return line


def write_report(file: Path, result: DemoResult) -> None:
    """Write the page. Raises UsageError where the library that draws it is not installed."""
    check_report_library()
    from bokeh.embed import file_html
    from bokeh.layouts import column
    from bokeh.models.widgets.markups import Div
    from bokeh.resources import INLINE

    figures, log = result.figures, result.traffic
    line = build_timeline(log)
    killed = log.killed_s - log.play_s if log.killed_s else None
    plots: list[Any] = [
        Div(text=_summary(figures), width=WIDTH),
        _lines("Rates", "a second", line, {"due": line.due, "decided": line.decided}, killed),
        _lines("Decision time", "ms", line, {"p50": line.p50_ms, "p99": line.p99_ms}, killed),
        _lines("Lag: attempts without an answer", "", line, {"waiting": line.waiting}, killed),
        _bars("Latency by hop, p50", "ms", _percentiles(result.hops_ms, "p50_ms")),
        _bars("Latency by hop, p99", "ms", _percentiles(result.hops_ms, "p99_ms")),
        _bars("Outcomes", "attempts", figures.outcomes_by_code),
        _bars("Refusals", "attempts", _refusals(figures.outcomes_by_code)),
        _bars("Dead letters", "items", figures.dead_letters_by_code),
    ]
    page = file_html(column(*plots), INLINE, "Pitboss demo")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(page, encoding="utf-8")


def _refusals(outcomes: Mapping[str, int]) -> dict[str, int]:
    return {code: count for code, count in outcomes.items() if code.startswith("REFUSED")}


def _percentiles(hops_ms: Mapping[str, Sequence[int]], which: str) -> dict[str, float]:
    return {
        name: round(getattr(Latencies.of(times), which), 1)
        for name, times in hops_ms.items()
        if times
    }


def _lines(
    title: str,
    unit: str,
    line: PlayTimeline,
    series: Mapping[str, Sequence[float]],
    killed: float | None,
) -> Any:
    from bokeh.models.annotations.geometry import Span
    from bokeh.plotting import figure

    plot = figure(
        title=title, width=WIDTH, height=HEIGHT, x_axis_label="seconds", y_axis_label=unit
    )
    for (name, values), colour in zip(series.items(), COLOURS, strict=False):
        plot.line(line.seconds, list(values), legend_label=name, line_width=2, color=colour)
    if killed is not None:
        plot.add_layout(
            Span(location=killed, dimension="height", line_dash="dashed", line_color="black")
        )
        plot.line([], [], legend_label=KILL, color="black", line_dash="dashed")
    plot.legend.location = "top_left"
    return plot


def _bars(title: str, unit: str, values: Mapping[str, float]) -> Any:
    from bokeh.models.ranges import FactorRange
    from bokeh.plotting import figure

    names = list(values) or ["none"]
    plot = figure(
        title=title,
        width=WIDTH,
        height=HEIGHT,
        x_range=FactorRange(factors=names),
        y_axis_label=unit,
    )
    plot.vbar(x=names, top=[values.get(name, 0) for name in names], width=0.7, color=COLOURS[0])
    plot.xaxis.major_label_orientation = 0.5
    plot.y_range.start = 0  # type: ignore[attr-defined] # of its stubs
    return plot


def _summary(figures: DemoFigures) -> str:
    checks = figures.checks.items()
    rows: Iterable[tuple[str, object]] = (
        ("seed", figures.seed),
        ("records", f"{figures.events_in:,}"),
        ("settled", f"{figures.settled:,}"),
        ("doubles answered again", f"{figures.duplicates:,}"),
        ("dead letters", f"{figures.dead_letters:,}"),
        ("alerts", f"{figures.alerts:,}"),
        ("killed after", f"{figures.killed_at:,} events"),
        ("longest time without an answer around the kill", f"{figures.kill_gap_ms:,} ms"),
        *((f"check {name}", "holds" if is_so else "FAILS") for name, is_so in checks),
    )
    cells = "".join(
        f"<tr><td>{escape(name)}</td><td><b>{escape(str(value))}</b></td></tr>"
        for name, value in rows
    )
    return f"<h1>Pitboss demo</h1><table>{cells}</table>"
