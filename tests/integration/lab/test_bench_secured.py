"""`pitboss bench … --secure` on two stacks of its own, at a size whose figures mean nothing."""

from __future__ import annotations

import json
import time

import pytest
from click.testing import CliRunner

from lab.bench.pipeline_figures import PLAIN_TEXT
from lab.bench.pipeline_traffic import load_keys, write_chunk
from pitboss.cli.bench import bench
from pitboss.cli.bench_environment import SECURED_HOME
from pitboss.embedded.state import read_state

pytestmark = [pytest.mark.integration, pytest.mark.prove]


@pytest.fixture
def measure(private_settings, guard, monkeypatch):
    home = private_settings.home
    guard.watch(home / SECURED_HOME)
    monkeypatch.setenv("PITBOSS_HOME", str(home))
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str):
        done = CliRunner().invoke(bench, [*arguments, "--secure", "--pairs", "1", "--json"])
        assert done.exception is None, done.output
        # Neither stack ran before, so neither does now.
        assert read_state(home) is None
        assert read_state(home / SECURED_HOME) is None
        return json.loads(done.stdout)

    return run


def test_bets_are_answered_on_both_kinds_of_servers(measure, monkeypatch):
    monkeypatch.setattr("pitboss.cli.bench_latency.PLAYERS", 20)
    monkeypatch.setattr("lab.bench.secured._CALLS_PER_S_FIRST", 300)
    for name in ("secured.BROKER_WARM_UP_S", "secured.WARM_UP_S", "base_latency.WARM_UP_S"):
        monkeypatch.setattr(f"lab.bench.{name}", 0.2)
    size = ["--provider", "hub88", "--provider", "house", "--partitions", "2", "--seconds", "1"]
    output = measure("latency", *size, "--rate", "20")
    assert output["ratio_secured"] > 0
    for side in ("secured", "plain"):
        assert output[side]["closed"]["calls_per_s"] > 0
        assert output[side]["at_rate"]["calls"] == [20]
        cpu = output[side]["closed"]["cpu_ms_a_call_by_part"]
        assert cpu.keys() == {"normalise", "ledger", "broker", "postgres"}
    assert output["servers"]["secured"]["kafka_security"] == "SASL_SSL"


def test_a_backlog_is_settled_on_both_kinds_of_servers(measure, monkeypatch, tmp_path):
    monkeypatch.setattr("lab.bench.pipeline_traffic._CHUNK_EVENTS", 2_000)
    load_keys(tmp_path)
    write_chunk(tmp_path, 1, time.time_ns() // 1_000_000 - 600_000, tmp_path / "00001.chunk")
    size = ["--records", "1500", "--partitions", "2", "--traffic", str(tmp_path)]
    output = measure("pipeline", *size)
    assert output["ratio_secured"] > 0
    assert output["idle"] is None
    assert output["peers"].keys() == {PLAIN_TEXT}
    for side in (output, output["peers"][PLAIN_TEXT]):
        assert side["settled_per_s"] > 0
        assert side["cpu_s_per_million"]["total"] > 0  # of both brokers, and both databases
