"""The migrations of the ledger's tables and of those for dead letters."""

from __future__ import annotations

from typing import Final

from runtime.postgres import migrations as runner
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
    """Return the files of this release, in order."""
    return TABLES.files()


def list_migrations(database_url: str) -> list[Migration]:
    """Return each file and whether it is applied. Raises MigrationChanged, Unavailable."""
    return runner.read_migrations(TABLES, database_url)


def migrate(database_url: str, *, dry_run: bool = False) -> list[Migration]:
    """Apply what is missing, grant the rights, and return what was applied.

    With `dry_run`, only return what is missing. Raises as `runtime.postgres.migrations`.
    """
    if dry_run:
        migrations = list_migrations(database_url)
        return [migration for migration in migrations if not migration.is_applied]
    return runner.migrate(TABLES, database_url)
