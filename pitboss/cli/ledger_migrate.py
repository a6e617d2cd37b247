"""`pitboss ledger migrate`: the numbered SQL files of the ledger's database."""

from __future__ import annotations

import click
import orjson

from fraud_agents.snapshots import TABLES as FRAUD_TABLES
from ledger_sink.store.migrate import TABLES, Migration, list_migrations, migrate
from pitboss.cli import screen
from pitboss.cli.suggestions import SuggestingGroup
from pitboss.embedded.databases import create_database, database_exists
from pitboss.embedded.state import resolve_runtime
from pitboss.settings import read_settings
from runtime.postgres.migrations import read_later
from schemas.errors import UsageError


@click.group("migrate", cls=SuggestingGroup)
def migrate_group() -> None:
    """List and apply the numbered SQL files, each once, in order."""


@migrate_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def list_command(*, as_json: bool) -> None:
    """List each file and whether it is applied."""
    _show(list_migrations(_database_url()), as_json=as_json)


@migrate_group.command("up")
@click.option("--dry-run", is_flag=True, help="Only print what would be applied.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON list.")
def up(*, dry_run: bool, as_json: bool) -> None:
    """Apply what is missing, and create the database if needed."""
    runtime = resolve_runtime(read_settings())
    if not database_exists(runtime):
        if dry_run:
            raise UsageError(
                f"database {runtime.database} does not exist: run it without --dry-run to create it"
            )
        create_database(runtime)
    _show(migrate(runtime.database_url, dry_run=dry_run), as_json=as_json, empty="nothing to apply")


@migrate_group.command("check")
@click.option(
    "--can-roll-back",
    is_flag=True,
    help="Check that this release works on tables that a later release has migrated.",
)
def check(*, can_roll_back: bool) -> None:
    """Exit with 1 if a file of this release is not applied, or was changed after it was applied.

    With --can-roll-back, run by the release to go back to: exit with 1 if a later release has
    applied a file that does more than add to the tables.
    """
    if can_roll_back:
        _check_roll_back()
        return
    missing = [
        migration.name for migration in list_migrations(_database_url()) if not migration.is_applied
    ]
    if missing:
        click.echo(f"not applied: {', '.join(missing)}; run `pitboss ledger migrate up`", err=True)
        raise SystemExit(1)


def _check_roll_back() -> None:
    url = _database_url()
    later = [one for tables in (TABLES, FRAUD_TABLES) for one in read_later(tables, url)]
    blocking = [one.name for one in later if not one.is_additive]
    if blocking:
        click.echo(
            f"a later release has applied {', '.join(blocking)}, which this release cannot work on:"
            " stay with the later release, or restore the database to a moment before it",
            err=True,
        )
        raise SystemExit(1)
    names = ", ".join(one.name for one in later)
    click.echo(
        f"this release works on what a later one has added: {names}"
        if later
        else "no later release has changed the tables"
    )


def _database_url() -> str:
    return resolve_runtime(read_settings()).database_url


def _show(found: list[Migration], *, as_json: bool, empty: str = "no migrations") -> None:
    if as_json:
        rows = [
            {"name": one.name, "checksum": one.checksum, "applied": one.is_applied} for one in found
        ]
        click.echo(orjson.dumps(rows))
        return
    if not found:
        click.echo(empty)
        return
    table = screen.table("migration", "applied", "SHA-256")
    for one in found:
        table.add_row(one.name, "yes" if one.is_applied else "no", one.checksum[:16])
    screen.show(table)
