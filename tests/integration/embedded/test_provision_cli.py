"""`pitboss provision` says beforehand what it would create, then creates just that, and then nothing."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pitboss.cli.main import cli
from pitboss.embedded.databases import database_exists, drop_database
from pitboss.settings import worker_environment
from schemas.topics import TRANSACTIONS

pytestmark = pytest.mark.integration


@pytest.fixture
def runtime(empty_runtime):
    return empty_runtime


@pytest.fixture
def provision(runtime):
    command = ["provision", "--partitions", "1", "--provider", "hub88"]
    return lambda *more: CliRunner().invoke(cli, [*command, *more], env=worker_environment(runtime))


def test_a_dry_run_tells_what_is_then_created(provision, runtime):
    drop_database(runtime)
    would = json.loads(provision("--dry-run", "--json").stdout)
    assert (would["database"], would["namespace"]) == (runtime.database, runtime.namespace)
    assert (would["dry_run"], would["has_new_database"], would["topics"]["existing"]) == (
        True,
        True,
        [],
    )
    assert not database_exists(runtime)
    lines = provision("--dry-run").stdout.splitlines()
    assert f"would create  database {runtime.database}" in lines
    assert f"would create  topic {runtime.topic(TRANSACTIONS)}" in lines
    assert f"would create  migration {would['migrations'][0]}" in lines

    done = json.loads(provision("--json").stdout)
    assert done == {**would, "dry_run": False}
    assert database_exists(runtime)

    again = json.loads(provision("--dry-run", "--json").stdout)
    assert (again["has_new_database"], again["migrations"], again["topics"]["created"]) == (
        False,
        [],
        [],
    )
    assert again["topics"]["existing"] == done["topics"]["created"]
    assert (
        provision().stdout == f"ready: database {runtime.database}, namespace {runtime.namespace}\n"
    )
