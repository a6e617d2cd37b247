"""The schema `fraud`: numbered SQL files, applied once each, in order, under one advisory lock."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Any, ClassVar, Final

import psycopg

from schemas.errors import Fatal, Unavailable

_LOCK_KEY: Final = 0x50_17_F4_A0  # any number of our own; two migrators of this schema must agree on it
_BOOKKEEPING: Final = """
CREATE SCHEMA IF NOT EXISTS fraud;
CREATE TABLE IF NOT EXISTS fraud.schema_migration (
    name       text PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationChanged(Fatal):
    """A file was edited after it had been applied; write a new one instead."""

    code: ClassVar[str] = "MIGRATION_CHANGED"


def migrate(database_url: str) -> list[str]:
    """Apply the files that are missing and return their names; none if the schema is as this release needs it.

    Raises Unavailable if the database does not answer, MigrationChanged if an applied file is not what it was.
    """
    try:
        with psycopg.connect(
            database_url, autocommit=True, connect_timeout=10, application_name="pitboss.fraud.migrate"
        ) as connection:
            return _apply_missing(connection)
    except psycopg.OperationalError as error:
        raise Unavailable(f"the schema of the fraud agents cannot be brought up to date: {error}") from error


def _apply_missing(connection: psycopg.Connection[Any]) -> list[str]:
    connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK_KEY,))
    # Asked first, so that a worker without the right to create anything can start on a schema that is complete.
    if connection.execute("SELECT to_regclass('fraud.schema_migration')").fetchone() == (None,):
        connection.execute(_BOOKKEEPING)
    applied = dict(connection.execute("SELECT name, checksum FROM fraud.schema_migration").fetchall())
    missing = []
    for name, text in _files():
        checksum = hashlib.sha256(text.encode()).hexdigest()
        if applied.get(name, checksum) != checksum:
            raise MigrationChanged(f"{name} was changed after it had been applied; put it back and write a new file")
        if name not in applied:
            with connection.transaction():
                connection.execute("SET LOCAL lock_timeout = '5s'")
                connection.execute(text.encode())
                connection.execute(
                    "INSERT INTO fraud.schema_migration (name, checksum) VALUES (%s, %s)", (name, checksum)
                )
            missing.append(name)
    return missing


def _files() -> list[tuple[str, str]]:
    folder = resources.files("fraud_agents").joinpath("migrations")
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".sql")), key=lambda item: item.name)
    return [(file.name, file.read_text(encoding="utf-8")) for file in files]
