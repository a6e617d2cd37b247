"""`pitboss ledger recover` without workers: a database in the middle of its log is booked to its end."""

from __future__ import annotations

import asyncio
import json

import psycopg
import pytest
from click.testing import CliRunner

from ledger_sink.booking.settings import GROUP
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.migrate import migrate
from pitboss.cli.main import cli
from pitboss.embedded.databases import create_database, drop_database
from pitboss.settings import worker_environment
from replay.log.broker import BrokerLog
from replay.recovery.rebook import Rebooking
from runtime.kafka.group_admin import GroupAdmin
from schemas.topics import TRANSACTIONS
from tests.support.fix_stack import SEED
from tests.support.replay_story import POLICIES, tell_story
from tests.support.restore_points import booked_rows

pytestmark = pytest.mark.integration

EVENTS = 150


async def recover(runtime, *arguments: str, code: int = 0):
    command = ["ledger", "recover", "--to-log", "--by", "ann", "--json", *arguments]
    result = await asyncio.to_thread(
        CliRunner().invoke, cli, command, env=worker_environment(runtime)
    )
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return json.loads(result.stdout) if result.stdout else result.stderr


async def test_a_database_in_the_middle_of_its_log_is_booked_to_the_end(runtime, monkeypatch):
    monkeypatch.setattr("pitboss.ops.recovery.policies", lambda: POLICIES)
    story = await tell_story(runtime, SEED, EVENTS)
    undisturbed = booked_rows(runtime)
    log, admin = runtime.topic(TRANSACTIONS), GroupAdmin(runtime.broker)
    ends = {partition: len(rows) for partition, rows in story.log.items()}
    admin.set_offsets(runtime.group(GROUP), log, ends)
    drop_database(runtime)
    create_database(runtime)
    migrate(runtime.database_url)
    assert "NEVER_BOUND" in await recover(runtime, code=2)
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute(
            "INSERT INTO installation (cluster_id, partitions) VALUES (%s, %s)",
            (admin.cluster_id(), len(ends)),
        )
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    with BrokerLog(runtime.broker) as source:
        half = {partition: end // 2 for partition, end in ends.items()}
        await Rebooking(database, POLICIES, source, log).run(half)
    await database.close()
    middle = booked_rows(runtime)
    dry = await recover(runtime, "--dry-run")
    assert booked_rows(runtime) == middle != undisturbed
    done = await recover(runtime)
    assert booked_rows(runtime) == undisturbed
    assert (done["events"], done["offsets"]) == (EVENTS - sum(half.values()),) * 2
    assert done["finished"] is True
    assert (done["outcomes"]["differing"], done["outcomes"]["never_given"]) == (0, 0)
    assert dry["outcomes"] == done["outcomes"]
    assert admin.committed_offsets(runtime.group(GROUP), log) == ends
    assert (await recover(runtime))["events"] == 0
