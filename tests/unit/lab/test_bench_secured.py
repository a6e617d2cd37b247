"""The figures of `--secure`: what is divided by what, and when the comparison is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from lab.bench.closed import BetStock, LoopRun, LoopSide
from lab.bench.pipeline_figures import OURS, PLAIN_TEXT, PipelineBenchFigures, PipelineRun
from lab.bench.rates import Latencies
from lab.bench.report import BenchEnvironment, format_table
from lab.bench.secured import SecuredLatencyFigures, SecuredLatencyPlan, SecuredRun, SecuredSide
from lab.bench.server_cpu import ServerPids
from pitboss.cli.bench import bench
from pitboss.cli.bench_environment import SECURED_HOME, BenchRun, open_secured
from pitboss.embedded.tls import StackTls
from pitboss.settings import read_settings
from runtime.security import BrokerAddress
from schemas.errors import UsageError
from tests.unit.lab.test_bench_closed import MACHINE


def side(name: str) -> SecuredSide:
    loop = LoopSide(name, {}, "raw", "outcomes", iter(()))
    return SecuredSide(loop, BetStock(iter(())), BrokerAddress("kafka:1"), ServerPids(1, 2))


PLAN = SecuredLatencyPlan(side("with TLS"), side("plain text"), 3, 2.0, "embedded stack")


def run(calls: int, p50_ms: float, p99_ms: float) -> SecuredRun:
    times = Latencies(p50_ms, p99_ms, 99.0)
    cpu_s = {"ledger": 1.0, "broker": 0.5, "postgres": 0.5}
    return SecuredRun(LoopRun(calls, 2.0, times, cpu_s), LoopRun(400, 2.0, times, cpu_s))


def figures(*secured: SecuredRun) -> SecuredLatencyFigures:
    plain = [run(calls, 8.0, 20.0) for calls in (1_000, 2_000, 4_000)]
    pairs = list(zip(secured, plain, strict=True))
    return SecuredLatencyFigures(PLAN, pairs, BenchEnvironment(MACHINE, "abc1234", {}))


def test_the_ratios_are_medians_of_the_pairs_and_more_is_better():
    found = figures(run(900, 10.0, 40.0), run(1_600, 8.0, 25.0), run(2_000, 16.0, 20.0))
    output = json.loads(json.dumps(found.as_json()))
    assert output["ratio_secured"] == 0.8
    assert output["ratio_secured_spread"] == {"median": 0.8, "lowest": 0.5, "highest": 0.9}
    assert output["ratio_secured_p50"] == 0.8
    assert output["ratio_secured_p99"] == 0.8
    assert output["holds"] is True
    assert output["secured"]["closed"]["calls_per_s"] == 800
    assert output["plain"]["at_rate"]["p99_ms"] == 20
    assert output["targets"] == {"ratio_secured_min": 0.8}
    text = format_table("secured", found.rows(), found.environment)
    assert "with TLS to plain text, rate" in text


@pytest.mark.parametrize(
    "slow", [run(1_500, 8.0, 20.0), run(2_000, 10.2, 20.0), run(2_000, 8.0, 26.0)]
)
def test_each_of_the_three_ratios_is_demanded(slow):
    same = [run(1_000, 8.0, 20.0), run(2_000, 8.0, 20.0), run(4_000, 8.0, 20.0)]
    assert figures(*same).holds
    # The same in every pair, so that it is the median.
    runs = [
        SecuredRun(
            replace(one.closed, calls=one.closed.calls * slow.closed.calls // 2_000), slow.at_rate
        )
        for one in same
    ]
    assert not figures(*runs).holds


def test_the_side_that_is_first_changes_from_pair_to_pair():
    firsts = [PLAN.order_sides(number)[0].loop.name for number in (1, 2, 3)]
    assert firsts == ["with TLS", "plain text", "with TLS"]
    assert {one.loop.name for one in PLAN.order_sides(2)} == {"with TLS", "plain text"}


def test_the_pipeline_compares_ours_with_ours_in_plain_text():
    def pipeline_runs(*rates: int) -> list[PipelineRun]:
        return [PipelineRun(rate, 1.0, {"ledger": 1.0}, True) for rate in rates]

    runs = {OURS: pipeline_runs(90, 70, 85), PLAIN_TEXT: pipeline_runs(100, 100, 100)}
    environment = BenchEnvironment(MACHINE, None, {})
    found = PipelineBenchFigures([OURS, PLAIN_TEXT], runs, None, 100, environment)
    output = json.loads(json.dumps(found.as_json()))
    assert output["ratio_secured"] == 0.85
    assert output["ratio_secured_spread"]["lowest"] == 0.7
    assert output["peers"][PLAIN_TEXT]["settled_per_s"] == 100
    assert any("with TLS" in row.name for row in found.rows())
    alone = PipelineBenchFigures([OURS], {OURS: runs[OURS]}, None, 100, environment)
    assert alone.as_json()["ratio_secured"] is None


def opened(settings, folder) -> BenchRun:
    progress = SimpleNamespace(begin=lambda _: None)
    return BenchRun(settings, SimpleNamespace(), "bench_1", folder, progress)  # type: ignore[arg-type]


def test_servers_of_others_and_a_secured_stack_are_not_compared(tmp_path):
    given = read_settings({"PITBOSS_KAFKA": "kafka:1", "PITBOSS_DATABASE": "postgresql://h/d"})
    with (
        pytest.raises(UsageError, match="a stack of its own"),
        open_secured(opened(given, tmp_path)),
    ):
        pass
    own = replace(read_settings({}), home=tmp_path)
    StackTls(tmp_path / "tls").make()
    with pytest.raises(UsageError, match="has TLS"), open_secured(opened(own, tmp_path)):
        pass
    assert not (tmp_path / SECURED_HOME).exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["latency", "--secure", "--closed", "16"],
        ["latency", "--secure", "--hops"],
        ["pipeline", "--secure", "--base", "HEAD"],
        ["pipeline", "--secure", "--peers"],
    ],
)
def test_two_comparisons_at_once_are_refused(arguments):
    assert isinstance(CliRunner().invoke(bench, arguments).exception, UsageError)
