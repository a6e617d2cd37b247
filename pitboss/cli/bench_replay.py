"""`pitboss bench replay`: the export on one core, beside a loop of libraries."""

from __future__ import annotations

import asyncio

import click

from pitboss.cli.bench_environment import (
    PARTITIONS,
    bench_namespace,
    json_option,
    open_bench,
    print_figures,
    save_option,
    servers_option,
)
from pitboss.ops.exports import missing_packages
from schemas.topics import TRANSACTIONS


@click.command("replay")
@click.option(
    "--pairs",
    default=3,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Runs of each side, in turns.",
)
@click.option(
    "--events",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(10_000),
    help="Events in the topic; the peer reads a quarter of them.",
)
@json_option
@save_option
@servers_option
def replay_command(
    pairs: int, events: int, *, as_json: bool, is_saved: bool, may_use_given: bool
) -> None:
    """Measure the export to Parquet on one core against confluent-kafka, fastavro and pyarrow."""
    with missing_packages("bench replay"):
        from lab.bench.replay import ReplayBenchPlan, run

    with (
        open_bench(may_use_given=may_use_given) as opened,
        bench_namespace(opened.servers, opened.name) as runtime,
    ):
        plan = ReplayBenchPlan(
            runtime.broker,
            runtime.topic(TRANSACTIONS),
            PARTITIONS,
            opened.folder,
            events,
            pairs,
        )
        figures = asyncio.run(run(plan, opened.progress))
    print_figures(
        "replay: events of the log to Parquet, one core",
        figures,
        as_json=as_json,
        save_as="replay" if is_saved else None,
    )
