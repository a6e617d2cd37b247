"""Roll-back of a release, as docs/howto/upgrade.md has it: this release on tables that a later one has migrated."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import psycopg
import pytest
from click.testing import CliRunner

from ledger_sink.booking.positions import claim_positions
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import TABLES
from pitboss.cli.main import cli
from pitboss.settings import worker_environment
from runtime.postgres.migrations import Migration, MigrationSet, migrate
from tests.support.ledger_events import bet, deposit, log_event

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class LaterRelease(MigrationSet):
    """The tables of a release with one more file."""

    text: str = ""

    def files(self) -> list[Migration]:
        return [*TABLES.files(), Migration("9999_later.sql", self.text)]


def later(runtime, text: str) -> None:
    migrate(LaterRelease(TABLES.package, TABLES.schemas, text), runtime.database_url)


def check(runtime) -> tuple[int, str]:
    command = ["ledger", "migrate", "check", "--can-roll-back"]
    result = CliRunner().invoke(cli, command, env=worker_environment(runtime))
    return result.exit_code, result.output


async def book(runtime) -> None:
    database = LedgerDatabase(runtime.database_url, "pitboss.test")
    ledger = PostgresLedger(database, {})
    ledger.epochs[0] = (await claim_positions(database, [0]))[0].epoch
    events = [log_event(one, 0, n) for n, one in enumerate([deposit("d", 500), bet("b", 100)])]
    await ledger.commit_group([Slice(0, 0, 2, events)])
    await database.close()


def test_a_release_works_on_what_a_later_one_has_added(runtime):
    assert check(runtime) == (0, "no later release has changed the tables\n")
    later(runtime, "ALTER TABLE entry ADD COLUMN shade text NOT NULL DEFAULT 'blue';")
    code, shown = check(runtime)
    assert (code, "9999_later.sql" in shown) == (0, True)
    assert migrate(TABLES, runtime.database_url) == []
    asyncio.run(book(runtime))
    with psycopg.connect(runtime.database_url) as connection:
        assert connection.execute("SELECT count(*) FROM entry").fetchall() == [(2,)]


def test_a_release_that_cannot_go_back_is_refused_by_name(runtime):
    later(runtime, "ALTER TABLE entry RENAME COLUMN reason TO why;")
    code, shown = check(runtime)
    assert (code, "9999_later.sql" in shown) == (1, True)


def test_what_was_applied_without_a_note_counts_as_a_change_until_it_is_noted(runtime):
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("UPDATE schema_migration SET is_additive = NULL")
        connection.execute("INSERT INTO schema_migration (name, checksum) VALUES ('9998', '')")
    assert check(runtime)[0] == 1
    migrate(TABLES, runtime.database_url)
    with psycopg.connect(runtime.database_url) as connection:
        rows = connection.execute("SELECT name FROM schema_migration WHERE is_additive IS NULL")
        assert rows.fetchall() == [("9998",)]
