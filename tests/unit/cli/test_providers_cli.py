"""`pitboss providers` without any server."""

from __future__ import annotations

import json

import pytest
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
    assert said["repacked"] == len(said["by_adapter"]) == len({*said["by_adapter"]})
    assert said["mirrored"] > 0 == said["repacked_differences"] == said["mirrored_differences"]
    assert said["story_failures"] == []


def test_the_same_seed_gives_the_same_counts():
    first, second = (
        run("fuzz", "--count", "300", "--seed", "5", "--json").stdout for _ in range(2)
    )
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


def test_the_list_works_where_nothing_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path))
    monkeypatch.delenv("PITBOSS_KAFKA", raising=False)
    monkeypatch.delenv("PITBOSS_DATABASE", raising=False)
    result = run("list", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert {row["provider"] for row in rows} == set(DIALECTS)
    assert len(rows) == len(DIALECTS.rows)
    assert {
        "provider",
        "version",
        "state",
        "retires_on",
        "events_24h",
        "days_to_retirement",
        "last_sample",
    } <= set(rows[0])
    assert {row["events_24h"] for row in rows} == {None}
    assert "no stack was started" in result.stderr
    table = run("list")
    assert all(row["provider"] in table.stdout for row in rows)


def test_the_list_works_where_the_servers_do_not_answer(monkeypatch):
    monkeypatch.setenv("PITBOSS_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("PITBOSS_DATABASE", "postgresql://nobody:secret@127.0.0.1:1/postgres")
    result = run("list", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)[0]["events_24h"] is None
    assert "UNAVAILABLE" in result.stderr
    assert "secret" not in result.stderr


@pytest.mark.prove
def test_a_hundred_thousand_messages_of_every_adapter():
    result = run("fuzz", "--count", "100000", "--seed", "1", "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["count"] == 100_000
    assert said["exceptions"] == said["unaccounted"] == said["inexact"] == 0
    assert len(said["by_adapter"]) >= 13
    assert all(tally["accepted"] >= tally["count"] / 10 for tally in said["by_adapter"].values())
