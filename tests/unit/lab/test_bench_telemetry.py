"""The figures of `pitboss bench telemetry`, and the collector that drops what it gets."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from lab.bench.base_latency import BaseLatencyPlan, limit_time
from lab.bench.closed import LoopRun, LoopSide
from lab.bench.collector import run_collector
from lab.bench.processes import BenchFailed
from lab.bench.rates import Latencies
from lab.bench.telemetry import OFF, ON, TelemetryBenchFigures
from runtime.security import BrokerAddress


def run(cpu_s: float, p99_ms: float) -> LoopRun:
    times = Latencies.of([1.0] * 98 + [p99_ms] * 2)
    return LoopRun(100, 1.0, times, {"normalise": cpu_s / 2, "ledger": cpu_s / 2})


def figures(*pairs: tuple[LoopRun, LoopRun]) -> TelemetryBenchFigures:
    sides = (SimpleNamespace(name=ON), SimpleNamespace(name=OFF))
    plan = SimpleNamespace(rates=(200,), sides=sides, pairs=5, seconds=1)
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
    kept = []
    with run_collector(lambda path, body: kept.append((path, body))) as url:
        call = urllib.request.Request(f"{url}/v1/traces", data=b"spans", method="POST")
        with urllib.request.urlopen(call, timeout=60) as answer:
            assert answer.status == 200
    assert kept == [("/v1/traces", b"spans")]
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(call, timeout=60)


def test_the_p99_of_both_sides_has_its_spread_and_the_pairs_are_those_that_were_run():
    output = figures(*[(run(1.0, ms), run(1.0, 2 * ms)) for ms in (10.0, 12.0, 20.0)]).as_json()
    assert output["p99_ms_on"] == {"median": 12.0, "lowest": 10.0, "highest": 20.0}
    assert output["p99_ms_off"] == {"median": 24.0, "lowest": 20.0, "highest": 40.0}
    assert output["rates"]["200"]["p99_ms_runs"] == [10.0, 12.0, 20.0]
    assert (output["pairs"], output["pairs_wanted"]) == (3, 5)


def test_a_pair_that_would_begin_too_late_is_left_out_but_never_the_first():
    side = LoopSide("a", {}, "raw", "outcomes", iter(()))
    bets = (iter(()), iter(()))
    plan = BaseLatencyPlan(BrokerAddress("k:1"), (side, side), bets, (200,), 20, 5, "x", 60.0)
    begun = [
        plan.has_time_for(number, passed_s) for number, passed_s in ((1, 99), (2, 60), (3, 61))
    ]
    assert begun == [True, True, False]
    assert plan.side_max_s < 400


async def test_a_step_that_does_not_end_is_named():
    with pytest.raises(BenchFailed, match="pair 1, on: still not done after 0 s"):
        async with limit_time("pair 1, on", 0.0):
            await asyncio.Event().wait()
