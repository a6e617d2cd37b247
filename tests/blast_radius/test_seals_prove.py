"""A seal that proves nothing does not say that all is well, and the sealer notices that its topic went back (S3-2)."""

from __future__ import annotations

import asyncio
import json

import psycopg
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from click.testing import CliRunner

from ledger_sink.store.migrate import migrate
from pitboss.cli.main import cli
from pitboss.ops.topic_admin import admin_client, create_topics
from pitboss.settings import Runtime, worker_environment
from tests.integration.ledger.test_seals import book, history

pytestmark = pytest.mark.integration

WELL = "every row is as it was booked"


@pytest.fixture
def run(runtime: Runtime):
    migrate(runtime.database_url)
    events = list(history())
    asyncio.run(book(runtime.database_url, events))
    asyncio.run(create_topics(runtime.broker, runtime.namespace, ["hub88"], 1, 1))
    with psycopg.connect(runtime.database_url) as connection:
        topic = runtime.topic("wallet.transactions.v1")
        connection.execute("UPDATE stream_position SET topic = %s", (topic,))

    def run(*arguments, code=0):
        environment = worker_environment(runtime)
        result = CliRunner().invoke(cli, ["ledger", *map(str, arguments)], env=environment)
        assert result.exit_code == code, (result.output, result.stderr, result.exception)
        return json.loads(result.stdout) if "--json" in arguments else result.output

    return run


def test_what_was_never_sealed_is_said_to_be_so(run, tmp_path):
    """Part (a) of the finding: it was "every row is as it was booked", with the code 0, with a key and without one."""
    key = tmp_path / "audit.pem"
    run("seal", "--new-key", key)
    shown = run("verify", code=3)
    assert "not sealed" in shown
    assert WELL not in shown
    assert run("verify", "--json", code=3)["state"] == "NOT_SEALED"
    shown = run("verify", "--public-key", f"{key}.pub", code=1)
    assert "no checkpoint of this ledger" in shown
    assert WELL not in shown
    run("seal", "--key", key)
    assert WELL in run("verify", "--public-key", f"{key}.pub")
    assert WELL not in run("verify")  # the seals themselves are not proved without the key
    assert run("verify", "--json")["state"] == "AS_SEALED"


def test_a_ledger_that_was_changed_and_sealed_anew_is_found_without_a_kept_file(
    run, runtime, tmp_path
):
    """Part (b): the owner deletes the seals, changes entries and empties the topic; then it is sealed again."""
    key = tmp_path / "audit.pem"
    public = ["--public-key", f"{key}.pub"]
    run("seal", "--new-key", key)
    run("seal", "--key", key)
    assert WELL in run("verify", *public, "--at-least", "1")
    assert "1 checkpoint, at least 2 were expected" in run(
        "verify", *public, "--at-least", "2", code=1
    )
    with psycopg.connect(runtime.database_url) as owner:
        owner.execute("DELETE FROM seal")
        changed = "SELECT ctid FROM entry WHERE outcome = 'POSTED' LIMIT 3"
        owner.execute(f"UPDATE entry SET game_id = 'another' WHERE ctid IN ({changed})".encode())
    asyncio.run(_empty_topic(runtime))
    assert "no checkpoint of this ledger" in run("verify", *public, code=1)
    refused = run("seal", "--key", key, code=70)
    assert "CHECKPOINTS_WENT_BACK" in refused
    assert "no checkpoint of this ledger" in run("verify", *public, code=1)


def test_rows_beyond_the_last_checkpoint_may_be_young_but_not_old(run, runtime, tmp_path):
    key = tmp_path / "audit.pem"
    public = ["--public-key", f"{key}.pub"]
    run("seal", "--new-key", key)
    with psycopg.connect(runtime.database_url, autocommit=True) as owner:
        move = "UPDATE stream_position SET next_offset = next_offset + %s WHERE part = 0"
        owner.execute(move, (-10,))
        run("seal", "--key", key)  # the sealer stops before the last ten events
        owner.execute(move, (10,))
        age = "UPDATE entry SET decided_at_ms = (extract(epoch FROM now()) - %s)::bigint * 1000"
        age += " WHERE part = 0 AND source_offset >= (SELECT next_offset - 10 FROM stream_position WHERE part = 0)"
        assert owner.execute(age, (5,)).rowcount > 0
        assert run("verify", *public, "--json")["state"] == "AS_BOOKED"
        owner.execute(age, (7_200,))
    found = run("verify", *public, "--json", code=1)
    assert found["state"] == "FAULTS"
    assert "under no checkpoint" in found["faults"][0]["what"]
    assert run("verify", *public, "--unsealed-max-s", "10000", "--json")["state"] == "AS_BOOKED"
    run("seal", "--key", key)
    assert run("verify", *public, "--json")["state"] == "AS_BOOKED"


async def _empty_topic(runtime: Runtime) -> None:
    topic = runtime.topic("audit.checkpoints.v1")
    async with admin_client(runtime.broker) as admin:
        end = RecordsToDelete(before_offset=-1)
        await admin.delete_records({TopicPartition(topic, 0): end})
