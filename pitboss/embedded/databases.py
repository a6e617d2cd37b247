"""The database of a namespace, on the embedded server or any other."""

from __future__ import annotations

import psycopg
from psycopg import sql

from pitboss.settings import Runtime


def create_database(runtime: Runtime) -> bool:
    """Create the namespace's database; False if it was there."""
    with psycopg.connect(runtime.maintenance_url, autocommit=True) as connection:
        try:
            connection.execute(
                # template0 has no connections that could be in the way of a second creation at the same time.
                sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(runtime.database))
            )
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return False
    return True


def drop_database(runtime: Runtime) -> None:
    """Drop the namespace's database if it is there, disconnecting whoever uses it."""
    with psycopg.connect(runtime.maintenance_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(runtime.database)))


def database_exists(runtime: Runtime) -> bool:
    """Whether the namespace's database has been created."""
    with psycopg.connect(runtime.maintenance_url, autocommit=True) as connection:
        query = "SELECT 1 FROM pg_database WHERE datname = %s"
        return connection.execute(query, (runtime.database,)).fetchone() is not None
