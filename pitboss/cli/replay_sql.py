"""`pitboss replay sql`: queries over a slice of the topics."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pitboss.cli import screen
from pitboss.cli.ledger_queries import json_option, print_json
from pitboss.cli.option_types import period_options, rate_option
from pitboss.cli.progress import StepProgress
from pitboss.cli.suggestions import PROVIDER, NameChoice
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.archive_settings import open_log
from pitboss.ops.exports import check_export_policy, missing_packages
from pitboss.ops.periods import check_period
from pitboss.settings import read_settings
from schemas.errors import UsageError
from schemas.topics import raw_topic

if TYPE_CHECKING:
    from replay.export.views import QueryResult, SliceDatabase

_VIEWS = ("transactions", "outcomes", "balances", "alerts", "player_events")


@click.command()
@click.argument("query", required=False)
@period_options(of="append time")
@click.option(
    "--view",
    "views",
    multiple=True,
    type=NameChoice(_VIEWS),
    help="Only this view; may be repeated. Reads less.",
)
@click.option("--raw", "raw", multiple=True, type=PROVIDER, help="Also this provider's raw topic.")
@click.option("--player", help="Only records of this player, of topics that name one.")
@rate_option
@json_option
def sql(
    query: str | None,
    *,
    since_ms: int | None,
    until_ms: int | None,
    views: tuple[str, ...],
    raw: tuple[str, ...],
    player: str | None,
    rate: float,
    as_json: bool,
) -> None:
    """Query a slice of the topics with DuckDB: QUERY, or statements from stdin, ended by `;`.

    The views are transactions, legs (a row for each leg), outcomes, balances, alerts, player_events
    and, with --raw, raw. Amounts are exact decimals. Personal and secret fields are empty.
    """
    check_period(since_ms, until_ms)
    check_export_policy(unmasked=False)
    with missing_packages("replay sql"):
        from replay.export.plan import MARGIN_MS
        from replay.export.request import ExportRequest
        from replay.export.views import VIEWS, export_views, open_views
    margin_ms = MARGIN_MS["append"]
    topics = {name: VIEWS[name] for name in views or VIEWS}
    topics |= {f"raw_{name}": raw_topic(name) for name in raw}
    requests = {
        name: ExportRequest(
            topic, since_ms=since_ms, until_ms=until_ms, margin_ms=margin_ms, player=player
        )
        for name, topic in topics.items()
    }
    runtime = resolve_runtime(read_settings())
    with tempfile.TemporaryDirectory(prefix="pitboss-replay-") as folder:
        with open_log(runtime, rate) as source, StepProgress() as progress:
            export_views(
                source,
                runtime.prefix,
                requests,
                Path(folder),
                begin=progress.begin,
                progress=progress.update,
            )
        with open_views(Path(folder)) as database:
            _run_statements(database, query, as_json=as_json)


def _run_statements(database: SliceDatabase, query: str | None, *, as_json: bool) -> None:
    if query is not None:
        _print_result(database.query(query), as_json=as_json)
        return
    is_terminal = sys.stdin.isatty()
    waiting = ""
    while True:
        if is_terminal:
            click.echo("sql> " if not waiting else "...> ", nl=False)
        line = sys.stdin.readline()
        waiting += line
        if waiting.rstrip().endswith(";") or (not line and waiting.strip()):
            try:
                _print_result(database.query(waiting), as_json=as_json)
            except UsageError as error:
                if not is_terminal:
                    raise
                click.echo(f"error: {error}", err=True)
            waiting = ""
        if not line:
            return


def _print_result(result: QueryResult | None, *, as_json: bool) -> None:
    if result is None:
        return
    if as_json:
        print_json([dict(zip(result.columns, row, strict=True)) for row in result.rows])
        return
    table = screen.table(*result.columns, box=None)
    for row in result.rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    screen.show(table)
