"""`pitboss up`, `down`, `status` and `doctor`: the servers on this machine."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from msgspec import to_builtins

from pitboss.embedded.stack import ServerStatus, Stack
from pitboss.embedded.state import NoStack, resolve_runtime
from pitboss.settings import (
    StackSettings,
    read_settings,
    read_worker_settings,
    without_password,
)
from schemas.errors import PitbossError, Unavailable, UsageError

if TYPE_CHECKING:  # it would load Kafka's client, which `up` and `down` do without
    from pitboss.ops.raw_topics import UnreadTopic
    from runtime.kafka.control import Pause

_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.command()
@_as_json
def up(as_json: bool) -> None:
    """Start Kafka and PostgreSQL in the background.

    Both keep running after the command; a second `up` finds them, and restarts a killed one.
    """
    settings = _own_servers_only("up")
    began = time.monotonic()
    stack = Stack.open(settings)
    state = stack.up(lambda message: click.echo(message, err=True))
    if as_json:
        servers = _as_rows(stack.status())
        click.echo(
            json.dumps({"servers": servers, "home": str(settings.home), "took_s": _since(began)})
        )
        return
    click.echo(f"kafka     {state.kafka_bootstrap}  pid {state.kafka.pid}")
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
    """Show whether the servers run, and where, and which roles are paused.

    Exit code 3 if a server does not answer, 1 if a raw topic holds records and is read by nothing.
    """
    settings = read_settings()
    servers = (
        _given_servers(settings) if settings.uses_given_servers else Stack.open(settings).status()
    )
    is_ready = all(server.is_ready for server in servers)
    pauses = _pauses(settings) if servers[0].is_ready else []
    unread = _unread(settings) if is_ready else []
    if as_json:
        paused = [to_builtins(pause) for pause in pauses]
        row = {"ready": is_ready, "servers": _as_rows(servers), "paused": paused}
        click.echo(json.dumps({**row, "unread": [asdict(topic) for topic in unread]}))
    else:
        for server in servers:
            pid = f"pid {server.pid}" if server.pid else ""
            word = "answers" if server.is_ready else "is away"
            line = f"{server.name:<9} {word:<8} {server.address:<17} {pid:<12} {server.log or ''}"
            click.echo(line.rstrip())
        for pause in pauses:
            click.echo(f"{pause.component:<9} {pause}")
        for topic in unread:
            click.echo(f"error: {topic}", err=True)
        if not is_ready and not settings.uses_given_servers:
            click.echo("run `pitboss up` to start what does not run", err=True)
    context.exit(3 if not is_ready else 1 if unread else 0)


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
        ServerStatus("kafka", kafka_answers(settings.kafka), None, settings.kafka, None),
        ServerStatus(
            "postgres",
            database_answers(settings.database),
            None,
            without_password(settings.database),
            None,
        ),
    ]
