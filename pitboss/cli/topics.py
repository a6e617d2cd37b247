"""`pitboss topics`: create the catalogue's topics, compare them, and show consumer lag."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

import click
import orjson

from pitboss.cli import screen
from pitboss.embedded.state import resolve_runtime
from pitboss.ops import topic_admin
from pitboss.ops.pauses import list_pauses
from pitboss.ops.topic_admin import PartitionLag
from pitboss.settings import read_settings
from schemas.topics import PARTITIONS_DEFAULT
from streams.providers.registry import DIALECTS

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_partitions = click.option(
    "--partitions",
    default=PARTITIONS_DEFAULT,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Of each topic whose number is not fixed.",
)


@click.group()
def topics() -> None:
    """Create and check the topics of this installation."""


@topics.command()
@_partitions
@click.option(
    "--dry-run", is_flag=True, help="Let the broker validate the request, and change nothing."
)
@_as_json
def create(partitions: int, dry_run: bool, as_json: bool) -> None:
    """Create missing topics. Existing ones stay unchanged: see `pitboss topics check`."""
    runtime = resolve_runtime(read_settings())
    done = asyncio.run(
        topic_admin.create_topics(
            runtime.bootstrap_servers, runtime.namespace, sorted(DIALECTS), partitions, dry_run
        )
    )
    if as_json:
        click.echo(orjson.dumps({"dry_run": dry_run, **asdict(done)}))
        return
    for name in done.created:
        click.echo(f"{'would create' if dry_run else 'created'}  {name}")
    word = "to be created" if dry_run else "created"
    click.echo(f"{len(done.created)} {word}, {len(done.existing)} there before")


@topics.command()
@_partitions
@_as_json
@click.pass_context
def check(context: click.Context, partitions: int, as_json: bool) -> None:
    """Compare partitions, cleanup, retention and timestamps with the catalogue.

    Exit code 1 on a difference.
    """
    runtime = resolve_runtime(read_settings())
    found = asyncio.run(
        topic_admin.check_topics(
            runtime.bootstrap_servers, runtime.namespace, sorted(DIALECTS), partitions
        )
    )
    rows = [asdict(difference) for difference in found]
    if as_json:
        click.echo(orjson.dumps(rows))
    elif rows:
        _show(("topic", "what", "expected", "actual"), rows)
        click.echo(
            "missing topics: run `pitboss topics create`; others: change with Kafka's own tools",
            err=True,
        )
    else:
        click.echo("all topics are as they should be")
    context.exit(1 if rows else 0)


@topics.command()
@click.option("--each", is_flag=True, help="A row for each partition, not for each topic.")
@_as_json
def lag(each: bool, as_json: bool) -> None:
    """Show the records between each consumer group's commits and the end of its partitions."""
    runtime = resolve_runtime(read_settings())
    found = asyncio.run(topic_admin.measure_lag(runtime.bootstrap_servers, runtime.namespace))
    rows = [{**asdict(one), "lag": one.records} for one in found] if each else [*_by_topic(found)]
    if as_json:
        click.echo(orjson.dumps(rows))
    elif rows:
        _show(tuple(rows[0]), rows)
    else:
        click.echo("no consumer group has committed anything yet")
    for pause in list_pauses(runtime):
        click.echo(f"{pause.component} is {pause}", err=True)


def _by_topic(found: Iterable[PartitionLag]) -> Iterable[dict[str, Any]]:
    for (group, topic), lags in groupby(found, key=lambda one: (one.group, one.topic)):
        records = [one.records for one in lags]
        yield {
            "group": group,
            "topic": topic,
            "partitions": len(records),
            "lag": sum(records),
            "most": max(records),
        }


def _show(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    table = screen.table(*columns, whole=("topic",))
    for header, column in zip(columns, table.columns, strict=True):
        column.justify = "right" if all(isinstance(row[header], int) for row in rows) else "left"
    for row in rows:
        table.add_row(*("" if row[column] is None else str(row[column]) for column in columns))
    screen.show(table)
