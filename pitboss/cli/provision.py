"""`pitboss provision`: database, tables and topics, for workers not started by `pitboss run`."""

from __future__ import annotations

from dataclasses import asdict

import click
import orjson

from pitboss.cli.progress import show_waiting
from pitboss.cli.suggestions import PROVIDER
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.provision import provision as make_ready
from pitboss.settings import read_settings
from schemas.topics import PARTITIONS_DEFAULT


@click.command()
@click.option(
    "--partitions",
    default=PARTITIONS_DEFAULT,
    show_default=True,
    type=click.IntRange(1, 1_000),
    help="Of every topic created now whose number is not fixed; existing topics keep theirs.",
)
@click.option(
    "--provider",
    "providers",
    multiple=True,
    type=PROVIDER,
    help="Raw topics for this one only; may be repeated.",
)
@click.option(
    "--dry-run", is_flag=True, help="Query both servers for what is missing, and change nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def provision(partitions: int, providers: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Create what is missing of database, tables and topics; existing ones stay unchanged."""
    runtime = resolve_runtime(read_settings())
    with show_waiting("provisioning") as progress:
        done = make_ready(
            runtime,
            partitions=partitions,
            providers=providers or None,
            dry_run=dry_run,
            report=progress.report,
        )
    if as_json:
        names = {"database": runtime.database, "namespace": runtime.namespace}
        click.echo(orjson.dumps({"dry_run": dry_run, **names, **asdict(done)}))
        return
    where = f"database {runtime.database}, namespace {runtime.namespace or '(none)'}"
    if not dry_run:
        click.echo(f"ready: {where}")
        return
    for kind, missing in (
        ("database", [runtime.database] if done.has_new_database else []),
        ("migration", done.migrations),
        ("topic", done.topics.created),
    ):
        for name in missing:
            click.echo(f"would create  {kind} {name}")
    counts = f"{len(done.migrations)} migrations and {len(done.topics.created)} topics"
    click.echo(f"{counts} to be created: {where}")
