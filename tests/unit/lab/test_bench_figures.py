"""What the command says of its figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from lab.bench.machine import Machine
from lab.bench.normalise import EVENTS_MIN, TARGET_RATIO, NormaliseBenchFigures, NormaliseBenchPlan
from lab.bench.observation import MeasuredSubject
from lab.bench.processes import ProcessCommand
from lab.bench.rates import Pair, Rate
from lab.bench.report import BenchEnvironment, format_table
from pitboss.cli.bench import bench
from pitboss.cli.bench_environment import print_figures
from runtime.security import BrokerAddress
from schemas.errors import UsageError

MACHINE = Machine("a CPU", 2, 8.0, "Linux 6", "CPython 3.11", {"aiokafka": "0.14"}, 0.5)


def figures(*ratios: float) -> NormaliseBenchFigures:
    subject = MeasuredSubject("x", ProcessCommand([], {}, Path()), "group", "source", "sink")
    plan = NormaliseBenchPlan(
        BrokerAddress("kafka:1"),
        subject,
        subject,
        subject,
        iter(()),
        iter(()),
        len(ratios),
        360_000,
        8,
        "embedded stack",
    )
    pairs = [
        Pair(Rate(round(50 * ratio), 1.0, 0.001 * ratio, 0.5), Rate(50, 1.0, 0.4, 0.7))
        for ratio in ratios
    ]
    return NormaliseBenchFigures(
        plan,
        pairs,
        Rate(500, 1.0, 0.05),
        12.25,
        BenchEnvironment(MACHINE, "abc1234", {"kafka": {}}),
    )


def test_the_object_says_what_was_measured_and_where():
    output = json.loads(json.dumps(figures(20, 10, 25).as_json()))
    assert output["ours_per_s"] == 1_000
    assert output["plain_faust_per_s"] == 50
    assert output["ratio_plain_faust"] == 20
    assert output["ratio_plain_faust_spread"] == {"median": 20, "lowest": 10, "highest": 25}
    assert [pair["ratio"] for pair in output["pairs"]] == [20, 10, 25]
    assert output["pairs"][0]["plain_faust"]["per_s"] == 50
    assert output["cpu_s_per_million_ours"] == 20
    assert output["cpu_s_per_million_plain_faust"] == 8_000
    assert output["mapping_us_per_event"] == 12.25
    assert output["elsewhere_cores"] == 0.6
    assert output["pairs"][0]["ours"]["elsewhere_cores"] == 0.5
    assert output["with_signature_per_s"] == 500
    assert (output["events"], output["events_plain_faust"], output["events_with_signature"]) == (
        360_000,
        20_000,
        180_000,
    )
    assert output["partitions"] == 8
    assert output["machine"]["cpu"] == "a CPU"
    assert output["commit"] == "abc1234"
    assert output["servers"] == {"kafka": {}}


def test_another_peer_is_compared_pair_by_pair():
    result = replace(
        figures(20, 10), others={"quix_streams": [Rate(500, 1.0, 0.02), Rate(1_000, 1.0, 0.02)]}
    )
    output = result.as_json()
    assert output["ratio_quix_streams"] == 1.25  # 2 and 0.5
    assert output["ratio_bytewax"] is None
    assert [rate["per_s"] for rate in output["others"]["quix_streams"]] == [500, 1_000]
    text = format_table("title", result.rows(), result.environment)
    assert "Quix Streams" in text
    assert "ours to it 1.25" in text


def test_peers_that_did_not_run_are_null():
    output = figures(20).as_json()
    assert output["ratio_confluent_loop"] is None
    assert output["ratio_quix_streams"] is None
    assert output["ratio_bytewax"] is None
    assert output["cpu_ratio_kafka_streams"] is None


@pytest.mark.parametrize(
    ("ratios", "holds"),
    [
        ((TARGET_RATIO - 5, TARGET_RATIO, 40), True),
        ((TARGET_RATIO - 5, TARGET_RATIO - 0.1, 90), False),
    ],
    ids=["the middle one reaches it", "only the best one does"],
)
def test_the_target_is_reached_by_the_middle_pair(ratios, holds):
    result = figures(*ratios)
    assert result.holds is holds
    text = format_table("title", result.rows(), result.environment)
    assert ("NOT reached" in text) is not holds
    assert "abc1234" in text
    assert "a CPU" in text


def test_a_saved_result_is_the_object_with_its_commit_in_the_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pitboss.cli.bench_environment.RESULTS", tmp_path / "results")
    print_figures("title", figures(20), as_json=True, save_as="normalise")
    saved = json.loads((tmp_path / "results" / "normalise-abc1234.json").read_text())
    assert saved == json.loads(capsys.readouterr().out)
    assert saved["machine"]["cpu"] == "a CPU"


@pytest.mark.parametrize(
    "command",
    [
        "normalise --peers --save",
        "ledger",
        "latency --closed 16,64",
        "latency --hops --rate 200 --closed 4",
        "latency --base HEAD",
        "pipeline --peers --base HEAD",
        "pipeline --peer quix --peer faust --records 500",
    ],
)
def test_servers_of_others_are_left_alone_without_leave(monkeypatch, command):
    monkeypatch.setenv("PITBOSS_KAFKA", "kafka.example:9092")
    monkeypatch.setenv("PITBOSS_DATABASE", "postgresql://user@db.example/postgres")
    result = CliRunner().invoke(bench, command.split())
    assert isinstance(result.exception, UsageError)
    assert "--yes-use-these-servers" in str(result.exception)


def test_too_few_events_are_refused():
    result = CliRunner().invoke(bench, ["normalise", "--events", str(EVENTS_MIN - 1)])
    assert result.exit_code == 2
    assert str(EVENTS_MIN) in result.output
