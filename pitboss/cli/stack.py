"""`pitboss up`, `down`, `status` and `doctor`: the servers on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import click
from msgspec import to_builtins

from pitboss.embedded.free_space import FreeSpace, free_space
from pitboss.embedded.stack import ServerStatus, Stack
from pitboss.embedded.state import NoStack, resolve_runtime
from pitboss.settings import (
    StackSettings,
    read_settings,
    read_worker_settings,
    without_password,
)
from pitboss.workers import ARCHIVE, ROLES
from pitboss.workers.degraded import list_degraded
from pitboss.workers.role_locks import RunningRole, list_running
from schemas.errors import PitbossError, Unavailable, UsageError

if TYPE_CHECKING:  # it would load Kafka's client, which `up` and `down` do without
    from pitboss.ops.installation import InstallationState, RoleState
    from pitboss.ops.raw_topics import UnreadTopic
    from pitboss.ops.stuck_partitions import StuckPartition
    from pitboss.ops.unbooked import OldBarrier
    from runtime.kafka.control import Pause

EMPTY_STATE: Final = dict.fromkeys(
    ("roles", "oldest_unanswered_s", "open", "unsealed_s", "never_sealed", "retiring", "notes")
)
"""Keys of `pitboss status --json` whose values are not known while a server does not answer."""

UNHELD_AFTER_S: Final = 30.0
"""Age from which records count that no worker reads: a rebalance lasts less."""

_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.command()
@click.option("--secure", is_flag=True, help="Make a new stack with TLS and logins.")
@_as_json
def up(secure: bool, as_json: bool) -> None:
    """Start Kafka and PostgreSQL in the background.

    Both keep running after the command; a second `up` finds them, and restarts a killed one. A
    stack that was made with --secure stays so; one that was made without cannot be secured.
    """
    settings = _own_servers_only("up")
    began = time.monotonic()
    stack = Stack.open(settings)
    state = stack.up(lambda message: click.echo(message, err=True), secure=secure)
    if as_json:
        servers = _as_rows(Stack.open(settings).status())  # as `up` has made it
        click.echo(
            json.dumps({"servers": servers, "home": str(settings.home), "took_s": _since(began)})
        )
        return
    click.echo(f"kafka     {state.broker}  pid {state.kafka.pid}")
    click.echo(f"postgres  {without_password(state.database_url)}  pid {state.postgres.pid}")
    click.echo(f"up in {_since(began)} s, data in {settings.home}")


@click.command()
@_as_json
def down(as_json: bool) -> None:
    """Stop both servers; the data stays."""
    settings = _own_servers_only("down")
    began = time.monotonic()
    stopped = Stack.open(settings).down(lambda message: click.echo(message, err=True))
    if as_json:
        click.echo(json.dumps({"stopped": stopped, "took_s": _since(began)}))
    else:
        click.echo(f"stopped in {_since(began)} s" if stopped else "nothing was running")


@click.command()
@_as_json
@click.pass_context
def status(context: click.Context, as_json: bool) -> None:
    """Show whether servers and workers run, and where, and which roles are paused or behind.

    Workers are those that `pitboss run` started with this home. Exit code 3 if a server does not
    answer, 1 if a worker is degraded (it ends again and again for one reason), if a partition is
    stuck at a record, if a raw topic holds records and is read by nothing, if events without a
    player have waited for long for a partition to be normalised or booked, if a partition waits for
    something else than the end of a pause, if a role that is not paused has no worker for records
    that have waited for half a minute, if the day has come on which a version of a provider with
    records retires, if the ledger has entries and nothing is sealed, or if the disk of the embedded
    servers has less space than PITBOSS_DISK_FREE_MIN_MB.

    With --json there is more of each role: the lag of each partition in records and in seconds, why
    it waits, and how often workers were started again in the last day, by how they had ended; of
    the ledger, the age of the oldest record without an answer, sums of what is open and in
    suspense, and the age of what no seal covers; and versions of providers that retire soon.
    """
    settings = read_settings()
    servers = (
        _given_servers(settings) if settings.uses_given_servers else Stack.open(settings).status()
    )
    is_ready = all(server.is_ready for server in servers)
    pauses = _pauses(settings) if servers[0].is_ready else []
    unread = _unread(settings) if is_ready else []
    stuck = _stuck(settings) if servers[0].is_ready else []
    barriers = _old_barriers(settings) if is_ready else []
    space = None if settings.uses_given_servers else free_space(settings)
    workers = list_running(settings.home, settings.namespace)
    degraded = list_degraded(settings.home, settings.namespace, workers)
    state = _installation(settings) if is_ready else None
    found = [] if state is None else list_state_troubles(state, pauses)
    unsigned = sorted({name for running in workers for name in running.unsigned})
    troubles = [*degraded, *stuck, *unread, *found, *(one.sentence for one in barriers)]
    troubles += [_full(space)] if space is not None and not space.is_enough else []
    if as_json:
        row = {
            "ready": is_ready,
            "home": str(settings.home),
            "servers": _as_rows(servers),
            "workers": [asdict(running) for running in workers],
            "degraded": [asdict(worker) for worker in degraded],
            "paused": [to_builtins(pause) for pause in pauses],
            "unread": [asdict(topic) for topic in unread],
            "stuck": [asdict(partition) for partition in stuck],
            "unsigned": unsigned,
            "old_barriers": [asdict(barrier) for barrier in barriers],
            "disk": space and asdict(space),
            **(EMPTY_STATE if state is None else state.as_json(time.time_ns() // 1_000_000)),
        }
        click.echo(json.dumps(row))
    else:
        _show_servers(settings, servers)
        _show_workers(settings, workers, pauses, state)
        if unsigned:
            names = ", ".join(unsigned)
            click.echo(f"warning: booked unchecked, without a key: {names}", err=True)
        for trouble in troubles:
            click.echo(f"error: {trouble}", err=True)
        if not is_ready and not settings.uses_given_servers:
            click.echo(_way_up(settings), err=True)
    context.exit(3 if not is_ready else 1 if troubles else 0)


def _show_servers(settings: StackSettings, servers: Sequence[ServerStatus]) -> None:
    click.echo(f"home      {settings.home}")
    for server in servers:
        pid = f"pid {server.pid}" if server.pid else ""
        is_stopped = server.pid is None and not settings.uses_given_servers
        word = "answers" if server.is_ready else "is stopped" if is_stopped else "is away"
        log = "" if is_stopped and not settings.home.exists() else server.log or ""
        line = f"{server.name:<9} {word:<10} {server.address:<17} {pid:<12} {log}"
        click.echo(line.rstrip())


def _show_workers(
    settings: StackSettings,
    workers: Sequence[RunningRole],
    pauses: Sequence[Pause],
    state: InstallationState | None,
) -> None:
    for running in workers:
        count = "1 worker" if running.workers == 1 else f"{running.workers} workers"
        name = f" as {running.worker_id}" if running.worker_id else ""
        click.echo(f"{running.role:<9} {'runs':<10} {count:<17} pid {running.pid}{name}")
    wanted = (*ROLES, ARCHIVE) if settings.values["archive"].value else ROLES
    away = [role for role in wanted if role not in {running.role for running in workers}]
    if away:
        where = " with this home" if settings.uses_given_servers else ""
        click.echo(f"no worker runs{where} of: {', '.join(away)}")
    for pause in pauses:
        click.echo(f"{pause.component:<9} {pause}")
    if state is not None and state.roles is not None:
        click.echo(f"{'lag':<9} {format_lag(state.roles)}")


def _full(space: FreeSpace) -> str:
    return (
        f"only {space}: both servers stop taking records on a full disk, and"
        f" PITBOSS_DISK_FREE_MIN_MB asks for {space.required_mb / 1024:.1f} GB"
    )


def _way_up(settings: StackSettings) -> str:
    if settings.home.exists():
        return "run `pitboss up` to start what does not run"
    return (
        f"{settings.home} does not exist: if your installation is elsewhere, go there or "
        "name its home in PITBOSS_HOME; `pitboss up` makes a new one here"
    )


@click.command()
@_as_json
@click.pass_context
def doctor(context: click.Context, as_json: bool) -> None:
    """Check this machine, the settings and the files they name; exit code 1 if a check fails.

    Shows the value of each setting with its source: a variable, a line of the file that
    PITBOSS_CONFIG names, or the default.
    """
    from pitboss.embedded.checkup import CheckupFinding, list_settings, run_checkup

    try:
        read_worker_settings()
        settings = read_settings()
    except UsageError as error:
        way_out = "correct the setting, and run `pitboss doctor` again"
        findings = [CheckupFinding("settings", is_ok=False, detail=str(error), way_out=way_out)]
        shown = []
    else:
        findings, shown = run_checkup(settings), list_settings(settings)
    is_well = all(finding.is_ok for finding in findings)
    if as_json:
        checks = [asdict(finding) for finding in findings]
        click.echo(json.dumps({"ok": is_well, "checks": checks, "settings": shown}))
        context.exit(0 if is_well else 1)
    for finding in findings:
        click.echo(f"{'OK' if finding.is_ok else 'FAIL':<5} {finding.name:<20} {finding.detail}")
        if not finding.is_ok:
            click.echo(f"{'':<26} → {finding.way_out}")
    for row in shown:
        value = f"{row['value']} {row['unit']}".rstrip()
        click.echo(f"{'':<5} {row['name']:<20} {value}  (from {row['source']})")
    context.exit(0 if is_well else 1)


def _pauses(settings: StackSettings) -> list[Pause]:
    from pitboss.ops.pauses import list_pauses

    try:
        return list_pauses(resolve_runtime(settings))
    except PitbossError:
        return []  # the broker went away meanwhile, or the stack is only half up


def _installation(settings: StackSettings) -> InstallationState | None:
    from pitboss.ops.installation import read_installation

    try:
        return read_installation(resolve_runtime(settings), settings.home)
    except PitbossError:
        return None  # as for pauses


def format_lag(roles: Sequence[RoleState]) -> str:
    """Return how far each role is behind, as one line."""
    late = []
    for role in roles:
        if role.lag_records:
            age = "" if role.lag_s is None else f" ({role.lag_s:.1f} s)"
            late.append(f"{role.role} {role.lag_records:,} records{age}")
    return ", ".join(late) or "no role is behind"


def list_waits(roles: Sequence[RoleState]) -> list[str]:
    """Return a sentence for each thing that partitions of a role wait for, but for paused roles.

    Partitions that are stuck at a record have their own sentences.
    """
    return [
        f"{role.role} waits: {reason}"
        for role in roles
        for reason in role.waits_for
        if not reason.startswith(("paused", "PARTITION_STUCK"))
    ]


def list_unheld(roles: Sequence[RoleState], paused: Collection[str]) -> list[str]:
    """Return a sentence for each role whose records pile up without a worker, but for paused ones.

    Partitions are without a worker in every rebalance, so records count from an age on.
    """
    sentences = []
    for role in roles:
        late = [
            one
            for one in role.partitions
            if one.lag_records and not one.is_held and (one.lag_s or 0) >= UNHELD_AFTER_S
        ]
        if late and role.role not in paused:
            count = sum(one.lag_records for one in late)
            oldest_s = max(one.lag_s or 0 for one in late)
            places = "1 partition" if len(late) == 1 else f"{len(late)} partitions"
            sentences.append(
                f"no worker of {role.role} reads {places}: {count:,} records wait there, the oldest"
                f" for {oldest_s:.0f} s; see docs/howto/runbooks.md#a-worker-does-not-answer"
            )
    return sentences


def list_state_troubles(state: InstallationState, pauses: Sequence[Pause]) -> list[str]:
    """Return a sentence for everything in the state of roles and ledger that needs a person."""
    roles = state.roles or ()
    found = list_waits(roles) + list_unheld(roles, {pause.component for pause in pauses})
    found += [
        f"{one['provider']} {one['version']} has retired ({one['retires_on']}) and is still"
        f" {one['state']} in the registry: see docs/tutorial/first-adapter.md"
        for one in state.retiring
        if one["days"] <= 0 and one["state"] != "retired" and one["provider"] in state.providers
    ]
    if state.never_sealed and not state.sealed:
        found.append(
            "nothing is sealed though the ledger has entries: start `pitboss ledger seal`, see"
            " docs/howto/runbooks.md#the-seals-prove-nothing-or-went-back"
        )
    return found


def _stuck(settings: StackSettings) -> list[StuckPartition]:
    from pitboss.ops.stuck_partitions import list_stuck

    try:
        return list_stuck(resolve_runtime(settings))
    except PitbossError:
        return []  # as for pauses


def _unread(settings: StackSettings) -> list[UnreadTopic]:
    from pitboss.ops.raw_topics import list_unread
    from runtime.postgres.roles import RightsMissing

    try:
        return list_unread(resolve_runtime(settings), read_worker_settings())
    except (NoStack, Unavailable):
        return []  # a server went away meanwhile
    except RightsMissing as error:
        click.echo(f"raw topics were not checked: {error}", err=True)
        return []


def _old_barriers(settings: StackSettings) -> list[OldBarrier]:
    from pitboss.ops.unbooked import list_old_barriers
    from runtime.postgres.roles import RightsMissing

    try:
        return list_old_barriers(resolve_runtime(settings))
    except (NoStack, Unavailable):
        return []  # a server went away meanwhile
    except (RightsMissing, UsageError) as error:
        click.echo(f"barriers were not checked: {error}", err=True)
        return []


def _as_rows(servers: Sequence[ServerStatus]) -> list[dict[str, Any]]:
    return [
        {**asdict(server), "log": None if server.log is None else str(server.log)}
        for server in servers
    ]


def _since(began: float) -> float:
    """Return the seconds since `began`, rounded to a tenth."""
    return round(time.monotonic() - began, 1)


def _own_servers_only(command: str) -> StackSettings:
    settings = read_settings()
    if settings.uses_given_servers:
        raise UsageError(
            "PITBOSS_KAFKA and PITBOSS_DATABASE name servers that are not ours to start or stop:"
            f" unset both for `pitboss {command}` to work on the embedded ones"
        )
    return settings


def _given_servers(settings: StackSettings) -> list[ServerStatus]:
    from pitboss.embedded.kafka import kafka_answers
    from pitboss.embedded.postgres import database_answers

    assert settings.kafka is not None
    assert settings.database is not None
    return [
        ServerStatus("kafka", kafka_answers(settings.kafka), None, settings.kafka.servers, None),
        ServerStatus(
            "postgres",
            database_answers(settings.database),
            None,
            without_password(settings.database),
            None,
        ),
    ]
