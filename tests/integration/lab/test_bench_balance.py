"""`pitboss bench balance` on real servers, at a size whose figures mean nothing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pitboss.cli.bench import bench

pytestmark = [pytest.mark.integration, pytest.mark.prove]


def test_the_command_is_asked_about_both_halves_of_the_log(stack, tmp_path, monkeypatch):
    monkeypatch.setenv("PITBOSS_KAFKA", stack.kafka.servers)
    monkeypatch.setenv("PITBOSS_DATABASE", stack.database_url)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    options = ["--events", "3000", "--questions", "4", "--json", "--yes-use-these-servers"]
    done = CliRunner().invoke(bench, ["balance", *options])
    assert done.exception is None, (done.output, done.exception)
    output = json.loads(done.stdout)
    assert (output["events"], output["questions"]) == (3_000, 4)
    assert output["transfers"] >= 3_000
    for key in ("client_s", "archive_client_s", "server_ms", "planning_ms"):
        assert 0 < output[key]["p50"] <= output[key]["max"]
    assert output["server_ms"]["max"] < output["client_s"]["max"] * 1_000
    assert not list(tmp_path.iterdir())
