"""`pitboss ledger report`: bets, wins and bonus cost, checked against the accounts to the cent."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec

from ledger_sink.queries.report import (
    DIMENSIONS,
    ReportRow,
    RevenueReport,
    bounds_of,
    make_report,
)
from ledger_sink.store.database import LedgerDatabase
from pitboss.cli import screen
from pitboss.cli.ledger_queries import json_option, print_json, read_ledger, show_rows
from pitboss.cli.option_types import period_options
from pitboss.cli.progress import show_waiting
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.periods import check_period
from pitboss.settings import read_settings
from schemas.money import exponent_of, format_minor


@click.command()
@click.option(
    "--by", default="provider", show_default=True, help=f"Comma-separated: {', '.join(DIMENSIONS)}."
)
@period_options(formerly_since="--from")
@json_option
def report(*, by: str, since_ms: int | None, until_ms: int | None, as_json: bool) -> None:
    """Report bets, wins, jackpots, bonus cost and gross gaming revenue.

    Bets and wins that their provider does not count towards the revenue that it invoices are left
    out; `GGR left out` is what they come to. The sums are checked against the accounts of the
    house; exit code 1 if one differs.
    """
    dimensions = [name.strip() for name in by.split(",") if name.strip()]
    check_period(since_ms, until_ms)
    from_ms, to_ms = bounds_of(since_ms, until_ms)

    async def read(database: LedgerDatabase) -> RevenueReport:
        return await make_report(database, dimensions, from_ms=from_ms, until_ms=to_ms)

    with show_waiting("summing the transfers"):
        made = read_ledger(resolve_runtime(read_settings()), read)
    if as_json:
        rows = [
            {
                **msgspec.to_builtins(row),
                "ggr_minor": row.ggr_minor,
                "unbillable_ggr_minor": row.unbillable_ggr_minor,
            }
            for row in made.rows
        ]
        print_json(
            {"by": dimensions, "rows": rows, "mismatches": msgspec.to_builtins(made.mismatches)}
        )
    else:
        _show_report(made, dimensions)
    for wrong in made.mismatches:
        click.echo(
            f"error: {wrong.account} {wrong.currency}: the rows say {wrong.reported_minor},"
            f" the accounts {wrong.booked_minor}; run `pitboss ledger verify`",
            err=True,
        )
    if made.mismatches:
        raise SystemExit(1)


def _show_report(made: RevenueReport, dimensions: Sequence[str]) -> None:
    columns = ("bets", "wins", "contributions", "GGR", "GGR left out", "jackpot wins", "bonus cost")
    table = screen.table(*dimensions, "currency", *columns, box=None)
    for row in made.rows:
        table.add_row(
            *[getattr(row, name) or "" for name in dimensions], row.currency, *_amounts(row)
        )
    first = len(dimensions) + 1
    show_rows(table, "no movements", made.rows, as_numbers=range(first, first + len(columns)))


def _amounts(row: ReportRow) -> list[str]:
    sums = (
        row.bets_minor,
        row.wins_minor,
        row.contributions_minor,
        row.ggr_minor,
        row.unbillable_ggr_minor,
        row.jackpot_wins_minor,
        row.bonus_cost_minor,
    )
    return [format_minor(amount, exponent_of(row.currency)) for amount in sums]
