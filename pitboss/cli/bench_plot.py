"""`pitboss bench plot`: the kept results of measurements as SVG."""

from __future__ import annotations

from pathlib import Path

import click

from lab.bench.environments import REPOSITORY
from pitboss.cli.bench_environment import RESULTS
from pitboss.ops.exports import missing_packages
from schemas.errors import UsageError

PLOTS = REPOSITORY / "docs" / "explanation" / "plots"


@click.command("plot")
@click.argument("results", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the plots; docs/explanation/plots of this checkout if it is not given.",
)
def plot_command(results: tuple[Path, ...], folder: Path | None) -> None:
    """Draw results that `--save` has kept, each as one SVG of its name.

    As a rule all those in lab/bench/results. A kind of result that has no plot is left out.
    """
    with missing_packages("bench plot"):
        from lab.bench.plots import plot_results

    folder = folder or PLOTS
    folder.mkdir(parents=True, exist_ok=True)
    written = plot_results(results or sorted(RESULTS.glob("*.json")), folder)
    if not written:
        raise UsageError("none of these results has a plot")
    for file in written:
        click.echo(file)
