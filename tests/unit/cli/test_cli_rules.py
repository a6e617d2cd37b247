"""`pitboss rules list` and `show`, without servers and with the rules of an installation."""

from __future__ import annotations

import json

import msgspec
import pytest
from click.testing import CliRunner

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.rule_book import RuleBook
from fraud_agents.rules import RuleScope
from pitboss.cli import rule_changes
from pitboss.cli.main import cli
from pitboss.ops.rule_changes import make_change, publish_change
from schemas.rule_changes import RuleChangeKind

BY = {"actor": "kim", "reason": "a trial"}


def pitboss(*arguments):
    return CliRunner().invoke(cli, ["rules", *arguments])


@pytest.fixture
def no_stack(tmp_path, monkeypatch):
    for name in ("PITBOSS_KAFKA", "PITBOSS_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PITBOSS_HOME", str(tmp_path / "none"))


@pytest.fixture
def published(monkeypatch):
    """An installation with a draft of D01, a shadow of a rule of its own, and D20 paused."""
    [d01] = [rule for rule in DEFAULT_RULES if rule.rule_id == "D01"]
    draft = msgspec.structs.replace(d01, version=3, threshold=200, owner="risk", title="Fast bets")
    own = msgspec.structs.replace(
        d01, rule_id="VIP-BETS", detector="D01", version=1, scope=RuleScope(regions=["MT"])
    )
    book = RuleBook(DEFAULT_RULES)
    state = RuleChangeKind.STATE
    changes = [
        publish_change(draft, **BY),
        publish_change(own, **BY),
        make_change(state, "VIP-BETS", 1, state="shadow", **BY),
        make_change(state, "D20", 1, state="paused", **BY),
    ]
    for offset, change in enumerate(changes):
        assert book.apply(change, offset) is None

    async def read_book(runtime):
        return book

    monkeypatch.setattr(rule_changes, "_runtime", lambda: None)
    monkeypatch.setattr(rule_changes, "read_book", read_book)


def test_without_servers_it_lists_the_rules_of_the_release(no_stack):
    done = pitboss("list", "--json")
    rows = json.loads(done.stdout)
    assert [(row["rule_id"], row["digest"]) for row in rows] == [
        (rule.rule_id, rule.digest) for rule in sorted(DEFAULT_RULES, key=lambda one: one.rule_id)
    ]
    assert {row["state"] for row in rows} == {"active"}
    assert "the rules of the release" in done.stderr
    table = pitboss("list")
    assert table.exit_code == 0
    assert "D01:2" in table.stdout


def test_it_lists_every_published_version_with_its_state(published):
    rows = json.loads(pitboss("list", "--json").stdout)
    states = {(row["rule_id"], row["version"]): row["state"] for row in rows}
    assert states["D01", 2] == "active"
    assert states["D01", 3] == "draft"
    assert states["VIP-BETS", 1] == "shadow"
    assert states["D20", 1] == "paused"
    assert len(rows) == len(DEFAULT_RULES) + 2
    lines = {line.split()[1]: line for line in pitboss("list").stdout.splitlines()[3:-1]}
    assert "draft" in lines["D01:3"]
    assert "Fast bets" in lines["D01:3"]


def test_it_shows_any_published_version(published):
    assert json.loads(pitboss("show", "D01", "--json").stdout)["version"] == 2
    draft = json.loads(pitboss("show", "d01:3", "--json").stdout)
    assert (draft["threshold"], draft["state"], draft["set_by"]) == (200, "draft", "kim")
    own = pitboss("show", "VIP-BETS")
    assert own.exit_code == 0
    for text in ("VIP-BETS version 1", "shadow, by kim: a trial", "detector", "MT"):
        assert text in own.stdout
    # Of a rule without an active version, the latest.
    assert json.loads(pitboss("show", "D20", "--json").stdout)["state"] == "paused"


@pytest.mark.parametrize("name", ["D01:4", "VIP-BET", "D99"])
def test_what_is_not_published_is_refused_with_a_suggestion(published, name):
    done = pitboss("show", name)
    assert done.exit_code == 2
    assert f"rule {name} is not published" in done.stderr
    assert ("did you mean" in done.stderr) or ("there are" in done.stderr)
