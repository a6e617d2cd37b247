"""`pitboss bench pipeline`: all workers over filled raw topics, until every balance is there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import click

from lab.bench.pipeline import (
    IDLE_S,
    PAIRS,
    RECORDS,
    RECORDS_MIN,
    OpenSide,
    PipelineBenchPlan,
    PipelineSide,
    PipelineSubject,
)
from lab.bench.pipeline_figures import BASE, OURS
from lab.bench.pipeline_traffic import KEYRING_PROVIDERS
from lab.bench.revisions import RevisionBuild
from pitboss.cli.bench_environment import (
    BenchRun,
    json_option,
    open_bench,
    print_figures,
    servers_option,
)
from pitboss.cli.bench_sides import build_base, side_namespace, worker_commands, write_keyring
from pitboss.settings import Runtime
from pitboss.workers import ROLES
from schemas.topics import BALANCES, OUTCOMES, TRANSACTIONS, raw_topic


@click.command("pipeline")
@click.option(
    "--records",
    default=RECORDS,
    show_default=True,
    type=click.IntRange(RECORDS_MIN),
    help="Raw records of each of our runs.",
)
@click.option(
    "--pairs",
    default=PAIRS,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Runs of each side, in turns.",
)
@click.option(
    "--base",
    "base",
    metavar="REV",
    help="In turns with the workers of this git revision, which is built in an environment of its"
    " own.",
)
@click.option(
    "--idle-seconds",
    "idle_s",
    default=IDLE_S,
    show_default=True,
    type=click.FloatRange(0),
    help="After our last run the workers are watched for so long with nothing to do.",
)
@click.option(
    "--traffic",
    "traffic_folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the signed records in this folder, and use those of an earlier run: signing a"
    " million takes minutes.",
)
@click.option(
    "--partitions",
    type=click.IntRange(1, 1000),
    help="Of each topic; as a rule those of a new installation.",
)
@json_option
@servers_option
def pipeline_command(
    records: int,
    pairs: int,
    base: str | None,
    idle_s: float,
    traffic_folder: Path | None,
    partitions: int | None,
    as_json: bool,
    may_use_given: bool,
) -> None:
    """Measure all workers over a backlog, from raw records to published balances.

    Broker and database share the machine, and their CPU counts. Signatures are checked.
    """
    from lab.bench.pipeline import run
    from lab.bench.pipeline_traffic import load_keys, make_traffic

    with open_bench(may_use_given=may_use_given) as opened:
        build = build_base(opened, base) if base else None
        folder = traffic_folder or opened.folder / "traffic"
        opened.progress.begin("signing records")
        traffic = make_traffic(folder, records, opened.progress)
        keyring = write_keyring(load_keys(folder), opened.folder / "keys.json", KEYRING_PROVIDERS)
        sides = PipelineSides(opened, keyring, partitions)
        subjects = [PipelineSubject(OURS, sides.open_workers(None), records)]
        if build is not None:
            subjects.append(PipelineSubject(BASE, sides.open_workers(build), records))
        plan = PipelineBenchPlan(
            bootstrap_servers=opened.servers.bootstrap_servers,
            subjects=subjects,
            traffic=traffic,
            pairs=pairs,
            idle_s=idle_s,
            servers=opened.server_pids,
            servers_origin=opened.origin,
        )
        figures = asyncio.run(run(plan, opened.progress))
    print_figures("pipeline: raw records to published balances", figures, as_json)


class PipelineSides:
    """Makes the sides of a measurement, each in an unused namespace."""

    def __init__(self, opened: BenchRun, keyring: Path, partitions: int | None) -> None:
        self._opened = opened
        self._keyring = keyring
        self._partitions = partitions

    def open_workers(self, build: RevisionBuild | None) -> OpenSide:
        """Return what opens a side with all workers, of this code or of a build."""

        def open_side(suffix: str) -> AbstractContextManager[PipelineSide]:
            return self._workers(suffix if build is None else f"{suffix}_base", build)

        return open_side

    @contextmanager
    def _workers(self, suffix: str, build: RevisionBuild | None) -> Iterator[PipelineSide]:
        with side_namespace(
            self._opened, suffix, build=build, partitions=self._partitions
        ) as runtime:
            commands = worker_commands(self._opened, runtime, ROLES, self._keyring, build=build)
            raw = raw_topics(runtime)
            log = runtime.topic(TRANSACTIONS)
            yield PipelineSide(
                processes=commands,
                raw=raw,
                outcomes=runtime.topic(OUTCOMES),
                balances=runtime.topic(BALANCES),
                groups={
                    runtime.group("normalise"): list(raw.values()),
                    runtime.group("drift"): list(raw.values()),
                    runtime.group("fraud.detect"): [log],
                },
            )


def raw_topics(runtime: Runtime) -> dict[str, str]:
    """Return the raw topics that the traffic is for, by provider."""
    return {name: runtime.topic(raw_topic(name)) for name in KEYRING_PROVIDERS}
