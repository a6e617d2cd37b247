"""The database of a namespace, on the embedded server or any other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import Connection, sql

from pitboss.settings import Runtime
from runtime.connection_faults import unreachable_database
from runtime.postgres.roles import RightsMissing
from schemas.errors import UsageError

_DROP_S: Final = 60.0
"""For how long sessions that were told to end are waited for."""


def create_database(runtime: Runtime) -> bool:
    """Create the namespace's database; return False if it exists already.

    Raises Unavailable, RightsMissing.
    """
    with _connect(runtime) as connection:
        name = sql.Identifier(runtime.database)
        try:
            # template0 has no connections that could obstruct a second creation at the same time.
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(name))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return False
        except psycopg.errors.InsufficientPrivilege as error:
            # Where the database exists, nothing of an administrator's work is missing.
            if _exists(connection, runtime.database):
                return False
            raise RightsMissing(
                f"this login may not create the database {runtime.database}: {error}; "
                "run `pitboss provision` as an administrator of the server"
            ) from error
    return True


def copy_database(runtime: Runtime, copy: Runtime) -> None:
    """Create `copy`'s database as a copy of `runtime`'s. Raises Unavailable, RightsMissing.

    Raises UsageError where other sessions use the database: PostgreSQL copies none that is in use.
    """
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
        sql.Identifier(copy.database), sql.Identifier(runtime.database)
    )
    with _connect(runtime) as connection:
        try:
            connection.execute(statement)
        except psycopg.errors.ObjectInUse as error:
            raise UsageError(
                f"the database {runtime.database} is in use, so it cannot be copied: {error}; stop "
                "the workers and commands that use it, or do without --dry-run"
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise RightsMissing(
                f"this login may not create the database {copy.database}: {error}; run it as an "
                "administrator of the server"
            ) from error


def drop_database(runtime: Runtime) -> None:
    """Drop the namespace's database if it exists, and disconnect its users. Raises Unavailable."""
    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
    deadline = time.monotonic() + _DROP_S
    with _connect(runtime) as connection:
        while True:
            try:
                connection.execute(statement.format(sql.Identifier(runtime.database)))
            except psycopg.errors.ObjectInUse:
                # It ends the sessions, and waits for 5 s until they are gone: on a busy machine
                # that takes longer.
                if time.monotonic() >= deadline:
                    raise
            else:
                return


def database_exists(runtime: Runtime) -> bool:
    """Return whether the namespace's database has been created. Raises Unavailable."""
    with _connect(runtime) as connection:
        return _exists(connection, runtime.database)


def _exists(connection: Connection[Any], name: str) -> bool:
    query = "SELECT 1 FROM pg_database WHERE datname = %s"
    return connection.execute(query, (name,)).fetchone() is not None


@contextmanager
def _connect(runtime: Runtime) -> Iterator[Connection[Any]]:
    try:
        connection = psycopg.connect(runtime.maintenance_url, autocommit=True)
    except psycopg.OperationalError as error:
        raise unreachable_database("the database server", error) from error
    with connection:
        yield connection
