"""`pitboss ledger months`: the partitions of the transfers."""

from __future__ import annotations

import click

from ledger_sink.store.months import Month, bring_back, create_months, list_months, move_away
from pitboss.cli import screen
from pitboss.cli.ledger_queries import json_option, print_json, show_rows
from pitboss.cli.suggestions import SuggestingGroup
from pitboss.embedded.state import resolve_runtime
from pitboss.settings import read_settings

MONTHS_AHEAD_DEFAULT = 3


@click.group("months", cls=SuggestingGroup)
def months_group() -> None:
    """List, create and move the monthly partitions of the transfers."""


@months_group.command("list")
@json_option
def list_command(*, as_json: bool) -> None:
    """List each month with an estimate of its transfers, and the months that were moved away."""
    _show(list_months(_database_url()), as_json=as_json)


@months_group.command("make")
@click.option(
    "--ahead",
    default=MONTHS_AHEAD_DEFAULT,
    show_default=True,
    type=click.IntRange(0, 120),
    help="Months after this one.",
)
@click.option("--dry-run", is_flag=True, help="Only print which would be created.")
@json_option
def make_command(*, ahead: int, dry_run: bool, as_json: bool) -> None:
    """Create the missing partitions of this and the following months.

    Run it once a month; a late run does no harm.
    """
    made = create_months(_database_url(), ahead, dry_run=dry_run)
    if as_json:
        print_json({"made": [] if dry_run else made, "missing": made if dry_run else []})
    else:
        click.echo("\n".join(map(str, made)) or "nothing to make")


@months_group.command("away")
@click.argument("month", type=int)
def away_command(*, month: int) -> None:
    """Move a month, as in 202611, out of the ledger; its table stays in the schema `away`.

    Conservation of money can then only be checked over the remaining months, and a rollback of a
    transfer of this month needs an operator.
    """
    move_away(_database_url(), month)
    click.echo(f"away.transfer_{month} can be copied and dropped")


@months_group.command("back")
@click.argument("month", type=int)
def back_command(*, month: int) -> None:
    """Move a month back into the ledger."""
    bring_back(_database_url(), month)
    click.echo(f"transfer_{month} is in the ledger again")


def _database_url() -> str:
    return resolve_runtime(read_settings()).database_url


def _show(found: list[Month], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    table = screen.table("month", "table", "transfers", "MB", "away")
    for one in found:
        size = "" if one.is_away else f"{one.bytes / 1e6:,.1f}"
        rows = "" if one.is_away else f"{one.transfers:,}"
        table.add_row(str(one.month or "none"), one.table, rows, size, "yes" if one.is_away else "")
    show_rows(table, "no months", found, as_numbers=(2, 3))
