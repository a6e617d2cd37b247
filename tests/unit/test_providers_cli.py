"""`pitboss providers` without any server."""

from __future__ import annotations

import json

from click.testing import CliRunner, Result

from pitboss.cli.main import cli
from streams.providers.hub88 import Hub88
from streams.providers.registry import DIALECTS


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["providers", *arguments])


def test_fuzz_counts_by_adapter():
    result = run("fuzz", "--count", "400", "--seed", "5", "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["count"] == 400 == said["accepted"] + said["rejected"]
    assert said["exceptions"] == said["unaccounted"] == said["inexact"] == 0
    assert {name.partition("/")[0] for name in said["by_adapter"]} == set(DIALECTS)
    assert sum(tally["count"] for tally in said["by_adapter"].values()) == 400


def test_the_same_seed_gives_the_same_counts():
    first, second = (run("fuzz", "--count", "300", "--seed", "5", "--json").stdout for _ in range(2))
    assert first == second != run("fuzz", "--count", "300", "--seed", "6", "--json").stdout


def test_a_failing_case_is_told_and_can_be_sent_again(monkeypatch):
    def raising(self, request, results):
        message = "planted"
        raise KeyError(message)

    monkeypatch.setattr(Hub88, "answer", raising)
    result = run("fuzz", "--count", "40", "--seed", "5", "--provider", "hub88", "--json")
    assert result.exit_code == 1
    failure = json.loads(result.stdout)["failures"][3]
    again = ("fuzz", "--seed", "5", "--provider", "hub88", "--only", str(failure["index"]))
    assert f"pitboss providers {' '.join(again)}" in result.stderr
    assert "KeyError: 'planted'" in result.stderr
    monkeypatch.undo()
    shown = run(*again)
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["example"] == failure["example"]


def test_an_unknown_provider_is_a_usage_error():
    result = run("fuzz", "--provider", "nobody")
    assert result.exit_code == 2
    assert "hub88" in result.stderr


def test_a_person_gets_a_table():
    result = run("fuzz", "--count", "100")
    assert result.exit_code == 0
    assert all(provider in result.stdout for provider in DIALECTS)
