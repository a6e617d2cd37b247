"""Numbered SQL files, applied once each, in order, under one advisory lock."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import psycopg

from schemas.errors import Fatal, Unavailable

_LOCK_KEY = 0x50_17_B0_55  # any number of our own; two migrators must agree on it, nothing else may use it
_MADE_BY_US = """
CREATE TABLE IF NOT EXISTS schema_migration (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationChanged(Fatal):
    """A file was edited after it had been applied; write a new one instead."""

    code = "MIGRATION_CHANGED"


@dataclass(frozen=True)
class Migration:
    """One file: its name orders it, its checksum says whether it is still the one that was applied."""

    name: str
    sql: str
    applied: bool = False

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available() -> list[Migration]:
    """The files of this release, in order."""
    folder = resources.files("ledger_sink").joinpath("migrations")
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    return [Migration(name, folder.joinpath(name).read_text(encoding="utf-8")) for name in names]


def migrations(database_url: str) -> list[Migration]:
    """Each file and whether it is applied. Raises MigrationChanged, Unavailable."""
    with _connect(database_url) as connection:
        return _with_state(connection)


def migrate(database_url: str, *, dry_run: bool = False) -> list[Migration]:
    """Apply what is missing and return it. Raises MigrationChanged, Unavailable."""
    with _connect(database_url) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
        missing = [migration for migration in _with_state(connection) if not migration.applied]
        for migration in () if dry_run else missing:
            with connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '5s'")
                connection.execute(migration.sql.encode())
                connection.execute(
                    "INSERT INTO schema_migration (name, checksum) VALUES (%s, %s)",
                    (migration.name, migration.checksum),
                )
        return missing


def _connect(database_url: str) -> psycopg.Connection[Any]:
    try:
        return psycopg.connect(database_url, autocommit=True, connect_timeout=10, application_name="pitboss.migrate")
    except psycopg.OperationalError as error:
        message = f"the database does not answer: {error}"
        raise Unavailable(message) from error


def _with_state(connection: psycopg.Connection[Any]) -> list[Migration]:
    connection.execute(_MADE_BY_US)
    rows: Sequence[tuple[str, str]] = connection.execute("SELECT name, checksum FROM schema_migration").fetchall()
    applied = dict(rows)
    found = []
    for migration in available():
        checksum = applied.get(migration.name)
        if checksum is not None and checksum != migration.checksum:
            message = f"{migration.name} was changed after it had been applied; put it back and write a new file"
            raise MigrationChanged(message)
        found.append(Migration(migration.name, migration.sql, checksum is not None))
    return found
