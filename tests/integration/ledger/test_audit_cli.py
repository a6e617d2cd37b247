"""`pitboss ledger seal` and `verify` as an auditor uses them."""

from __future__ import annotations

import asyncio
import json

import psycopg
import pytest
from click.testing import CliRunner

from ledger_sink.store.migrate import migrate
from pitboss.cli.main import cli
from pitboss.ops.topic_admin import create_topics
from pitboss.settings import worker_environment
from tests.integration.ledger.test_seals import book, history

pytestmark = pytest.mark.integration


@pytest.fixture
def run(runtime):
    migrate(runtime.database_url)
    asyncio.run(book(runtime.database_url, list(history())))
    asyncio.run(create_topics(runtime.broker, runtime.namespace, ["hub88"], 1, 1))
    with psycopg.connect(
        runtime.database_url
    ) as connection:  # as if the workers had booked from this namespace's topic
        topic = runtime.topic("wallet.transactions.v1")
        connection.execute("UPDATE stream_position SET topic = %s", (topic,))

    def run(*arguments, code=0):
        result = CliRunner().invoke(
            cli, ["ledger", *map(str, arguments)], env=worker_environment(runtime)
        )
        assert result.exit_code == code, (result.output, result.stderr, result.exception)
        return json.loads(result.stdout) if "--json" in arguments else result.stdout

    return run


def test_an_auditor_finds_the_row_that_was_changed(run, runtime, tmp_path):
    key, file = tmp_path / "audit.pem", tmp_path / "checkpoints.jsonl"
    run("seal", "--new-key", key)
    assert key.stat().st_mode & 0o077 == 0
    run("seal", "--new-key", key, code=2)
    first = run("seal", "--key", key, "--file", file, "--json")
    assert (first["checkpoint"], first["rows"] > 300) == (1, True)
    assert run("seal", "--key", key, "--file", file, "--json") == {
        "seals": 0,
        "rows": 0,
        "checkpoint": None,
    }
    public = ["--public-key", f"{key}.pub"]
    assert run("verify", *public, "--json")["holds"]
    assert run("verify", *public, "--file", file, "--json")["holds"]
    with psycopg.connect(runtime.database_url) as owner:
        row = owner.execute(
            "UPDATE transfer SET amount_minor = amount_minor + 1 WHERE ctid = (SELECT ctid FROM transfer WHERE part = 1"
            " ORDER BY source_offset LIMIT 1) RETURNING player_id, version"
        ).fetchone()
    assert row is not None
    [player, version] = row
    found = run("verify", *public, "--json", code=1)["faults"]
    assert found[0]["where"].startswith(f"transfer {player}:EUR v{version} of event ")
    assert {"balances_match"} <= {fault["where"] for fault in found}
    with psycopg.connect(runtime.database_url) as owner:
        owner.execute(
            "UPDATE transfer SET amount_minor = amount_minor - 1 WHERE player_id = %s AND version = %s",
            (player, version),
        )
        owner.execute("DELETE FROM seal WHERE part = 1")
    assert "is gone" in run("verify", *public, "--json", code=1)["faults"][0]["what"]
    assert run("verify", "--json")["holds"]  # without the key nothing proves what there was


def test_checkpoints_of_another_key_and_lost_ones_are_reported(run, tmp_path, runtime):
    key, other, file = tmp_path / "a.pem", tmp_path / "b.pem", tmp_path / "checkpoints.jsonl"
    run("seal", "--new-key", key)
    run("seal", "--new-key", other)
    run("seal", "--key", key, "--file", file)
    with psycopg.connect(runtime.database_url) as owner:
        owner.execute("DELETE FROM seal WHERE part = 0")
    run(
        "seal", "--key", key, "--file", file
    )  # sealed anew: the same rows, so the same seals, and nothing to sign
    assert len(file.read_bytes().splitlines()) == 1
    found = run("verify", "--public-key", f"{other}.pub", "--json", code=1)["faults"]
    assert [fault["what"] for fault in found] == [found[0]["what"]]
    assert "is not signed by this key" in found[0]["what"]
    line = file.read_text()
    file.write_text(line + line)
    assert (
        "does not continue"
        in run("verify", "--public-key", f"{key}.pub", "--file", file, "--json", code=1)["faults"][
            0
        ]["what"]
    )
    file.write_text("{}\n")
    run("verify", "--public-key", f"{key}.pub", "--file", file, code=2)
    run("seal", code=2)
