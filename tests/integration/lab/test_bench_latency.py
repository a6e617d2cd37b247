"""`pitboss bench latency` against real servers and workers, at a size whose figures mean nothing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from lab.bench.hop_traces import DIFFERENCE_MAX
from lab.bench.hops import HOPS
from pitboss.cli.bench import bench

pytestmark = [pytest.mark.integration, pytest.mark.prove]

SIZE = ["--provider", "hub88", "--provider", "house", "--partitions", "2", "--seconds", "1"]


@pytest.fixture
def measure(stack, tmp_path, monkeypatch):
    monkeypatch.setenv("PITBOSS_KAFKA", stack.kafka.servers)
    monkeypatch.setenv("PITBOSS_DATABASE", stack.database_url)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    monkeypatch.setattr("pitboss.cli.bench_latency.PLAYERS", 20)
    monkeypatch.setattr("pitboss.cli.bench_latency._PEER_BETS", 50)
    monkeypatch.setattr("lab.bench.closed._CALLS_PER_S_FIRST", 300)
    for name in (
        "closed.WARM_UP_S",
        "closed.BROKER_WARM_UP_S",
        "hop_tracing.WARM_UP_S",
        "hop_tracing.BROKER_WARM_UP_S",
    ):
        monkeypatch.setattr(f"lab.bench.{name}", 0.2)

    def run(*options: str):
        done = CliRunner().invoke(
            bench, ["latency", *SIZE, *options, "--json", "--yes-use-these-servers"]
        )
        assert done.exception is None, done.output
        return json.loads(done.stdout)

    return run


def test_both_sides_of_the_closed_loop_answer_every_bet(measure):
    output = measure("--closed", "2,4", "--rounds", "1")
    assert set(output["closed"]) == {"2", "4"}
    for figures in output["closed"].values():
        for side in (figures, figures["bare_hops"]):
            assert side["calls_per_s"] > 0
            assert 0 < side["p50_ms"] <= side["p99_ms"]
            # The test does not tell the bench which processes its servers are.
            assert side["cpu_ms_a_call"] is None
        assert figures["cpu_ms_a_call_by_part"].keys() == {"normalise", "ledger"}
        assert figures["bare_hops"]["cpu_ms_a_call_by_part"].keys() == {"hop_1", "hop_2"}
    assert output["partitions"] == {"raw_topics": 2, "raw": 4, "log": 2}


def test_the_hops_of_real_bets_sum_to_their_whole_time(measure):
    output = measure("--hops", "--closed", "2", "--rate", "20")
    assert set(output["hops"]) == {"2 in flight", "20 a second"}
    for load, hops in output["hops"].items():
        assert tuple(hops) == (*HOPS, "whole")
        assert output["bets"][load] >= 1
        total_ms = sum(hops[hop]["mean_ms"] for hop in HOPS)
        assert total_ms == pytest.approx(hops["whole"]["mean_ms"], abs=0.1)
        for hop in ("fetch_raw", "produce", "commit"):  # each needs another process, or a disk
            assert hops[hop]["mean_ms"] > 0


def test_the_traces_of_real_bets_have_every_step_once_and_the_times_of_the_hops(measure):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs pitboss[telemetry]")
    output = measure("--hops", "--traces", "--rate", "20")
    assert output["bets"] == {"20 a second": 20}
    for kind, bets in (("spans", 20), ("pitboss trace", 10)):
        found = output["traces"]["20 a second"][kind]
        assert (found["bets"], found["incomplete"]) == (bets, 0)
        # Both are times of the same moments, so this is no matter of speed.
        assert found["steps"]["whole"]["difference"] <= DIFFERENCE_MAX


def test_decision_times_are_measured_beside_a_replay(measure, monkeypatch):
    monkeypatch.setattr("lab.bench.latency_replay.HISTORY_EVENTS", 2_000)
    monkeypatch.setattr("pitboss.cli.bench_latency.BROKER_WARM_UP_S", 0.2)
    monkeypatch.setattr("lab.bench.latency.BROKER_WARM_UP_S", 0.2)
    output = measure("--replay", "--rate", "20", "--pairs", "1")
    [pair] = output["pairs"]
    for side in (*pair.values(), output["full_speed"]):
        assert 0 < side["p50_ms"] <= side["p99_ms"]
    assert output["ratio"]["median"] > 0
    assert output["quota_records_per_s"] == 20_000
