"""`pitboss bench replay`: the export on one core, beside a loop of libraries."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click
import msgspec

from lab.bench.processes import ProcessCommand
from pitboss.cli.bench_environment import (
    PARTITIONS,
    bench_namespace,
    json_option,
    open_bench,
    print_figures,
    save_option,
    servers_option,
    with_lifeline,
)
from pitboss.cli.option_types import REPLAY_RATE
from pitboss.ops.exports import missing_packages
from pitboss.settings import worker_environment
from schemas.topics import TRANSACTIONS

if TYPE_CHECKING:
    from lab.bench.latency_replay import ReplayLatencyFigures
    from pitboss.cli.bench_latency import LatencyBench


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


def measure_beside_replay(
    bench: LatencyBench, rate: int, pairs: int, seconds: int
) -> ReplayLatencyFigures:
    """Measure decision times in turns beside a replay at the default quota."""
    with missing_packages("bench latency --replay"):
        from lab.bench.latency_replay import ReplayLatencyPlan, ReplayLoad
        from lab.bench.latency_replay import run as run_beside

    opened = bench.opened
    # A namespace of its own: no worker reads the history.
    with (
        bench_namespace(opened.servers, opened.name) as runtime,
        bench_namespace(opened.servers, f"{opened.name}_history") as other,
    ):
        history = other.topic(TRANSACTIONS)

        def command(records_per_s: float) -> ProcessCommand:
            load = ReplayLoad(runtime.broker, history, records_per_s)
            arguments = with_lifeline(
                "lab.bench.latency_replay", msgspec.json.encode(load).decode()
            )
            log = opened.folder / f"replay-{records_per_s:.0f}.log"
            return ProcessCommand(arguments, worker_environment(runtime), log)

        plan = ReplayLatencyPlan(
            bench.plan_rates(runtime, (rate,) * (2 * pairs + 1), seconds),
            rate,
            history,
            command(REPLAY_RATE),
            command(0),
            REPLAY_RATE,
            pairs,
        )
        return asyncio.run(run_beside(plan, opened.progress))
