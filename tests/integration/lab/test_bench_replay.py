"""`pitboss bench replay` against a real broker, at a size whose figures mean nothing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pitboss.cli.bench import bench

pytestmark = [pytest.mark.integration, pytest.mark.prove]


def test_both_sides_read_the_log(stack, tmp_path, monkeypatch):
    monkeypatch.setenv("PITBOSS_KAFKA", stack.kafka.servers)
    monkeypatch.setenv("PITBOSS_DATABASE", stack.database_url)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    options = ["--events", "10000", "--pairs", "1", "--json", "--yes-use-these-servers"]
    done = CliRunner().invoke(bench, ["replay", *options])
    assert done.exception is None, done.output
    output = json.loads(done.stdout)
    assert output["events"] == 10_000
    [pair] = output["pairs"]
    assert pair["ours"]["events"] == 10_000
    assert 0 < pair["peer"]["events"] < 10_000
    assert output["events_per_s"] > 0
    assert output["peer_events_per_s"] > 0
    assert output["rss_mb"] > 50
    assert output["rss_mb_of_tenth"] > 50
