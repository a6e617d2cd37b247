"""`pitboss run`: the workers, supervised."""

from __future__ import annotations

import signal
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import click

from pitboss.cli.progress import show_waiting
from pitboss.cli.suggestions import PROVIDER, NameChoice
from pitboss.embedded.keeper import StackKeeper
from pitboss.embedded.stack import Stack
from pitboss.embedded.state import resolve_runtime
from pitboss.gateway_settings import read_gateway_settings
from pitboss.ops.archive_settings import check_target, read_archive_settings
from pitboss.ops.pauses import list_pauses
from pitboss.ops.provision import provision
from pitboss.ops.raw_topics import read_stored
from pitboss.ops.shared_settings import collect
from pitboss.provider_settings import ALL_PROVIDERS
from pitboss.settings import (
    Runtime,
    StackSettings,
    WorkerSettings,
    read_settings,
    read_worker_settings,
)
from pitboss.telemetry_settings import read_telemetry_settings
from pitboss.workers import ALL_ROLES, ARCHIVE, GATEWAY, ONE_PROCESS, READS_KEYS
from pitboss.workers.checks import check_unsigned, check_worker_settings, format_unchecked
from pitboss.workers.restarts import note_restart
from pitboss.workers.role_locks import hold_roles
from pitboss.workers.supervisor import Supervisor, workers_for
from schemas.errors import UsageError


@click.command()
@click.argument("role", type=NameChoice([*ALL_ROLES, "all"]))
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes of each role; gateway and archive have one.",
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
    "--unsigned",
    "unsigned",
    multiple=True,
    type=PROVIDER,
    help="Book records of this one though it has no key; may be repeated. Adds to "
    "PITBOSS_UNSIGNED.",
)
@click.pass_context
def run(
    context: click.Context,
    role: str,
    workers: int,
    providers: tuple[str, ...],
    unsigned: tuple[str, ...],
) -> None:
    """Run workers and restart them when they end.

    Missing parts of the database, its tables and the topics are created first. SIGTERM or Ctrl-C
    drains the workers: records in progress are finished and committed. A worker that ends with a
    usage error, which a restart would meet again, drains the others and ends the command with that
    error and exit code 2. A role runs once in a home, unless each has its own PITBOSS_WORKER_ID.
    An embedded server that has ended, as Kafka does on a full disk, is started again once there is
    space; one that `pitboss down` has stopped is not.

    The role archive needs PITBOSS_ARCHIVE, and `all` has it where that is set.

    `all` has a gateway where PITBOSS_GATEWAY_PORT is set. There is one gateway process: a
    transaction that is sent again must meet its first attempt.
    """
    settings, worker = read_settings(), read_worker_settings()
    roles = _roles_of(role, workers)
    telemetry = read_telemetry_settings()
    if unsigned:
        worker = replace(worker, unsigned=(worker.unsigned or frozenset()) | set(unsigned))
    if not READS_KEYS.isdisjoint(roles):
        check_worker_settings(worker)
    runtime = resolve_runtime(settings)
    booked: list[str] = []
    if "normalise" in roles:
        read = _read_providers(runtime, worker, providers)
        booked = check_unsigned(worker, read, are_ours=not settings.uses_given_servers)
        if sentence := format_unchecked(booked):
            _report(sentence)
    locks = hold_roles(
        settings.home,
        runtime.namespace,
        roles,
        workers=workers,
        worker_id=worker.worker_id,
        keys_file=worker.keys_file,
        unsigned=booked,
        telemetry_port=telemetry.port,
    )
    with locks, _keeping_servers(settings):
        supervisor = _supervise(runtime, settings, worker, roles, workers, providers)
    if supervisor.usage_error is not None:
        click.echo(f"error: {supervisor.usage_error}", err=True)
        context.exit(UsageError.exit_code)


def _roles_of(role: str, workers: int) -> tuple[str, ...]:
    """Return the roles to run. Raises UsageError for one that lacks its setting."""
    if role in ONE_PROCESS and workers > 1:
        raise UsageError(f"the role {role} has one process: leave --workers out")
    archive = read_archive_settings()
    if role == ARCHIVE:
        check_target(archive.target)
    if role != "all":
        return (role,)
    left_out = {
        *([GATEWAY] if read_gateway_settings().port is None else []),
        *([] if archive.target else [ARCHIVE]),
    }
    return tuple(each for each in ALL_ROLES if each not in left_out)


def _read_providers(
    runtime: Runtime, worker: WorkerSettings, providers: Collection[str]
) -> Collection[str] | None:
    """Return the providers whose raw topics are read, as named or stored; None: all."""
    named = providers or worker.providers
    if named:
        return None if ALL_PROVIDERS in named else named
    stored = read_stored(runtime)
    return None if stored is None else stored.providers


def _keeping_servers(settings: StackSettings) -> AbstractContextManager[object]:
    if settings.uses_given_servers:
        return nullcontext()
    return StackKeeper(Stack.open(settings), _report)


def _supervise(
    runtime: Runtime,
    settings: StackSettings,
    worker: WorkerSettings,
    roles: Sequence[str],
    workers: int,
    providers: Collection[str],
) -> Supervisor:
    """Provision, and run the workers until a signal or a usage error ends them."""
    with show_waiting("provisioning") as progress:
        provision(
            runtime,
            providers=providers or worker.providers,
            raw_partitions=worker.raw_partitions,
            may_change=False,
            shared=collect(worker),
            report=progress.report,
        )
    for pause in list_pauses(runtime):
        if pause.component in roles:
            _report(f"{pause.component} is {pause}; `pitboss resume {pause.component}` ends that")
    processes = workers_for(
        [role for role in roles if role not in ONE_PROCESS],
        runtime,
        home=settings.home,
        each=workers,
        log_prefix=worker.worker_id,
    )
    processes += workers_for(
        [role for role in roles if role in ONE_PROCESS],
        runtime,
        home=settings.home,
        log_prefix=worker.worker_id,
    )

    def note_end(role: str, code: int | None, error: str) -> None:
        note_restart(settings.home, runtime.namespace, role, code, error)

    supervisor = Supervisor(processes, _report, note_end)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    supervisor.run()
    return supervisor


def _report(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)
