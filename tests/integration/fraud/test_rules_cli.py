"""`pitboss rules list` and `show` over the topic of rules: any version that was published."""

from __future__ import annotations

import asyncio
import json

import pytest
from click.testing import CliRunner

from fraud_agents.detectors import DEFAULT_RULES
from pitboss.cli.main import cli
from pitboss.settings import worker_environment
from tests.support import fraud_log

pytestmark = pytest.mark.integration

RULE = {
    "rule": "FAST-BETS",
    "version": 2,
    "detector": "D01",
    "severity": "block",
    "owner": "risk",
    "reason": "a burst of 200 in a minute is a machine already",
    "parameters": {"threshold": 200, "limits": {"warn": 60}},
}


@pytest.fixture
def pitboss(runtime, monkeypatch):
    for name, value in worker_environment(runtime).items():
        if name.startswith("PITBOSS_"):
            monkeypatch.setenv(name, value)
    asyncio.run(fraud_log.make_topics(runtime))

    def run(*arguments: str):
        done = CliRunner().invoke(cli, ["rules", *arguments, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return run


def test_a_version_that_was_published_is_listed_and_shown_with_its_state(pitboss, tmp_path):
    file, by = tmp_path / "rule.json", ("--by", "kim", "--reason", "a trial")
    file.write_text(json.dumps(RULE))
    assert len(pitboss("list")) == len(DEFAULT_RULES)
    pitboss("publish", str(file), *by)
    draft = pitboss("show", "FAST-BETS:2")
    assert (draft["state"], draft["threshold"], draft["severity"]) == ("draft", 200, "block")
    pitboss("activate", "FAST-BETS:2", *by, "--state", "canary:25", "--wait", "0")
    pitboss("pause", "D20:1", *by, "--wait", "0")
    states = {f"{row['rule_id']}:{row['version']}": row["state"] for row in pitboss("list")}
    assert len(states) == len(DEFAULT_RULES) + 1
    assert (states["FAST-BETS:2"], states["D20:1"], states["D01:2"]) == (
        "canary",
        "paused",
        "active",
    )
    shown = pitboss("show", "fast-bets")
    assert (shown["percent"], shown["set_by"], shown["owner"]) == (25, "kim", "risk")
