"""Migrations: numbered SQL files, applied once each, in order, by one process at a time.

A component has a folder `migrations` and a file `rights.sql`. The files are applied by the role
that owns the tables. The rights are granted again each time, after all rights have been taken from
the other roles: what `rights.sql` does not grant is not permitted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, ClassVar, Final

import psycopg
from psycopg import Connection, sql

from runtime.connection_faults import unreachable_database
from runtime.postgres.additions import find_change
from runtime.postgres.roles import RightsMissing, Role, take_role_sync
from schemas.errors import Fatal, Unavailable

_LOCK_KEY: Final = 0x50_17_B0_55
"""Any number of our own: all migrators must agree on it, and nothing else may use it."""
_TURN_MAX: Final = "10min"
_LOCK_MAX: Final = "5s"
_STATEMENT_MAX: Final = "30min"


class MigrationChanged(Fatal):
    """A file was edited after it had been applied; write a new one instead."""

    code: ClassVar[str] = "MIGRATION_CHANGED"


class MigrationFailed(Fatal):
    """The database refuses a file, or takes too long over it. Nothing of that file is applied."""

    code: ClassVar[str] = "MIGRATION_FAILED"


@dataclass(frozen=True)
class Migration:
    """One file: its name orders it, its checksum shows whether it is the one that was applied."""

    name: str
    sql: str
    is_applied: bool = False

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def is_additive(self) -> bool:
        """Whether an earlier release works on the tables that it leaves."""
        return find_change(self.sql) is None


@dataclass(frozen=True)
class LaterMigration:
    """An applied file that this release does not have, as a later one has."""

    name: str
    is_additive: bool | None
    """Whether this release works on what it has left; None where that was not noted."""


@dataclass(frozen=True)
class MigrationSet:
    """The migrations of one component: the package with its files, and the schemas they fill.

    The first schema also holds the table of applied migrations.
    """

    package: str
    schemas: tuple[str, ...]

    def files(self) -> list[Migration]:
        """Return the files of this release, in order."""
        folder = resources.files(self.package).joinpath("migrations")
        names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
        return [
            Migration(name, folder.joinpath(name).read_text(encoding="utf-8")) for name in names
        ]


def read_migrations(migrations: MigrationSet, database_url: str) -> list[Migration]:
    """Return each file with whether it is applied; change nothing.

    Raises MigrationChanged, Unavailable, RightsMissing.
    """
    with _connect(database_url) as connection, _translate_errors("the list of migrations"):
        return _with_state(migrations, connection)


def read_later(migrations: MigrationSet, database_url: str) -> list[LaterMigration]:
    """Return the applied files that this release does not have; change nothing.

    Raises Unavailable, RightsMissing.
    """
    ours = {migration.name for migration in migrations.files()}
    query = sql.SQL("SELECT name, to_jsonb(m) -> 'is_additive' FROM {} AS m ORDER BY name")
    with _connect(database_url) as connection, _translate_errors("the list of migrations"):
        table = _migration_table(migrations)
        exists = connection.execute("SELECT to_regclass(%s)", (table.as_string(connection),))
        if exists.fetchone() == (None,):
            return []
        rows = connection.execute(query.format(table)).fetchall()
    return [LaterMigration(name, is_additive) for name, is_additive in rows if name not in ours]


def migrate(migrations: MigrationSet, database_url: str) -> list[Migration]:
    """Apply the files that are missing and return them, and grant the rights again.

    Where nothing is missing, a login that may not become the owner changes nothing and is not an
    error. Raises MigrationChanged, MigrationFailed, RightsMissing, and Unavailable where another
    session is in the way.
    """
    with _connect(database_url) as connection:
        with _translate_errors("another migration is still under way: this one"):
            connection.execute(f"SET lock_timeout = '{_TURN_MAX}'")
            connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        with _translate_errors("the list of migrations"):
            files = _with_state(migrations, connection)
        missing = [migration for migration in files if not migration.is_applied]
        try:
            _become_owner(migrations, connection)
        except RightsMissing:
            if missing:
                raise
            return []
        _note_additive(migrations, connection, files)
        for migration in missing:
            _apply(migrations, connection, migration)
        _grant(migrations, connection)
        return missing


def _become_owner(migrations: MigrationSet, connection: Connection[Any]) -> None:
    names = [str(role) for role in Role]
    with _translate_errors("the roles"):
        with connection.transaction():
            _limit(connection)
            connection.execute(_text("roles", roles=names))
        # In a transaction of its own, so that it sees roles which others have just made.
        with connection.transaction():
            _limit(connection)
            connection.execute(_text("owner", schemas=list(migrations.schemas)))
        take_role_sync(connection, Role.MIGRATOR)
        with connection.transaction():
            connection.execute(_text("bookkeeping", schema=migrations.schemas[0]))


def _apply(migrations: MigrationSet, connection: Connection[Any], migration: Migration) -> None:
    with _translate_errors(migration.name), connection.transaction():
        _limit(connection)
        connection.execute(migration.sql.encode())
        insert = sql.SQL("INSERT INTO {} (name, checksum, is_additive) VALUES (%s, %s, %s)")
        connection.execute(
            insert.format(_migration_table(migrations)),
            (migration.name, migration.checksum, migration.is_additive),
        )


def _note_additive(
    migrations: MigrationSet, connection: Connection[Any], files: Sequence[Migration]
) -> None:
    """Note it of files that an earlier release has applied without noting it."""
    update = sql.SQL("UPDATE {} SET is_additive = %s WHERE name = %s AND is_additive IS NULL")
    statement = update.format(_migration_table(migrations))
    with _translate_errors("the list of migrations"), connection.transaction():
        for migration in files:
            if migration.is_applied:
                connection.execute(statement, (migration.is_additive, migration.name))


def _grant(migrations: MigrationSet, connection: Connection[Any]) -> None:
    file = resources.files(migrations.package).joinpath("rights.sql")
    rights = file.read_text(encoding="utf-8")
    with _translate_errors("rights.sql"), connection.transaction():
        _limit(connection)
        connection.execute(_text("rights", schemas=list(migrations.schemas)))
        connection.execute(rights.encode())


def _limit(connection: Connection[Any]) -> None:
    connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_MAX}'")
    connection.execute(f"SET LOCAL statement_timeout = '{_STATEMENT_MAX}'")


def _text(
    name: str, *, schema: str = "", schemas: Sequence[str] = (), roles: Sequence[str] = ()
) -> sql.Composed:
    """Return a file of this package with its braces filled in.

    Blocks of PL/pgSQL take no parameters.
    """
    file = resources.files("runtime.postgres").joinpath("sql", f"{name}.sql")
    return sql.SQL(file.read_text(encoding="utf-8")).format(
        schema=sql.Identifier(schema),
        schemas=sql.Literal(list(schemas)),
        roles=sql.Literal(list(roles)),
    )


def _migration_table(migrations: MigrationSet) -> sql.Identifier:
    return sql.Identifier(migrations.schemas[0], "schema_migration")


def _with_state(migrations: MigrationSet, connection: Connection[Any]) -> list[Migration]:
    files = migrations.files()
    table = _migration_table(migrations)
    exists = connection.execute("SELECT to_regclass(%s)", (table.as_string(connection),))
    if exists.fetchone() == (None,):
        return files
    rows = connection.execute(sql.SQL("SELECT name, checksum FROM {}").format(table)).fetchall()
    applied: dict[str, str] = dict(rows)
    for migration in files:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise MigrationChanged(
                f"{migration.name} was changed after it had been applied; "
                "put it back and write a new file"
            )
    return [replace(migration, is_applied=migration.name in applied) for migration in files]


@contextmanager
def _connect(database_url: str) -> Iterator[Connection[Any]]:
    try:
        connection = psycopg.connect(
            database_url, autocommit=True, connect_timeout=10, application_name="pitboss.migrate"
        )
    except psycopg.OperationalError as error:
        raise unreachable_database("the database", error) from error
    with connection:
        yield connection


@contextmanager
def _translate_errors(what: str) -> Iterator[None]:
    """Raise our error for psycopg's, naming `what` failed; its transaction is undone by then."""
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        raise Unavailable(
            f"{what} waited too long for a lock that another session holds, and was undone: "
            f"{error}; run it again"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise RightsMissing(
            f"{what}: this login may not do it: {error}; "
            "run `pitboss provision` as an administrator of the server"
        ) from error
    except psycopg.errors.QueryCanceled as error:
        raise MigrationFailed(
            f"{what} took longer than {_STATEMENT_MAX} and was undone: {error}"
        ) from error
    except psycopg.OperationalError as error:
        raise Unavailable(f"{what}: the database went away: {error}; run it again") from error
    except psycopg.Error as error:
        raise MigrationFailed(f"{what} cannot be applied and was undone: {error}") from error
