"""`pitboss bench balance`: the answer to what a player had at an earlier time."""

from __future__ import annotations

import asyncio
import sys

import click

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
from pitboss.ops.exports import missing_packages
from pitboss.settings import worker_environment


@click.command("balance")
@click.option(
    "--events",
    default=500_000,
    show_default=True,
    type=click.IntRange(2_000),
    help="Events of the log, over five days; a hundred for each player.",
)
@click.option(
    "--questions",
    default=50,
    show_default=True,
    type=click.IntRange(1),
    help="Random players and times: so many that the broker has, and as many only in the archive.",
)
@json_option
@save_option
@servers_option
def balance_command(
    events: int, questions: int, *, as_json: bool, is_saved: bool, may_use_given: bool
) -> None:
    """Measure `ledger balance PLAYER --at T`: the command, and its statement on the server."""
    with missing_packages("bench balance"):
        from lab.bench.balance import BalanceBenchPlan, run

    with (
        open_bench(may_use_given=may_use_given) as opened,
        bench_namespace(opened.servers, opened.name) as runtime,
    ):
        archive = opened.folder / "archive"
        environment = {**worker_environment(runtime), "PITBOSS_LOG_LEVEL": "WARNING"}
        plan = BalanceBenchPlan(
            broker=runtime.broker,
            database_url=runtime.database_url,
            prefix=runtime.prefix,
            partitions=PARTITIONS,
            worker=ProcessCommand(
                with_lifeline("pitboss.workers", "ledger"),
                environment,
                opened.folder / "ledger.log",
            ),
            command=(sys.executable, "-m", "pitboss.cli.main", "ledger", "balance"),
            environment={**environment, "PITBOSS_ARCHIVE": str(archive)},
            archive=archive,
            events=events,
            questions=questions,
            servers_origin=opened.origin,
        )
        figures = asyncio.run(run(plan, opened.progress))
    print_figures(
        "balance: what a player had at an earlier time",
        figures,
        as_json=as_json,
        save_as="balance" if is_saved else None,
    )
