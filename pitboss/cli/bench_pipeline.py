"""`pitboss bench pipeline`: all workers over filled raw topics, until every balance is there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from lab.bench.environments import RevisionBuild
from lab.bench.pipeline import (
    IDLE_S,
    PAIRS,
    RECORDS,
    RECORDS_MIN,
    SECURED_RECORDS,
    OpenSide,
    PipelineBenchPlan,
    PipelineSide,
    PipelineSubject,
)
from lab.bench.pipeline_figures import BASE, OURS, PLAIN_FAUST, PLAIN_TEXT, QUIX
from lab.bench.pipeline_traffic import (
    KEYRING_PROVIDERS,
    PipelineTraffic,
    load_keys,
    make_traffic,
)
from lab.bench.processes import ProcessCommand
from pitboss.cli.bench_environment import (
    BenchRun,
    json_option,
    open_bench,
    open_secured,
    print_figures,
    save_option,
    servers_option,
    with_lifeline,
)
from pitboss.cli.bench_sides import build_base, side_namespace, worker_commands, write_keyring
from pitboss.cli.suggestions import NameChoice
from pitboss.settings import Runtime, worker_environment
from pitboss.workers import ROLES
from schemas.errors import UsageError
from schemas.topics import BALANCES, OUTCOMES, PARTITIONS_DEFAULT, raw_topic

PEERS = ("faust", "quix")
QUIX_PACKAGES = ("quixstreams==3.28.1",)
PEERS_FOLDER = "bench-peers"
"""Environments of peers, below the stack's folder; they are kept."""
LIFELINE = "pitboss.workers.lifeline"
FAUST_SHARE, QUIX_SHARE = 25, 4
"""A peer gets so many times fewer records, and so runs about as long as ours or less."""


@click.command("pipeline")
@click.option(
    "--records",
    type=click.IntRange(RECORDS_MIN),
    help=f"Raw records of each of our runs ({RECORDS:,}; {SECURED_RECORDS:,} with --secure).",
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
@click.option(
    "--peers",
    "has_all_peers",
    is_flag=True,
    help="In turns with both peers.",
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=NameChoice(PEERS),
    help="In turns with this peer: a plain Faust pipeline with one commit an event, or Quix Streams"
    " with a transaction a batch, which is installed in an environment of its own. They get fewer"
    " records.",
)
@click.option(
    "--secure",
    "is_secured",
    is_flag=True,
    help="Ours on servers with TLS and logins, as `up --secure` makes them, in turns with ours on"
    " servers without: `ratio_secured`.",
)
@json_option
@save_option
@servers_option
def pipeline_command(
    records: int | None,
    pairs: int,
    base: str | None,
    idle_s: float,
    traffic_folder: Path | None,
    partitions: int | None,
    has_all_peers: bool,
    peers: tuple[str, ...],
    is_secured: bool,
    as_json: bool,
    is_saved: bool,
    may_use_given: bool,
) -> None:
    """Measure all workers over a backlog, from raw records to published balances.

    Broker and database share the machine, and their CPU counts. Signatures are checked.
    """
    from lab.bench.pipeline import run

    if is_secured:
        _refuse_peers(base or has_all_peers or peers)
    records = records or (SECURED_RECORDS if is_secured else RECORDS)
    with open_bench(may_use_given=may_use_given) as opened, ExitStack() as on_exit:
        build = build_base(opened, base) if base else None
        traffic, keyring = _sign_records(opened, traffic_folder, records)
        sides = PipelineSides(opened, keyring, partitions)
        subjects = sides.choose(records, build, PEERS if has_all_peers else peers)
        if is_secured:
            secured = PipelineSides(
                on_exit.enter_context(open_secured(opened)), keyring, partitions
            )
            subjects = compare_secured(secured, sides, records)
        plan = PipelineBenchPlan(
            broker=opened.servers.broker,
            subjects=subjects,
            traffic=traffic,
            pairs=pairs,
            idle_s=0.0 if is_secured else idle_s,
            servers_origin=opened.origin,
        )
        figures = asyncio.run(run(plan, opened.progress))
    print_figures(
        "pipeline: raw records to published balances",
        figures,
        as_json=as_json,
        save_as=("pipeline-secured" if is_secured else "pipeline") if is_saved else None,
    )


def _sign_records(
    opened: BenchRun, traffic_folder: Path | None, records: int
) -> tuple[PipelineTraffic, Path]:
    """Sign the records, unless an earlier run has left them; return them and their keyring."""
    folder = traffic_folder or opened.folder / "traffic"
    opened.progress.begin("signing records")
    traffic = make_traffic(folder, records, opened.progress)
    keyring = write_keyring(load_keys(folder), opened.folder / "keys.json", KEYRING_PROVIDERS)
    return traffic, keyring


def _refuse_peers(are_given: object) -> None:
    if are_given:
        raise UsageError("--secure compares ours with ours: leave out --base, --peers and --peer")


def compare_secured(
    secured: PipelineSides, plain: PipelineSides, records: int
) -> list[PipelineSubject]:
    """Return the subjects of a comparison with servers that have no TLS."""
    return [
        PipelineSubject(OURS, secured.open_workers(None), records),
        PipelineSubject(PLAIN_TEXT, plain.open_workers(None), records),
    ]


class PipelineSides:
    """Makes the sides of a measurement, each in an unused namespace."""

    def __init__(self, opened: BenchRun, keyring: Path, partitions: int | None) -> None:
        self._opened = opened
        self._keyring = keyring
        self._partitions = partitions

    def choose(
        self, records: int, build: RevisionBuild | None, peers: Sequence[str]
    ) -> list[PipelineSubject]:
        """Return the subjects of a measurement: ours, another revision, and peers."""
        subjects = [PipelineSubject(OURS, self.open_workers(None), records)]
        if build is not None:
            subjects.append(PipelineSubject(BASE, self.open_workers(build), records))
        if "faust" in peers:
            fewer = max(RECORDS_MIN, records // FAUST_SHARE)
            subjects.append(PipelineSubject(PLAIN_FAUST, self.open_faust, fewer))
        if "quix" in peers:
            fewer = max(RECORDS_MIN, records // QUIX_SHARE)
            subjects.append(PipelineSubject(QUIX, self.open_quix(), fewer))
        return subjects

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
            yield PipelineSide(
                processes=commands,
                raw=raw_topics(runtime),
                outcomes=runtime.topic(OUTCOMES),
                balances=runtime.topic(BALANCES),
                broker=runtime.broker,
                servers=self._opened.server_pids,
                groups=[runtime.group(name) for name in ("normalise", "drift", "fraud.detect")],
            )

    def open_quix(self) -> OpenSide:
        """Return what opens a side with Quix Streams, which is installed now if it is not yet."""
        from lab.bench.environments import build_peer

        opened = self._opened
        cache = opened.settings.home / PEERS_FOLDER
        python = build_peer("quix", QUIX_PACKAGES, cache, opened.progress.begin)

        @contextmanager
        def open_side(suffix: str) -> Iterator[PipelineSide]:
            with self._peer_namespace(f"{suffix}_quix") as runtime:
                argument = self._peer_settings(runtime, "quix")
                arguments = (str(python), "-m", LIFELINE, "lab.bench.peers.quix_pipeline", argument)
                environment = RevisionBuild.environment(worker_environment(runtime))
                yield self._peer(runtime, "quix", arguments, environment)

        return open_side

    @contextmanager
    def open_faust(self, suffix: str) -> Iterator[PipelineSide]:
        """Open a side with the plain Faust pipeline."""
        with self._peer_namespace(f"{suffix}_faust") as runtime:
            folder = str(self._opened.folder / "faust")
            more = {"partitions": self._partitions or PARTITIONS_DEFAULT, "data_folder": folder}
            argument = self._peer_settings(runtime, "faust", **more)
            arguments = with_lifeline("lab.bench.peers.faust_pipeline", argument)
            yield self._peer(runtime, "faust", arguments, worker_environment(runtime))

    def _peer_namespace(self, suffix: str) -> AbstractContextManager[Runtime]:
        return side_namespace(self._opened, suffix, partitions=self._partitions)

    def _peer_settings(self, runtime: Runtime, name: str, **more: Any) -> str:
        settings = {
            "broker": runtime.broker,
            "group": runtime.group(f"peer_{name}"),
            "sources": list(raw_topics(runtime).values()),
            "sink": runtime.topic(BALANCES),
            "database_url": runtime.database_url,
            "keys_file": str(self._keyring),
            **more,
        }
        return msgspec.json.encode(settings).decode()

    def _peer(
        self, runtime: Runtime, name: str, arguments: Sequence[str], environment: dict[str, str]
    ) -> PipelineSide:
        balances = runtime.topic(BALANCES)
        log = self._opened.folder / f"{name}.log"
        command = ProcessCommand(arguments, environment, log)
        servers = self._opened.server_pids
        raw = raw_topics(runtime)
        return PipelineSide({name: command}, raw, balances, balances, runtime.broker, servers)


def raw_topics(runtime: Runtime) -> dict[str, str]:
    """Return the raw topics that the traffic is for, by provider."""
    return {name: runtime.topic(raw_topic(name)) for name in KEYRING_PROVIDERS}
