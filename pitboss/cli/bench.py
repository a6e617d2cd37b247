"""`pitboss bench`: measurements, each with its peer in the same run.

The stack is left as it was found.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import click
import msgspec

from lab.bench.adapters import ROUNDS
from lab.bench.latency import BROKER_WARM_UP_S, WARM_UP_S, LatencyBenchPlan
from lab.bench.latency import SECONDS as LATENCY_SECONDS
from lab.bench.ledger import EVENTS as LEDGER_EVENTS
from lab.bench.ledger import FULL_ROWS, LedgerBenchPlan
from lab.bench.normalise import EVENTS, EVENTS_MIN, NormaliseBenchPlan
from lab.bench.observation import MeasuredSubject
from lab.bench.plain_faust import PlainFaustSettings
from lab.bench.processes import ProcessCommand
from lab.bench.raw_records import endless_bets, hub88_records, opening_records
from lab.bench.report import BenchEnvironment, FigureRow, format_table
from lab.sandbox.keys import SandboxKeys
from ledger_sink.store.migrate import migrate
from pitboss.cli.interrupts import unwind_on_termination
from pitboss.cli.progress import StepProgress
from pitboss.cli.suggestions import PROVIDER, SuggestingGroup
from pitboss.embedded.databases import create_database, drop_database
from pitboss.embedded.stack import Stack
from pitboss.embedded.state import read_state, resolve_runtime
from pitboss.ops.provision import deprovision, provision
from pitboss.settings import Runtime, StackSettings, read_settings, runtime_of, worker_environment
from schemas.errors import UsageError
from schemas.topics import OUTCOMES, TRANSACTIONS, raw_topic

PARTITIONS = 8
"""Of every topic of a measurement: as many as the trials had that the targets were drawn from."""

LATENCY_PLAYERS = 2_000

_pairs_option = click.option(
    "--pairs",
    default=5,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Runs of each side, in turns.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
_servers_option = click.option(
    "--yes-use-these-servers",
    "may_use_given",
    is_flag=True,
    help="Load servers that the environment names.",
)


class _Figures(Protocol):
    @property
    def environment(self) -> BenchEnvironment: ...

    def as_json(self) -> Any: ...

    def rows(self) -> list[FigureRow]: ...


@click.group(cls=SuggestingGroup)
def bench() -> None:
    """Measure Pitboss against its peers, in turns, on this machine."""


@bench.command()
@_pairs_option
@click.option(
    "--events",
    default=EVENTS,
    show_default=True,
    type=click.IntRange(EVENTS_MIN),
    help="Raw records of each of our runs; the peer gets an eighteenth, which takes it as long.",
)
@_json_option
@_servers_option
def normalise(pairs: int, events: int, as_json: bool, may_use_given: bool) -> None:
    """Measure the normalising worker against a plain Faust agent with the same mapping."""
    from lab.bench.normalise import run

    settings = read_settings()
    _refuse_given(settings, may_use_given)
    # Clients log warnings about a broker that has just started; their retries overcome them.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    name = f"bench_{secrets.token_hex(4)}"
    folder = settings.home / name
    with (
        StepProgress() as progress,
        _servers(settings, progress) as servers,
        ExitStack() as on_exit,
    ):
        on_exit.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(parents=True)
        runtimes = [
            on_exit.enter_context(_namespace(servers, f"{name}{suffix}"))
            for suffix in ("", "_signed", "_peer")
        ]
        plan = _plan(settings, runtimes, folder, pairs, events)
        figures = asyncio.run(run(plan, progress))
    _print("normalise: raw Hub88 records to wallet transactions", figures, as_json)


@bench.command()
@click.option(
    "--rounds",
    default=ROUNDS,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Measurements of each adapter.",
)
@click.option("--provider", multiple=True, type=PROVIDER, help="Only of this provider.")
@_json_option
def adapters(rounds: int, provider: tuple[str, ...], as_json: bool) -> None:
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
    _print("adapters: raw records to events, one core, CPU time", figures, as_json)


@bench.command("ledger")
@_pairs_option
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
@_json_option
@_servers_option
def ledger_command(pairs: int, events: int, rows: int, as_json: bool, may_use_given: bool) -> None:
    """Measure the ledger up to COMMIT against PostgreSQL's COPY of the same rows."""
    from lab.bench.ledger import run

    settings = read_settings()
    _refuse_given(settings, may_use_given)
    name = f"bench_{secrets.token_hex(4)}"
    with (
        StepProgress() as progress,
        _servers(settings, progress) as servers,
        ExitStack() as on_exit,
    ):
        url = on_exit.enter_context(_ledger_database(servers, name))
        filled = (
            on_exit.enter_context(_ledger_database(servers, f"{name}_filled")) if rows else None
        )
        short = on_exit.enter_context(_ledger_database(servers, f"{name}_short")) if rows else None
        plan = LedgerBenchPlan(url, filled, short, rows, pairs, events, _origin(settings))
        figures = asyncio.run(run(plan, progress))
    _print("ledger: encoded events to committed transfers", figures, as_json)


@bench.command("latency")
@click.option(
    "--rate",
    "rates",
    multiple=True,
    type=click.IntRange(1, 100_000),
    help="Events a second; may be repeated.",
)
@click.option(
    "--seconds",
    default=LATENCY_SECONDS,
    show_default=True,
    type=click.IntRange(1),
    help="At each rate.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON list on stdout, an object a rate.")
@_servers_option
def latency_command(
    rates: tuple[int, ...], seconds: int, as_json: bool, may_use_given: bool
) -> None:
    """Measure the time from a raw record's append to its outcome, at steady rates.

    It passes through real workers; the clock stops where a connector would have the outcome.
    """
    from lab.bench.latency import RATES, run

    settings = read_settings()
    _refuse_given(settings, may_use_given)
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    name = f"bench_{secrets.token_hex(4)}"
    folder = settings.home / name
    with (
        StepProgress() as progress,
        _servers(settings, progress) as servers,
        ExitStack() as on_exit,
    ):
        on_exit.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.mkdir(parents=True)
        runtime = on_exit.enter_context(_namespace(servers, name))
        plan = _latency_plan(settings, runtime, folder, rates or RATES, seconds, progress)
        figures = asyncio.run(run(plan, progress))
    _print("latency: raw append to outcome", figures, as_json)


def _print(title: str, figures: _Figures, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(figures.as_json()))
    else:
        click.echo(format_table(title, figures.rows(), figures.environment))


def _latency_plan(
    settings: StackSettings,
    runtime: Runtime,
    folder: Path,
    rates: Sequence[int],
    seconds: int,
    progress: StepProgress,
) -> LatencyBenchPlan:
    keys = SandboxKeys.generate()
    keyring = folder / "keys.json"
    keyring.write_text(json.dumps(keys.keyring()), encoding="utf-8")
    environment = {
        **worker_environment(runtime),
        "PITBOSS_KEYS_FILE": str(keyring),
        "PITBOSS_LOG_LEVEL": "WARNING",
    }
    workers = {
        role: ProcessCommand(
            _with_lifeline("pitboss.workers", role), environment, folder / f"{role}.log"
        )
        for role in ("normalise", "ledger")
    }
    progress.begin("signing bets")
    needed = round(max(rates) * BROKER_WARM_UP_S) + sum(
        round(rate * (seconds + WARM_UP_S)) for rate in rates
    )
    bets = list(islice(endless_bets(keys, LATENCY_PLAYERS), needed))
    return LatencyBenchPlan(
        bootstrap_servers=runtime.bootstrap_servers,
        workers=workers,
        opening={runtime.topic(raw_topic("house")): opening_records(keys, LATENCY_PLAYERS)},
        bets=iter(bets),
        raw=runtime.topic(raw_topic("hub88")),
        outcomes=runtime.topic(OUTCOMES),
        rates=rates,
        seconds=seconds,
        servers_origin=_origin(settings),
    )


@contextmanager
def _ledger_database(servers: Runtime, name: str) -> Iterator[str]:
    """Make an unused database with the ledger's tables; drop it afterwards."""
    runtime = runtime_of(servers.bootstrap_servers, servers.database_url, name)
    try:
        create_database(runtime)
        migrate(runtime.database_url)
        yield runtime.database_url
    finally:
        drop_database(runtime)


def _refuse_given(settings: StackSettings, may_use_given: bool) -> None:
    if settings.uses_given_servers and not may_use_given:
        raise UsageError(
            "PITBOSS_KAFKA names a server that is not ours: add --yes-use-these-servers to load it"
        )


def _origin(settings: StackSettings) -> str:
    return "named in the environment" if settings.uses_given_servers else "embedded stack"


def _plan(
    settings: StackSettings, runtimes: Sequence[Runtime], folder: Path, pairs: int, events: int
) -> NormaliseBenchPlan:
    own, signed, peer = runtimes
    keys = SandboxKeys.generate()
    keyring = folder / "keys.json"
    keyring.write_text(json.dumps({"hub88": keys.keyring()["hub88"]}), encoding="utf-8")
    return NormaliseBenchPlan(
        bootstrap_servers=own.bootstrap_servers,
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
        servers_origin=_origin(settings),
    )


def _our_worker(name: str, runtime: Runtime, log: Path, keyring: Path | None) -> MeasuredSubject:
    # An empty name in PITBOSS_KEYS_FILE also hides the one that the operator may have set.
    environment = {
        **worker_environment(runtime),
        "PITBOSS_KEYS_FILE": str(keyring or ""),
        "PITBOSS_LOG_LEVEL": "WARNING",
    }
    command = ProcessCommand(_with_lifeline("pitboss.workers", "normalise"), environment, log)
    source, sink = runtime.topic(raw_topic("hub88")), runtime.topic(TRANSACTIONS)
    return MeasuredSubject(name, command, runtime.group("normalise"), source, sink)


def _plain_faust(runtime: Runtime, folder: Path) -> MeasuredSubject:
    group = runtime.group("plain_faust")
    source, sink = runtime.topic(raw_topic("hub88")), runtime.topic(TRANSACTIONS)
    settings = PlainFaustSettings(
        runtime.bootstrap_servers, group, source, sink, PARTITIONS, str(folder / "faust")
    )
    arguments = _with_lifeline("lab.bench.plain_faust", msgspec.json.encode(settings).decode())
    command = ProcessCommand(arguments, worker_environment(runtime), folder / "plain-faust.log")
    return MeasuredSubject("plain Faust", command, group, source, sink)


def _with_lifeline(module: str, argument: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "pitboss.workers.lifeline", module, argument)


@contextmanager
def _servers(settings: StackSettings, progress: StepProgress) -> Iterator[Runtime]:
    """Yield the servers of the environment, or the embedded ones.

    The embedded ones are stopped again if they were not running.
    """
    with unwind_on_termination():
        if settings.uses_given_servers:
            yield resolve_runtime(settings)
            return
        stack = Stack.open(settings)
        state = read_state(settings.home)
        was_running = state is not None and state.is_running
        progress.begin(
            "finding Kafka and PostgreSQL" if was_running else "starting Kafka and PostgreSQL"
        )
        try:
            stack.up(progress.begin)
            yield stack.runtime()
        finally:
            if not was_running:
                progress.begin("stopping Kafka and PostgreSQL, as they were")
                stack.down()


@contextmanager
def _namespace(servers: Runtime, name: str) -> Iterator[Runtime]:
    """Make an unused namespace with its topics; remove it afterwards."""
    runtime = runtime_of(servers.bootstrap_servers, servers.database_url, name)
    try:
        provision(
            runtime,
            partitions=PARTITIONS,
            raw_partitions=PARTITIONS,
            providers=("hub88", "house"),
        )
        yield runtime
    finally:
        deprovision(runtime)
