"""`pitboss rules diff`, and what the commands that change rules refuse before they ask a server."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli

BY = ("--by", "kim", "--reason", "a test")


@pytest.fixture
def rule(tmp_path):
    path = tmp_path / "rule.json"
    document = {
        "rule": "D01",
        "version": 3,
        "detector": "D01",
        "owner": "risk",
        "reason": "a tighter warning",
        "parameters": {"limits": {"warn": {"value": 60, "source": "our own traffic"}}},
    }
    path.write_text(json.dumps(document))
    return path


def pitboss(*arguments):
    return CliRunner().invoke(cli, ["rules", *map(str, arguments)])


def test_diff_shows_what_a_file_changes_about_a_version(rule):
    found = json.loads(pitboss("diff", "D01:2", rule, "--json").stdout)
    changed = {one["field"]: (one["first"], one["second"]) for one in found}
    assert changed["limits.warn.value"] == ("120", "60")
    assert changed["version"] == ("2", "3")
    assert set(changed) == {
        *("limits.warn.source", "limits.warn.value", "owner", "reason", "version"),
    }
    shown = pitboss("diff", rule, rule)
    assert shown.exit_code == 0
    assert "warn" not in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("activate", "D01", *BY), "not a version of a rule"),
        (("activate", "D01:0", *BY), "not a version of a rule"),
        (("activate", "D01:3", "--state", "draft", *BY), "give shadow, canary"),
        (("activate", "D01:3", "--state", "active:5", *BY), "give shadow, canary"),
        (("pause", "D01:3:4", *BY), "not a version of a rule"),
        (("activate", "D01:3"), "Missing option"),
        (("pause", "D01:3", "--by", " ", "--reason", "r"), "a person's name and a reason"),
        (("snooze", "D01", "--player", "p", *BY), "Missing option '--until'"),
        (("snooze", "D01", "--player", "p", "--until", "never", *BY), "never"),
        (("diff", "D01:2", "missing.json"), "neither RULE:VERSION"),
    ],
)
def test_what_is_not_a_change_is_refused(arguments, message):
    result = pitboss(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_file_that_is_not_a_rule_is_refused_with_the_place(tmp_path):
    path = tmp_path / "rule.json"
    path.write_text('{"detector": "D01", "parameters": {"treshold": 3}}')
    result = pitboss("publish", path, *BY)
    assert result.exit_code == 2
    assert "'treshold' was unexpected" in result.stderr
    assert str(path) in result.stderr
