"""The tables of the ledger and of what is done with dead letters."""

from __future__ import annotations

from typing import Final

from runtime.postgres import migrations as files
from runtime.postgres.migrations import Migration, MigrationChanged, MigrationSet

TABLES: Final = MigrationSet("ledger_sink.store", ("public", "dead_letters"))

__all__ = [
    "TABLES",
    "Migration",
    "MigrationChanged",
    "list_migrations",
    "migrate",
    "migration_files",
]


def migration_files() -> list[Migration]:
    """The files of this release, in order."""
    return TABLES.files()


def list_migrations(database_url: str) -> list[Migration]:
    """Each file and whether it is applied. Raises MigrationChanged, Unavailable."""
    return files.read_migrations(TABLES, database_url)


def migrate(database_url: str, *, dry_run: bool = False) -> list[Migration]:
    """Apply what is missing, or only look, and return it; grant the rights.

    Raises as `runtime.postgres.migrations`.
    """
    if dry_run:
        return [
            migration for migration in list_migrations(database_url) if not migration.is_applied
        ]
    return files.migrate(TABLES, database_url)
