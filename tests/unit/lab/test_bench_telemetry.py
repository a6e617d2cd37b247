"""The figures of `pitboss bench telemetry`, and the collector that drops what it gets."""

from __future__ import annotations

import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from lab.bench.closed import LoopRun
from lab.bench.rates import Latencies
from lab.bench.telemetry import OFF, ON, TelemetryBenchFigures, dropping_collector


def run(cpu_s: float, p99_ms: float) -> LoopRun:
    times = Latencies.of([1.0] * 98 + [p99_ms] * 2)
    return LoopRun(100, 1.0, times, {"normalise": cpu_s / 2, "ledger": cpu_s / 2})


def figures(*pairs: tuple[LoopRun, LoopRun]) -> TelemetryBenchFigures:
    sides = (SimpleNamespace(name=ON), SimpleNamespace(name=OFF))
    plan = SimpleNamespace(rates=(200,), sides=sides, pairs=len(pairs), seconds=1)
    environment = SimpleNamespace(as_json=dict)
    return TelemetryBenchFigures(plan, {200: pairs}, environment)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cpu_s", "p99_ms", "holds"), [(1.02, 9.0, True), (1.05, 9.0, False), (1.02, 30.0, False)]
)
def test_both_the_cpu_and_the_p99_decide(cpu_s, p99_ms, holds):
    found = figures(*[(run(cpu_s, p99_ms), run(1.0, 10.0)) for _ in range(3)])
    row = found.as_json()
    assert row["ratio_cpu"] == cpu_s
    assert row["holds"] == holds
    assert row["rates"]["200"]["off"]["p50_ms"] == 1.0
    assert "base" not in row["rates"]["200"]
    assert [one.name for one in found.rows()][:2] == [f"200 a second, {ON}", f"200 a second, {OFF}"]


def test_the_ratio_is_the_median_of_the_pairs():
    found = figures(*[(run(cpu, 9.0), run(1.0, 10.0)) for cpu in (0.9, 1.01, 1.9)])
    assert found.as_json()["ratio_cpu"] == 1.01


def test_the_collector_takes_everything_and_ends():
    with dropping_collector() as url:
        call = urllib.request.Request(f"{url}/v1/traces", data=b"spans", method="POST")
        with urllib.request.urlopen(call, timeout=20) as answer:
            assert answer.status == 200
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(call, timeout=20)
