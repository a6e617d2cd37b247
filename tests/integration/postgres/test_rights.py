"""What each role may and may not do, tried on the real database; and that our sessions work under them."""

from __future__ import annotations

import subprocess
import sys

import psycopg
import pytest
from psycopg import sql
from psycopg.errors import InsufficientPrivilege, ReadOnlySqlTransaction

from fraud_agents.snapshots import SnapshotStore
from fraud_agents.snapshots import migrate as migrate_fraud
from ledger_sink.booking.positions import check_installation, claim_positions
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.groups import Slice
from ledger_sink.store.ledger import PostgresLedger
from ledger_sink.store.migrate import migrate
from pitboss.ops.provision import provision
from pitboss.settings import worker_environment
from runtime.dead_letters.database import DeadLetterDatabase
from runtime.postgres import migrations
from runtime.postgres.roles import RightsMissing, Role, session_options, take_role_sync
from schemas.errors import InvariantBroken
from tests.integration.postgres.test_migrations import one_more
from tests.support.ledger_events import bet, deposit, log_event
from tests.support.table_catalogue import fill, row_of, tables

pytestmark = pytest.mark.integration

S, I, U, D = "SELECT", "INSERT", "UPDATE", "DELETE"  # noqa: E741
WRITER = {
    "public.entry": {S, I},
    "public.repeat": {S, I},
    "public.transfer": {S, I},
    "public.seal": {S, I},
    "public.batch": {S, I},
    "public.proposal": {S, I},
    "public.opened_deposit": {S, I},
    "public.installation": {S, I},
    "public.raw_topics": {S, I},
    "public.unmasked_export": {S, I},
    "public.archive_file": {S, I, U},
    "public.log_mapping": {S, I},
    "public.recovery": {S, I, U},
    "public.shared_settings": {S, I},
    "public.wallet": {S, I, U},
    "public.closing": {S, I, U},
    "public.player_state": {S, I, U},
    "public.stream_position": {S, I, U},
    "public.parked": {S, I, U},
    "public.crossing": {S, U},
    "public.barrier": {S, I, U, D},
    "public.open_item": {S, I, U, D},
    "public.operator_limit": {S, I, U},
    "public.month_away": {S},
    "dead_letters.action": {S, I},
    "dead_letters.jam": {S, I, U},
    "dead_letters.parked": {S, I, U},
    "dead_letters.letter": {S, I, U, D},
    "dead_letters.letter_position": {S, I, U, D},
    "fraud.snapshot": {S, I, U},
    "fraud.activation": {S, I, U},
    "fraud.case_action": {S, I},
}
HIDDEN_FROM_READERS = {
    "public.stream_position",
    "public.parked",
    "public.barrier",
    "public.crossing",
    "fraud.snapshot",
}
MAY = {
    Role.WRITER: WRITER,
    Role.READER: {name: {S} for name in WRITER if name not in HIDDEN_FROM_READERS},
    Role.AUDITOR: {name: {S} for name in WRITER},
    Role.MIGRATOR: {name: {S, I, U, D, "TRUNCATE", "ALTER", "DROP"} for name in WRITER},
}


@pytest.fixture
def runtime(empty_runtime):
    return empty_runtime


@pytest.fixture
def url(runtime):
    migrate(runtime.database_url)
    migrate_fraud(runtime.database_url)
    return runtime.database_url


def attempts(connection, schema, table):
    """Statements of every kind on a table; an UPDATE of each column, as each may be granted by itself."""
    name = sql.Identifier(schema, table)
    columns = connection.execute(
        "SELECT column_name FROM information_schema.columns WHERE (table_schema, table_name) = (%s, %s)"
        " AND is_identity = 'NO'",
        (schema, table),
    ).fetchall()
    yield S, sql.SQL("SELECT * FROM {}").format(name)
    yield I, row_of(connection, schema, table, 7)
    for (column,) in columns:
        yield (
            U,
            sql.SQL("UPDATE {} SET {column} = {column}").format(
                name, column=sql.Identifier(column)
            ),
        )
    for kind, text in (
        (D, "DELETE FROM {}"),
        ("TRUNCATE", "TRUNCATE {}"),
        ("ALTER", "ALTER TABLE {} DISABLE TRIGGER USER"),
        ("DROP", "DROP TABLE {}"),
    ):
        yield kind, sql.SQL(text).format(name)


def is_allowed(connection, role, statement):
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET LOCAL ROLE {role}")
            connection.execute(statement)
    except InsufficientPrivilege:
        return False
    except psycopg.errors.RaiseException:  # a trigger's refusal comes after the right
        return True
    return True


@pytest.mark.parametrize("role", Role)
def test_a_role_may_do_what_it_needs_and_nothing_else(url, role):
    with psycopg.connect(url, autocommit=True) as connection:
        fill(connection, 1)
        found = tables(connection)
        assert {f"{schema}.{table}" for schema, table in found} <= set(WRITER), (
            "say in rights.sql and here who may"
        )
        for schema, table in found:
            may = MAY[role].get(f"{schema}.{table}", set())
            for kind, statement in attempts(connection, schema, table):
                text = statement.as_string(connection)
                if (schema, table, kind, role) == ("dead_letters", "action", U, Role.WRITER):
                    may_complete = any(
                        f'SET "{column}"' in text for column in ("is_done", "to_part", "to_offset")
                    )
                    assert is_allowed(connection, role, statement) is may_complete, text
                else:
                    assert is_allowed(connection, role, statement) is (kind in may), (
                        f"{role}: {text}"
                    )


@pytest.mark.parametrize("role", [Role.WRITER, Role.READER, Role.AUDITOR])
def test_only_the_owner_makes_tables(url, role):
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (
            "CREATE TABLE mine ()",
            "CREATE SCHEMA mine",
            "CREATE TABLE fraud.mine ()",
            "CREATE TABLE dead_letters.mine ()",
            "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "SET session_replication_role = replica",
            "ALTER ROLE pitboss_writer SUPERUSER",
            "ALTER TABLE entry OWNER TO pitboss_writer",
            "UPDATE schema_migration SET checksum = ''",
            "UPDATE fraud.schema_migration SET checksum = ''",
        ):
            assert not is_allowed(connection, role, statement), statement
        for schema in ("public", "fraud", "dead_letters"):
            assert is_allowed(connection, Role.MIGRATOR, f"CREATE TABLE {schema}.mine ()")


def test_rows_are_not_reached_through_a_partition_either(url):
    """Of what migrations make later, only auditors see anything, until rights.sql says more."""
    with psycopg.connect(url, autocommit=True) as connection:
        take_role_sync(connection, Role.MIGRATOR)
        connection.execute("CREATE TABLE month (n int) PARTITION BY RANGE (n)")
        connection.execute("CREATE TABLE month_1 PARTITION OF month FOR VALUES FROM (0) TO (9)")
        connection.execute("GRANT SELECT, INSERT ON month TO pitboss_writer")
        connection.execute("RESET ROLE")
        assert is_allowed(connection, Role.WRITER, "INSERT INTO month VALUES (1)")
        assert is_allowed(connection, Role.AUDITOR, "SELECT n FROM month_1")
        for statement in (
            "UPDATE month_1 SET n = 2",
            "DELETE FROM month_1",
            "INSERT INTO month_1 VALUES (1)",
        ):
            assert not is_allowed(connection, Role.WRITER, statement)


async def test_a_superusers_session_works_with_its_roles_rights(url):
    for role in (Role.WRITER, Role.READER, Role.AUDITOR):
        database = LedgerDatabase(url, "pitboss.test", role=role)
        assert await database.query("SELECT current_user::text, session_user::text") == [
            (role.value, "postgres")
        ]
        await database.close()
    letters = DeadLetterDatabase(url, "pitboss.test")
    async with letters.transaction() as connection:
        assert await (await connection.execute("SELECT current_user::text")).fetchone() == (
            Role.WRITER.value,
        )
    await letters.close()
    snapshots = SnapshotStore(url, "fraud.detect")
    async with snapshots._database.transaction() as connection:
        assert await (await connection.execute("SELECT current_user::text")).fetchone() == (
            Role.WRITER.value,
        )
    await snapshots.on_stop()


@pytest.mark.parametrize(
    "statement", ["UPDATE entry SET outcome = 'POSTED'", "DELETE FROM transfer", "TRUNCATE repeat"]
)
async def test_the_ledgers_own_session_cannot_change_what_is_booked(url, statement):
    database = LedgerDatabase(url, "pitboss.test")
    with pytest.raises(RightsMissing, match="permission denied for table"):
        await database.query(statement)
    await database.close()


async def test_readers_and_auditors_begin_read_only(url):
    for role in (Role.READER, Role.AUDITOR):
        database = LedgerDatabase(url, "pitboss.test", role=role)
        with pytest.raises(InvariantBroken, match="read-only transaction"):
            await database.query("DELETE FROM entry")
        await database.close()
        with psycopg.connect(url, options=session_options(role)) as connection:
            take_role_sync(connection, role)
            with pytest.raises(ReadOnlySqlTransaction):
                connection.execute("CREATE TEMP TABLE mine ()")


# --- logins of their own, as an installation that separates them has ---------------------------------------------------


@pytest.fixture
def login(runtime, namespace):
    """A login by the roles that it is given; gone after the test."""
    made: list[str] = []

    def login(*roles):
        name = f"{namespace}_{len(made)}"
        with psycopg.connect(runtime.maintenance_url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'of a test'")
            for role in roles:
                connection.execute(f"GRANT {role} TO {name}")
        made.append(name)
        scheme, rest = runtime.database_url.split("://")
        return f"{scheme}://{name}:of%20a%20test@{rest.rpartition('@')[2]}"

    yield login
    with psycopg.connect(runtime.maintenance_url, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP ROLE {name}")


async def test_a_worker_needs_no_more_than_the_writers_role(url, login):
    database = LedgerDatabase(login(Role.WRITER), "pitboss.test")
    await check_installation(database, "a cluster", 1)
    ledger = PostgresLedger(database, {})
    ledger.epochs.update(
        {part: claim.epoch for part, claim in (await claim_positions(database, [0])).items()}
    )
    events = [deposit("d", 1_000), bet("b", 100), bet("b", 100)]
    await ledger.commit_group(
        [Slice(0, 0, 3, [log_event(event, 0, n) for n, event in enumerate(events)])]
    )
    assert await database.query("SELECT cash_minor FROM wallet") == [(900,)]
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL ROLE NONE")  # its own login has nothing besides
        with pytest.raises(InsufficientPrivilege):
            await connection.execute("UPDATE entry SET outcome = 'POSTED'")
    await database.close()


async def test_a_login_without_the_role_is_told_which(url, login):
    database = LedgerDatabase(login(Role.READER), "pitboss.test")
    with pytest.raises(RightsMissing, match=r"GRANT pitboss_writer TO"):
        await database.query("SELECT 1")
    await database.close()


def test_the_owners_login_migrates_and_others_only_where_nothing_is_missing(runtime, login):
    nobody, owner = login(), login(Role.MIGRATOR)
    with pytest.raises(RightsMissing, match="administrator"):
        migrate(nobody)
    migrate(runtime.database_url)
    with psycopg.connect(runtime.database_url, autocommit=True) as connection:
        connection.execute("GRANT UPDATE ON entry TO pitboss_writer")  # somebody was too kind
        assert is_allowed(connection, Role.WRITER, "UPDATE entry SET outcome = ''")
        assert migrate(owner) == []
        assert not is_allowed(connection, Role.WRITER, "UPDATE entry SET outcome = ''")
    writer, tables = (
        login(Role.READER, Role.WRITER),
        one_more("ALTER TABLE wallet ADD COLUMN colour text"),
    )
    assert migrate(writer) == []
    with pytest.raises(RightsMissing, match="administrator"):
        migrations.migrate(tables, writer)
    assert [migration.name for migration in migrations.migrate(tables, owner)] == ["9999_test.sql"]


def test_a_real_worker_with_a_superusers_login_stops_where_the_writer_may_not(runtime):
    provision(runtime, partitions=1, raw_partitions=1, providers=["hub88"])
    with psycopg.connect(runtime.database_url) as connection:
        connection.execute("REVOKE INSERT ON installation FROM pitboss_writer")
    done = subprocess.run(
        [sys.executable, "-m", "pitboss.workers", "ledger"],
        env=worker_environment(runtime),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == RightsMissing.exit_code, done.stderr
    assert "permission denied for table installation" in done.stderr
