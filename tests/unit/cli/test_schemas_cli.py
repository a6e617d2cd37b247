"""`pitboss schemas` without any server."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

import pitboss.cli.schemas
from pitboss.cli.main import cli
from schemas.compatibility import released_checksums
from schemas.registry import released_registry


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["schemas", *arguments])


def test_every_schema_is_listed_with_id_topics_and_checksum():
    rows = {row["schema"]: row for row in json.loads(run("list", "--json").stdout)}
    assert {name: row["sha256"] for name, row in rows.items()} == released_checksums()
    assert rows["wallet-transaction/v1"]["id"] == 810001
    assert rows["wallet-transaction/v1"]["topics"] == [
        "wallet.transactions.v1",
        "wallet.transactions.unresolved.v1",
    ]
    table = run("list")
    assert table.exit_code == 0
    assert all(schema.name in table.stdout for schema in released_registry())


@pytest.mark.parametrize("name", ["wallet-balance", "wallet-balance/v1"])
def test_a_schema_is_shown_as_its_file_has_it(name):
    assert json.loads(run("show", name).stdout) == released_registry().get("wallet-balance", 1).json


@pytest.mark.parametrize("name", ["wallet", "wallet-balance/v99", "wallet-balance/1"])
def test_an_unknown_schema_is_a_usage_error_that_names_the_subjects(name):
    result = run("show", name)
    assert result.exit_code == 2
    assert "wallet-balance" in result.stderr


def test_check_passes_what_is_released():
    assert run("check").exit_code == 0
    assert json.loads(run("check", "--json").stdout) == []


def test_check_fails_on_an_edited_schema(monkeypatch):
    edited = {**released_checksums(), "wallet-balance/v1": "0" * 64}
    monkeypatch.setattr(pitboss.cli.schemas, "released_checksums", lambda: edited)
    result = run("check")
    assert result.exit_code == 1
    assert "wallet-balance/v1: was edited after its release" in result.stdout
    [problem] = json.loads(run("check", "--json").stdout)
    assert problem["schema"] == "wallet-balance/v1"
