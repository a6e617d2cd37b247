"""`pitboss provision`: database, tables and topics, for workers that something else than `pitboss run` starts."""

from __future__ import annotations

import click

from pitboss.provision import provision as make_ready
from pitboss.settings import read_settings, resolve_runtime
from schemas.topics import PARTITIONS_DEFAULT


@click.command()
@click.option(
    "--partitions",
    default=PARTITIONS_DEFAULT,
    show_default=True,
    type=click.IntRange(1, 1_000),
    help="Of every topic that is created now and has no number of its own; those that exist keep theirs.",
)
@click.option("--provider", "providers", multiple=True, help="Raw topics for this one only; may be repeated.")
def provision(partitions: int, providers: tuple[str, ...]) -> None:
    """Create what is missing of the database, its tables and the topics; what is there stays as it is."""
    runtime = resolve_runtime(read_settings())
    make_ready(runtime, partitions=partitions, providers=providers or None)
    click.echo(f"ready: database {runtime.database}, namespace {runtime.namespace or '(none)'}")
