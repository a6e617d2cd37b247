"""The schema `fraud`."""

from __future__ import annotations

from typing import Final

from runtime.postgres import migrations as files
from runtime.postgres.migrations import Migration, MigrationSet

TABLES: Final = MigrationSet("fraud_agents", ("fraud",))


def migrations(database_url: str) -> list[Migration]:
    """Each file and whether it is applied. Raises MigrationChanged, Unavailable."""
    return files.read_migrations(TABLES, database_url)


def migrate(database_url: str) -> list[Migration]:
    """Apply what is missing and return it; grant the rights.

    Raises as `runtime.postgres.migrations`.
    """
    return files.migrate(TABLES, database_url)
