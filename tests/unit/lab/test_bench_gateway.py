"""The figures of `pitboss bench gateway`, from runs that are given."""

from __future__ import annotations

from collections import deque

from lab.bench.closed import LoopRun
from lab.bench.gateway import DoorSide, GatewayBenchFigures, GatewayBenchPlan, compare
from lab.bench.machine import Machine
from lab.bench.rates import Latencies
from lab.bench.report import BenchEnvironment
from lab.bench.server_cpu import ServerPids

ENVIRONMENT = BenchEnvironment(Machine("cpu", 2, 4.0, "system", "3.11", {}, 0.0), "abc", {})


def run_of(calls_per_s: int, p50_ms: float, cpu_ms: float) -> LoopRun:
    cpu_s = {"door": calls_per_s * cpu_ms / 1_000}
    return LoopRun(calls_per_s, 1.0, Latencies(p50_ms, 2 * p50_ms, 3 * p50_ms), cpu_s)


def side(name: str) -> DoorSide:
    async def prepare() -> None:
        pass

    return DoorSide(name, {}, 1, iter(deque[bytes]()), prepare)


def figures(runs: dict[str, dict[int, LoopRun]], servers: ServerPids) -> GatewayBenchFigures:
    plan = GatewayBenchPlan([side(name) for name in runs], (16, 64), (200,), 1, 1, servers, "here")
    closed = {name: {n: [run] for n, run in of.items()} for name, of in runs.items()}
    opened = {name: {200: [Latencies(1.0, 5.0, 9.0)]} for name in runs}
    return GatewayBenchFigures(plan, closed, opened, ENVIRONMENT)


RUNS = {
    "ours": {16: run_of(1_000, 14.0, 2.0), 64: run_of(3_000, 20.0, 0.6)},
    "one": {16: run_of(1_250, 10.0, 1.0), 64: run_of(1_500, 40.0, 1.2)},
    "two": {16: run_of(1_400, 11.0, 1.5), 64: run_of(1_450, 44.0, 1.3)},
}


def test_the_better_peer_counts():
    found = figures(RUNS, ServerPids(1, 2)).as_json()
    assert found["peer"] == found["peers"]["one"]
    assert found["ratio_p50_at_16"] == 1.4
    assert found["ratio_rate_at_16"] == 0.8
    assert found["ratio_cpu_at_16"] == 2.0
    assert found["ratio_max_rate"] == 2.0
    assert found["ratio_cpu"] == 0.5
    assert found["ours"]["open_p99_ms"] == {"200": 5.0}


def test_without_a_peer_no_ratio_is_known():
    found = figures({"ours": RUNS["ours"]}, ServerPids(1, 2)).as_json()
    assert found["peer"] is None
    assert {found[name] for name in found if name.startswith("ratio_")} == {None}


def test_without_the_cpu_of_the_servers_no_ratio_of_it_is_known():
    found = figures(RUNS, ServerPids()).as_json()
    assert found["ratio_cpu"] is None
    assert found["ratio_max_rate"] == 2.0


def test_a_person_gets_a_row_a_load():
    rows = figures(RUNS, ServerPids(1, 2)).rows()
    assert [row.name for row in rows][:3] == [
        "ours, 16 in flight",
        "ours, 64 in flight",
        "ours, 200/s offered",
    ]
    assert rows[0].value == "1,000/s"


def test_another_number_in_flight_is_compared_by_its_best_rate_only():
    ours = figures({"ours": {64: RUNS["ours"][64]}}, ServerPids(1, 2)).of_side("ours")
    assert compare(ours, None)["ratio_max_rate"] is None
