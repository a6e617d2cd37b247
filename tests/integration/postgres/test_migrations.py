"""However a database came to be, it is the same; and what was in it still is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from fraud_agents import snapshots as fraud
from ledger_sink.booking.positions import claim_positions
from ledger_sink.store import migrate as ledger
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from pitboss.embedded.databases import create_database, drop_database
from replay.audit.checks import check_tables
from runtime.postgres import migrations
from runtime.postgres.migrations import Migration, MigrationFailed, MigrationSet
from schemas.errors import Unavailable
from tests.support.ledger_events import bet, log_event, rollback
from tests.support.table_catalogue import catalogue, counts, fill

pytestmark = pytest.mark.integration
YESTERDAY = Path(__file__).parents[2] / "vectors" / "migrations" / "f204d9c.sql"
BOTH = (ledger.TABLES, fraud.TABLES)


@pytest.fixture
def runtime(empty_runtime):
    return empty_runtime


def provisioned(url):
    for tables in BOTH:
        migrations.migrate(tables, url)
    with psycopg.connect(url) as connection:
        return catalogue(connection)


def load_yesterday(url):
    # Another session afterwards: pg_dump empties the search path of the one that loads.
    with psycopg.connect(url) as connection:
        connection.execute(YESTERDAY.read_bytes())


@pytest.fixture
def other(stack, namespaces):
    runtime = stack.runtime(namespaces())
    create_database(runtime)
    yield runtime.database_url
    drop_database(runtime)


def test_a_database_that_grew_with_its_rows_in_it_is_the_one_that_is_made_today(runtime, other):
    load_yesterday(other)
    steps = 0
    for tables in BOTH:
        missing = [
            migration
            for migration in migrations.read_migrations(tables, other)
            if not migration.is_applied
        ]
        for number, migration in enumerate(missing, 1):
            with psycopg.connect(other, autocommit=True) as connection:
                fill(connection, number)
                before = counts(connection)
                migrations._become_owner(tables, connection)
                migrations._apply(tables, connection, migration)
                connection.execute("RESET ROLE")
                after = counts(connection)
            assert {name: after[name] for name in before} == before, migration.name
            assert min(before.values()) >= 1, "a table without a row proves nothing"
            steps += 1
    assert steps >= 4
    today, grown = provisioned(runtime.database_url), provisioned(other)
    for what, rows in today.items():
        assert grown[what] == rows, what
    assert len(today["relations"]) > 30
    assert len(today["columns"]) > 150


def test_a_difference_is_seen(runtime):
    before = provisioned(runtime.database_url)
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        for statement, what in (
            ("GRANT UPDATE ON transfer TO pitboss_writer", "relations"),
            ("ALTER TABLE wallet ALTER COLUMN scale SET DEFAULT 2", "columns"),
            ("ALTER TABLE wallet ADD CHECK (version > 0)", "constraints"),
            ("CREATE INDEX ON wallet (part)", "indexes"),
            ("DROP TRIGGER keep_action ON dead_letters.action", "triggers"),
            ("ALTER TABLE entry OWNER TO postgres", "relations"),
        ):
            with connection.transaction(force_rollback=True):
                connection.execute(statement)
                assert catalogue(connection)[what] != before[what], statement
        assert catalogue(connection) == before


async def test_the_ledger_goes_on_where_it_was_yesterday(runtime):
    url = runtime.database_url
    load_yesterday(url)
    assert ledger.migrate(url)
    assert fraud.migrate(url)
    database = LedgerDatabase(url, "pitboss.test")
    book = PostgresLedger(database, {})
    claims = await claim_positions(database, [0, 1])
    assert {part: (claim.next_offset, claim.epoch) for part, claim in claims.items()} == {
        0: (13, 2),
        1: (7, 2),
    }
    book.epochs.update({part: claim.epoch for part, claim in claims.items()})
    mine = [bet("today", 6_000), rollback("r1", "b1"), bet("b2", 700)]
    theirs = [bet("blocked", 1, player="p-2"), bet("too", 901, player="p-3")]
    await book.commit_group(
        [
            Slice(
                part,
                start,
                start + len(its),
                [log_event(event, part, start + n) for n, event in enumerate(its)],
            )
            for part, start, its in ((0, 13, mine), (1, 7, theirs))
        ]
    )
    rows = await database.query(
        """SELECT part, source_offset, outcome FROM entry WHERE (part = 0 AND source_offset >= 13) OR (part = 1 AND source_offset >= 7)
           UNION ALL SELECT part, source_offset, outcome FROM repeat WHERE part = 0 AND source_offset >= 13 ORDER BY 1, 2"""
    )
    assert [outcome for _, _, outcome in rows] == [
        "REFUSED_LIMIT",
        "POSTED",
        "EXISTS",
        "REFUSED_BLOCKED",
        "REFUSED_BLOCKED",
    ]
    assert all(check.holds for check in await check_tables(database))
    assert await database.query("SELECT state FROM parked ORDER BY source_offset") == [
        ("WAITING",),
        ("WAITING",),
    ]
    assert await database.query("SELECT next_offset, state FROM fraud.snapshot") == [
        (5, b"state of yesterday")
    ]
    await database.close()


@dataclass(frozen=True)
class Given(MigrationSet):
    """The ledger's tables with one more file."""

    last: Migration

    def files(self):
        return [*super().files(), self.last]


def one_more(text):
    return Given(ledger.TABLES.package, ledger.TABLES.schemas, Migration("9999_test.sql", text))


def test_a_file_that_fails_leaves_nothing_behind(runtime):
    before = provisioned(runtime.database_url)
    tables = one_more("ALTER TABLE wallet ADD COLUMN colour text; SELECT 1 / 0")
    with pytest.raises(MigrationFailed, match=r"9999_test\.sql.*division by zero"):
        migrations.migrate(tables, runtime.database_url)
    assert provisioned(runtime.database_url) == before


def limit_files(patched: pytest.MonkeyPatch, **limits: str) -> None:
    """Give the files short limits, and the roles before them as much time as a busy server needs."""
    apply = migrations._apply

    def apply_within(*arguments) -> None:
        with pytest.MonkeyPatch.context() as short:
            for name, limit in limits.items():
                short.setattr(migrations, name, limit)
            apply(*arguments)

    patched.setattr(migrations, "_apply", apply_within)


def test_a_file_that_takes_too_long_is_undone(runtime, monkeypatch):
    before = provisioned(runtime.database_url)
    with monkeypatch.context() as short:
        limit_files(short, _STATEMENT_MAX="50ms")
        with pytest.raises(MigrationFailed, match=r"9999_test\.sql took longer than 50ms"):
            migrations.migrate(
                one_more("CREATE TABLE slow (); SELECT pg_sleep(5)"), runtime.database_url
            )
    assert provisioned(runtime.database_url) == before


def test_a_file_does_not_make_the_workers_wait_for_a_lock_that_somebody_keeps(runtime, monkeypatch):
    provisioned(runtime.database_url)
    limit_files(monkeypatch, _LOCK_MAX="50ms")
    tables = one_more("ALTER TABLE wallet ADD COLUMN colour text")
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("SELECT FROM wallet")
        with pytest.raises(Unavailable, match=r"9999_test\.sql waited too long for a lock"):
            migrations.migrate(tables, runtime.database_url)
    assert [migration.name for migration in migrations.migrate(tables, runtime.database_url)] == [
        "9999_test.sql"
    ]


def test_who_waits_for_another_migration_says_so(runtime, monkeypatch):
    monkeypatch.setattr(migrations, "_TURN_MAX", "50ms")
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (migrations._LOCK_KEY,))
        with pytest.raises(Unavailable, match="another migration is still under way"):
            ledger.migrate(runtime.database_url)


def test_looking_changes_nothing(runtime):
    assert {migration.is_applied for migration in ledger.list_migrations(runtime.database_url)} == {
        False
    }
    assert ledger.migrate(runtime.database_url, dry_run=True) == ledger.migration_files()
    with psycopg.connect(runtime.database_url) as connection:
        assert catalogue(connection)["relations"] == []


def test_namespaces_of_one_server_make_the_same_roles_at_the_same_time(runtime, other, namespace):
    names = [f"{namespace}_{n}" for n in range(6)]
    roles = migrations._text("roles", roles=names)

    def make(url):
        with psycopg.connect(url) as connection:
            connection.execute(roles)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, [runtime.database_url, other] * 4))
    with psycopg.connect(other, autocommit=True) as connection:
        for name in names:
            connection.execute(f"DROP ROLE {name}")


def test_every_part_of_a_release_is_shipped():
    assert all(
        (Path(__file__).parents[3] / tables.package.replace(".", "/") / "rights.sql").exists()
        for tables in BOTH
    )
