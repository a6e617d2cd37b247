"""`pitboss bench fraud` against a real broker, at a size whose figures mean nothing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from lab.bench.alert_delays import CASE_RULES
from lab.bench.fraud import PEER_TRIES
from pitboss.cli.bench import bench

pytestmark = [pytest.mark.integration, pytest.mark.prove]


def test_both_sides_read_their_logs_and_alerts_of_all_cases_are_timed(stack, tmp_path, monkeypatch):
    monkeypatch.setenv("PITBOSS_KAFKA", stack.kafka.servers)
    monkeypatch.setenv("PITBOSS_DATABASE", stack.database_url)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    options = [
        "--events",
        "40000",
        "--step",
        "5",
        "--pairs",
        "1",
        "--json",
        "--yes-use-these-servers",
    ]
    done = CliRunner().invoke(bench, ["fraud", *options])
    assert done.exception is None, done.output
    output = json.loads(done.stdout)
    [pair] = output["pairs"]
    assert pair["ours"]["events"] > 10 * pair["faust_table"]["events"] > 0
    assert 0 <= output["faust_table_stalls"] < PEER_TRIES
    assert output["events_per_s"]["median"] > 0
    assert output["state_bytes_per_active_player"] > 100
    own, merged = output["alert_delay_ms"], output["merged_alert_delay_ms"]
    assert sorted(own["rules"] + merged["rules"]) == sorted(CASE_RULES)
    assert (own["target_p99"], merged["target_p99"]) == (1_000, 11_000)
    for delays in (own, merged):
        assert 0 <= delays["p50"] <= delays["p99"] <= delays["max"]
        assert delays["alerts"] >= 100
        assert delays["holds"] is (delays["p99"] <= delays["target_p99"])
    # A merged detector waits for the grace in event time: nothing else can explain its delay.
    assert merged["p50"] > 5_000 > own["p50"]
    ratio = output["ratio_to_faust_table"]
    assert ratio["holds"] is (ratio["median"] >= 15)
    assert output["holds"] is all(one["holds"] for one in (own, merged, ratio))
