"""`pitboss bench`: measurements, each with its peer in the same run.

The stack is left as it was found.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import msgspec

from lab.bench.adapters import ROUNDS
from lab.bench.alert_delays import FraudSubject
from lab.bench.environments import RevisionBuild, build_peer
from lab.bench.kafka_streams import StreamsPeer
from lab.bench.ledger import EVENTS as LEDGER_EVENTS
from lab.bench.ledger import FULL_ROWS, LedgerBenchPlan
from lab.bench.normalise import EVENTS, EVENTS_MIN, OTHER_PEERS, NormaliseBenchPlan
from lab.bench.observation import MeasuredSubject
from lab.bench.peers.faust_velocity import FaustVelocitySettings
from lab.bench.plain_faust import PlainFaustSettings
from lab.bench.processes import ProcessCommand
from lab.bench.raw_records import hub88_records
from lab.sandbox.keys import SandboxKeys
from ledger_sink.store.migrate import migrate
from pitboss.cli.bench_balance import balance_command
from pitboss.cli.bench_environment import (
    PARTITIONS,
    BenchRun,
    bench_namespace,
    json_option,
    open_bench,
    pairs_option,
    print_figures,
    save_option,
    servers_option,
    with_lifeline,
)
from pitboss.cli.bench_gateway import gateway_command
from pitboss.cli.bench_kafka_streams import make_streams_peer
from pitboss.cli.bench_latency import latency_command
from pitboss.cli.bench_pipeline import LIFELINE, PEERS_FOLDER, QUIX_PACKAGES, pipeline_command
from pitboss.cli.bench_plot import plot_command
from pitboss.cli.bench_replay import replay_command
from pitboss.cli.bench_telemetry import telemetry_command
from pitboss.cli.progress import StepProgress
from pitboss.cli.suggestions import PROVIDER, SuggestingGroup
from pitboss.embedded.databases import create_database, drop_database
from pitboss.settings import Runtime, runtime_of, worker_environment
from schemas.topics import ALERTS, PLAYER_EVENTS, TRANSACTIONS, raw_topic

_PEER_PACKAGES = {
    "quix_streams": ("quix", QUIX_PACKAGES),
    "bytewax": ("bytewax", ("bytewax[kafka]==0.21.1",)),
    "confluent_loop": ("loop", ()),
}
"""Peers of the normaliser: their name, and the packages that are installed for them."""


@click.group(cls=SuggestingGroup)
def bench() -> None:
    """Measure Pitboss against its peers, in turns, on this machine."""


bench.add_command(balance_command)
bench.add_command(latency_command)
bench.add_command(pipeline_command)
bench.add_command(gateway_command)
bench.add_command(plot_command)
bench.add_command(replay_command)
bench.add_command(telemetry_command)


@bench.command()
@pairs_option
@click.option(
    "--events",
    default=EVENTS,
    show_default=True,
    type=click.IntRange(EVENTS_MIN),
    help="Raw records of each of our runs; the peer gets an eighteenth, which takes it as long.",
)
@click.option(
    "--peers",
    "has_peers",
    is_flag=True,
    help="Also against Quix Streams, Bytewax and a bare confluent-kafka loop; the first two are"
    " installed in environments of their own. And against Kafka Streams, where a JDK compiles it.",
)
@json_option
@save_option
@servers_option
def normalise(
    pairs: int, events: int, has_peers: bool, as_json: bool, is_saved: bool, may_use_given: bool
) -> None:
    """Measure the normalising worker against a plain Faust agent with the same mapping."""
    from lab.bench.normalise import run

    with open_bench(may_use_given=may_use_given) as opened, ExitStack() as on_exit:
        runtimes = [
            on_exit.enter_context(bench_namespace(opened.servers, f"{opened.name}{suffix}"))
            for suffix in ("", "_signed", "_peer")
        ]
        others = {}
        for key in OTHER_PEERS if has_peers else ():
            name = f"{opened.name}_{key}"
            runtime = on_exit.enter_context(bench_namespace(opened.servers, name))
            others[key] = _other_peer(opened, runtime, key)
        streams = StreamsPeer(None)
        if has_peers:
            name = f"{opened.name}_kafka_streams"
            runtime = on_exit.enter_context(bench_namespace(opened.servers, name))
            streams = make_streams_peer(opened, runtime)
        plan = replace(_plan(opened, runtimes, pairs, events), others=others, streams=streams)
        figures = asyncio.run(run(plan, opened.progress))
    print_figures(
        "normalise: raw Hub88 records to wallet transactions",
        figures,
        as_json=as_json,
        save_as="normalise" if is_saved else None,
    )


@bench.command()
@click.option(
    "--rounds",
    default=ROUNDS,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Measurements of each adapter.",
)
@click.option("--provider", multiple=True, type=PROVIDER, help="Only of this provider.")
@json_option
@save_option
def adapters(rounds: int, provider: tuple[str, ...], as_json: bool, is_saved: bool) -> None:
    """Measure mapping, encoding and signature of each adapter on one core.

    Needs no server.
    """
    from lab.bench.adapters import run
    from lab.conformance.adapters import registered_versions

    versions = [
        each for each in registered_versions() if not provider or each.row.provider in provider
    ]
    with StepProgress() as progress:
        figures = run(versions, rounds, progress.begin)
    print_figures(
        "adapters: raw records to events, one core, CPU time",
        figures,
        as_json=as_json,
        save_as="adapters" if is_saved else None,
    )


@bench.command("fraud")
@pairs_option
@click.option(
    "--events",
    default=200_000,
    show_default=True,
    type=click.IntRange(20_000),
    help="Events of each of our runs; the peer gets a twentieth.",
)
@click.option(
    "--step",
    "step_s",
    default=1.0,
    show_default=True,
    type=click.FloatRange(1.0, 60.0),
    help="Seconds between the starts of the peer's windows: 1 gives D01's answers, 60 is tumbling.",
)
@json_option
@save_option
@servers_option
def fraud_command(
    pairs: int, events: int, step_s: float, as_json: bool, is_saved: bool, may_use_given: bool
) -> None:
    """Measure the fraud worker with all detectors against D01 alone in a Faust windowed table."""
    from lab.bench.fraud import FraudBenchPlan, run

    with open_bench(may_use_given=may_use_given) as opened, ExitStack() as on_exit:
        own, peer, live = (
            on_exit.enter_context(bench_namespace(opened.servers, f"{opened.name}{suffix}"))
            for suffix in ("", "_peer", "_live")
        )
        plan = FraudBenchPlan(
            own.broker,
            _fraud_worker("fraud worker", own, opened.folder / "fraud.log"),
            partial(_faust_velocity, peer, opened.folder, step_s),
            _fraud_worker("fraud worker, live", live, opened.folder / "live.log"),
            pairs,
            events,
            opened.origin,
        )
        figures = asyncio.run(run(plan, opened.progress))
    print_figures(
        "fraud: all detectors of the worker over the log",
        figures,
        as_json=as_json,
        save_as="fraud" if is_saved else None,
    )


def _fraud_worker(name: str, runtime: Runtime, log: Path) -> FraudSubject:
    environment = {**worker_environment(runtime), "PITBOSS_LOG_LEVEL": "WARNING"}
    command = ProcessCommand(with_lifeline("pitboss.workers", "fraud"), environment, log)
    source, alerts = runtime.topic(TRANSACTIONS), runtime.topic(ALERTS)
    return FraudSubject(
        name,
        command,
        runtime.group("fraud.detect"),
        source,
        alerts,
        runtime.topic(PLAYER_EVENTS),
        runtime.database_url,
    )


def _faust_velocity(runtime: Runtime, folder: Path, step_s: float, run: str) -> FraudSubject:
    group = runtime.group(f"faust_velocity-{run}")
    source, alerts = runtime.topic(TRANSACTIONS), runtime.topic(ALERTS)
    settings = FaustVelocitySettings(
        runtime.broker,
        group,
        source,
        alerts,
        PARTITIONS,
        step_s,
        str(folder / f"velocity-{run}"),
    )
    module = "lab.bench.peers.faust_velocity"
    arguments = with_lifeline(module, msgspec.json.encode(settings).decode())
    command = ProcessCommand(arguments, worker_environment(runtime), folder / f"velocity-{run}.log")
    return FraudSubject("Faust table", command, group, source, alerts)


@bench.command("ledger")
@pairs_option
@click.option(
    "--events",
    default=LEDGER_EVENTS,
    show_default=True,
    type=click.IntRange(10_000),
    help="Of each run.",
)
@click.option(
    "--rows",
    default=FULL_ROWS,
    show_default=True,
    type=click.IntRange(0),
    help="Compare with a ledger that holds so many rows already: as it is, some 5 minutes and 6 GB;"
    " 0 leaves it out.",
)
@json_option
@save_option
@servers_option
def ledger_command(
    pairs: int, events: int, rows: int, as_json: bool, is_saved: bool, may_use_given: bool
) -> None:
    """Measure the ledger up to COMMIT against PostgreSQL's COPY of the same rows."""
    from lab.bench.ledger import run

    with open_bench(may_use_given=may_use_given) as opened, ExitStack() as on_exit:
        servers, name = opened.servers, opened.name
        url = on_exit.enter_context(_ledger_database(servers, name))
        filled = (
            on_exit.enter_context(_ledger_database(servers, f"{name}_filled")) if rows else None
        )
        short = on_exit.enter_context(_ledger_database(servers, f"{name}_short")) if rows else None
        plan = LedgerBenchPlan(url, filled, short, rows, pairs, events, opened.origin)
        figures = asyncio.run(run(plan, opened.progress))
    print_figures(
        "ledger: encoded events to committed transfers",
        figures,
        as_json=as_json,
        save_as="ledger" if is_saved else None,
    )


@contextmanager
def _ledger_database(servers: Runtime, name: str) -> Iterator[str]:
    """Make an unused database with the ledger's tables; drop it afterwards."""
    runtime = runtime_of(servers.broker, servers.database_url, name)
    try:
        create_database(runtime)
        migrate(runtime.database_url)
        yield runtime.database_url
    finally:
        drop_database(runtime)


def _plan(
    opened: BenchRun, runtimes: Sequence[Runtime], pairs: int, events: int
) -> NormaliseBenchPlan:
    own, signed, peer = runtimes
    folder = opened.folder
    keys = SandboxKeys.generate()
    keyring = folder / "keys.json"
    keyring.touch(mode=0o600)
    keyring.write_text(json.dumps({"hub88": keys.keyring()["hub88"]}), encoding="utf-8")
    return NormaliseBenchPlan(
        broker=own.broker,
        ours=_our_worker("normaliser", own, folder / "normalise.log", None),
        signed=_our_worker(
            "normaliser checking signatures", signed, folder / "signed.log", keyring
        ),
        peer=_plain_faust(peer, folder),
        records=hub88_records(keys, each_signed=False),
        signed_records=hub88_records(keys, each_signed=True),
        pairs=pairs,
        events=events,
        partitions=PARTITIONS,
        servers_origin=opened.origin,
    )


def _our_worker(name: str, runtime: Runtime, log: Path, keyring: Path | None) -> MeasuredSubject:
    # An empty name in PITBOSS_KEYS_FILE also hides the one that the operator may have set.
    environment = {
        **worker_environment(runtime),
        "PITBOSS_KEYS_FILE": str(keyring or ""),
        "PITBOSS_LOG_LEVEL": "WARNING",
    }
    command = ProcessCommand(with_lifeline("pitboss.workers", "normalise"), environment, log)
    source, sink = runtime.topic(raw_topic("hub88")), runtime.topic(TRANSACTIONS)
    return MeasuredSubject(name, command, runtime.group("normalise"), source, sink)


def _other_peer(opened: BenchRun, runtime: Runtime, key: str) -> MeasuredSubject:
    """Return the command of a peer, in an environment of its own if it needs one."""
    peer, packages = _PEER_PACKAGES[key]
    python, environment = sys.executable, worker_environment(runtime)
    if packages:
        cache = opened.settings.home / PEERS_FOLDER
        python = str(build_peer(peer, packages, cache, opened.progress.begin))
        environment = RevisionBuild.environment(environment)
    group = runtime.group(f"peer_{peer}")
    source, sink = runtime.topic(raw_topic("hub88")), runtime.topic(TRANSACTIONS)
    settings = {
        "peer": peer,
        "broker": runtime.broker,
        "group": group,
        "source": source,
        "sink": sink,
    }
    module = "lab.bench.peers.normalise_peers"
    arguments = (python, "-m", LIFELINE, module, msgspec.json.encode(settings).decode())
    command = ProcessCommand(arguments, environment, opened.folder / f"{peer}.log")
    return MeasuredSubject(OTHER_PEERS[key], command, group, source, sink)


def _plain_faust(runtime: Runtime, folder: Path) -> MeasuredSubject:
    group = runtime.group("plain_faust")
    source, sink = runtime.topic(raw_topic("hub88")), runtime.topic(TRANSACTIONS)
    settings = PlainFaustSettings(
        runtime.broker, group, source, sink, PARTITIONS, str(folder / "faust")
    )
    arguments = with_lifeline("lab.bench.plain_faust", msgspec.json.encode(settings).decode())
    command = ProcessCommand(arguments, worker_environment(runtime), folder / "plain-faust.log")
    return MeasuredSubject("plain Faust", command, group, source, sink)
