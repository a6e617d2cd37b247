"""What every `pitboss bench` command needs: servers, a namespace of its own, output."""

from __future__ import annotations

import json
import logging
import secrets
import shutil
import sys
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import click
import psycopg

import lab.bench
from lab.bench.report import BenchEnvironment, FigureRow, format_table
from lab.bench.server_cpu import ServerPids
from ledger_sink.store.statements import statements
from pitboss.cli.interrupts import unwind_on_termination
from pitboss.cli.progress import StepProgress
from pitboss.embedded.stack import Stack
from pitboss.embedded.state import read_state, resolve_runtime
from pitboss.ops.provision import deprovision, provision
from pitboss.settings import Runtime, StackSettings, read_settings, runtime_of
from schemas.errors import UsageError
from schemas.money import EXPONENTS

PARTITIONS = 8
"""Of every topic of a measurement: as many as the trials had that the targets were drawn from."""

SECURED_HOME: Final = "secure"
"""Home of the stack with TLS, below that of the other; `make demo SECURE=1` uses it, too."""

RESULTS = Path(lab.bench.__file__).parent / "results"

_UNLIMITED: Final = 10**15


def lift_operator_limits(database_url: str) -> None:
    """Let one operator give every player of a measurement money to bet with.

    A casino's limit is set by two people through the log. A measurement's wallets are opened before
    any worker runs, and its database is removed afterwards.
    """
    currencies = sorted(EXPONENTS)
    limits = {
        "currencies": currencies,
        "amounts": [_UNLIMITED] * len(currencies),
        "event_ids": [str(uuid.UUID(int=0))] * len(currencies),
    }
    with psycopg.connect(database_url) as connection:
        connection.execute(statements("ledger")["upsert_limits"], limits)


pairs_option = click.option(
    "--pairs",
    default=5,
    show_default=True,
    type=click.IntRange(1, 100),
    help="Runs of each side, in turns.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
save_option = click.option(
    "--save",
    "is_saved",
    is_flag=True,
    help="Also write the JSON to lab/bench/results/, named by bench and commit.",
)
servers_option = click.option(
    "--yes-use-these-servers",
    "may_use_given",
    is_flag=True,
    help="Load servers that the environment names.",
)


class BenchFigures(Protocol):
    """Figures of a bench, as it prints them."""

    @property
    def environment(self) -> BenchEnvironment:
        """Machine, commit and servers."""
        ...

    def as_json(self) -> Any:
        """Return what `--json` prints."""
        ...

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        ...


@dataclass(frozen=True)
class BenchRun:
    """Servers, a name that no other run has, and a folder that goes with the run."""

    settings: StackSettings
    servers: Runtime
    name: str
    folder: Path
    progress: StepProgress

    @property
    def origin(self) -> str:
        """Where the servers are from, as the figures say it."""
        given = self.settings.uses_given_servers
        return "named in the environment" if given else "embedded stack"

    @property
    def server_pids(self) -> ServerPids:
        """The processes of the embedded servers; those of named ones are not known."""
        state = None if self.settings.uses_given_servers else read_state(self.settings.home)
        if state is None:
            return ServerPids()
        front = Stack.open(self.settings).postgres.front()
        return ServerPids(state.kafka.pid, state.postgres.pid, None if front is None else front.pid)


@contextmanager
def open_bench(*, may_use_given: bool) -> Iterator[BenchRun]:
    """Find or start the servers for one run; leave them, and the disk, as they were."""
    settings = read_settings()
    if settings.uses_given_servers and not may_use_given:
        raise UsageError(
            "PITBOSS_KAFKA names a server that is not ours: add --yes-use-these-servers to load it"
        )
    # Clients log warnings about a broker that has just started; their retries overcome them.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    name = f"bench_{secrets.token_hex(4)}"
    folder = settings.home / name
    with StepProgress() as progress, _servers(settings, progress) as servers:
        try:
            folder.mkdir(parents=True)
            yield BenchRun(settings, servers, name, folder, progress)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def open_secured(opened: BenchRun) -> Iterator[BenchRun]:
    """Find or start a stack with TLS and logins beside the run's own, in a home of its own.

    Raises UsageError where the servers of the run are not a stack without TLS.
    """
    settings = opened.settings
    if settings.uses_given_servers:
        raise UsageError("--secure makes a stack of its own: leave PITBOSS_KAFKA unset")
    if Stack.open(settings).is_secured:
        raise UsageError(
            f"--secure compares with plain text, and the stack in {settings.home} has TLS: name"
            " another home in PITBOSS_HOME"
        )
    secured = replace(settings, home=settings.home / SECURED_HOME)
    folder = opened.folder / SECURED_HOME
    folder.mkdir()
    with _servers(secured, opened.progress, secure=True) as servers:
        yield replace(opened, settings=secured, servers=servers, folder=folder)


def print_figures(
    title: str, figures: BenchFigures, *, as_json: bool, save_as: str | None = None
) -> None:
    """Print figures as one line of JSON or as a table; `save_as` names the bench in the results."""
    if save_as is not None:
        file = result_file(save_as, figures.environment.commit)
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(figures.as_json(), indent=1) + "\n", encoding="utf-8")
    if as_json:
        click.echo(json.dumps(figures.as_json()))
    else:
        click.echo(format_table(title, figures.rows(), figures.environment))


def result_file(bench: str, commit: str | None) -> Path:
    """Return the file of a result in this checkout."""
    return RESULTS / f"{bench}-{commit or 'unknown'}.json"


def with_lifeline(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command of a module that ends when this process does."""
    return (sys.executable, "-m", "pitboss.workers.lifeline", module, *arguments)


@contextmanager
def _servers(
    settings: StackSettings, progress: StepProgress, *, secure: bool = False
) -> Iterator[Runtime]:
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
            stack.up(progress.begin, secure=secure)
            yield stack.runtime()
        finally:
            if not was_running:
                progress.begin("stopping Kafka and PostgreSQL, as they were")
                stack.down()


@contextmanager
def bench_namespace(
    servers: Runtime,
    name: str,
    *,
    partitions: int | None = PARTITIONS,
    providers: Collection[str] | None = ("hub88", "house"),
) -> Iterator[Runtime]:
    """Make an unused namespace with its topics; remove it afterwards.

    None means what a new installation gets.
    """
    runtime = runtime_of(servers.broker, servers.database_url, name)
    try:
        if partitions is None:
            provision(runtime, providers=providers)
        else:
            provision(
                runtime, partitions=partitions, raw_partitions=partitions, providers=providers
            )
        lift_operator_limits(runtime.database_url)
        yield runtime
    finally:
        deprovision(runtime)
