"""`pitboss provision`: database, tables and topics, for workers not started by `pitboss run`."""

from __future__ import annotations

from dataclasses import asdict

import click
import orjson

from pitboss.cli.progress import show_waiting
from pitboss.cli.suggestions import PROVIDER
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.provision import provision as make_ready
from pitboss.ops.shared_settings import collect
from pitboss.settings import read_settings, read_worker_settings
from schemas.errors import UsageError
from schemas.topics import PARTITIONS_DEFAULT


@click.command()
@click.option(
    "--partitions",
    default=PARTITIONS_DEFAULT,
    show_default=True,
    type=click.IntRange(1, 1_000),
    help="Of every topic created now whose number is not fixed, but raw topics; existing topics "
    "keep theirs.",
)
@click.option(
    "--provider",
    "providers",
    multiple=True,
    type=PROVIDER,
    help="Make and read the raw topics of this one only; may be repeated. Wins over "
    "PITBOSS_PROVIDERS.",
)
@click.option(
    "--dry-run", is_flag=True, help="Query both servers for what is missing, and change nothing."
)
@click.option(
    "--accept-settings",
    is_flag=True,
    help="Store the settings of this environment that all processes share, and print what changes. "
    "With --dry-run only print it.",
)
@click.option("--by", "actor", help="Who accepts them; kept with the installation.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def provision(
    partitions: int,
    providers: tuple[str, ...],
    dry_run: bool,
    accept_settings: bool,
    actor: str | None,
    as_json: bool,
) -> None:
    """Create what is missing of database, tables and topics; existing ones stay unchanged.

    Stores with the installation whose raw topics are read (PITBOSS_PROVIDERS), also when that
    changes, and how many partitions each has (PITBOSS_RAW_PARTITIONS), which never changes; and the
    settings that all processes share (brands, currencies, dialects and ledger policies), which
    --accept-settings changes.
    """
    if accept_settings and not actor:
        raise UsageError("give --by NAME: who accepts the settings is kept with the installation")
    worker = read_worker_settings()
    runtime = resolve_runtime(read_settings())
    with show_waiting("provisioning") as progress:
        done = make_ready(
            runtime,
            partitions=partitions,
            providers=providers or worker.providers,
            raw_partitions=worker.raw_partitions,
            shared=collect(worker),
            accepted_by=actor if accept_settings else None,
            dry_run=dry_run,
            report=progress.report,
        )
    if as_json:
        names = {"database": runtime.database, "namespace": runtime.namespace}
        done_as_json = {"dry_run": dry_run, **names, **asdict(done)}
        click.echo(orjson.dumps(done_as_json, default=sorted))
        return
    word = "would change" if dry_run else "changed"
    for line in done.changed_settings:
        click.echo(f"{word}  {line}")
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
