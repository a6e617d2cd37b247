"""`pitboss replay plot`: a curve over a slice of the topics, as SVG or PNG."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pitboss.cli.option_types import period_options, rate_option
from pitboss.cli.progress import StepProgress
from pitboss.cli.suggestions import PROVIDER, NameChoice
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.archive_settings import open_log
from pitboss.ops.exports import check_export_policy, missing_packages
from pitboss.ops.periods import check_period
from pitboss.settings import read_settings
from schemas.errors import UsageError

if TYPE_CHECKING:
    from replay.plots import PlotKind


@click.command()
@click.argument("kind", type=NameChoice(["bets", "balance", "payout"]))
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The figure: an .svg or .png file.",
)
@period_options(of="append time")
@click.option("--player", help="Only this player; needed for a balance.")
@click.option("--provider", type=PROVIDER, help="Only this provider.")
@rate_option
def plot(
    kind: PlotKind,
    *,
    out: Path,
    since_ms: int | None,
    until_ms: int | None,
    player: str | None,
    provider: str | None,
    rate: float,
) -> None:
    """Draw bets a minute by provider, a player's balance over time, or the payout of each game.

    Payout is what was won divided by what was staked, in each currency, of the 30 games with most
    stakes: booked bets and wins that were not rolled back. A balance is the one after each
    decision, from the outcomes.
    """
    if kind == "balance" and player is None:
        raise UsageError("a balance is that of one player: give --player")
    check_period(since_ms, until_ms)
    check_export_policy(unmasked=False)
    with missing_packages("replay plot"):
        from replay.export.plan import MARGIN_MS
        from replay.export.request import ExportRequest
        from replay.export.views import VIEWS, export_views, open_views
        from replay.plots import VIEWS_OF, draw, read_series
    period: dict[str, Any] = {
        "since_ms": since_ms,
        "until_ms": until_ms,
        "margin_ms": MARGIN_MS["append"],
    }
    requests = {
        name: ExportRequest(VIEWS[name], player=player, provider=provider, **period)
        for name in VIEWS_OF[kind]
    }
    runtime = resolve_runtime(read_settings())
    with tempfile.TemporaryDirectory(prefix="pitboss-replay-") as folder:
        with open_log(runtime, rate) as source, StepProgress() as progress:
            begin, update = progress.begin, progress.update
            export_views(
                source, runtime.prefix, requests, Path(folder), begin=begin, progress=update
            )
        with open_views(Path(folder)) as database:
            series = read_series(database, kind, player)
    if not series.curves:
        raise UsageError("the slice has nothing to draw: widen --since and --until")
    draw(series, out)
    points = sum(len(curve.values) for curve in series.curves)
    click.echo(f"{len(series.curves)} curves of {points:,} points in {out}")
