"""`pitboss pause` and `pitboss resume`: stop and start the reading of a role's workers."""

from __future__ import annotations

import asyncio

import click
import msgspec

from pitboss.cli.suggestions import NameChoice
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.pauses import PauseChange, change_pauses
from pitboss.settings import read_settings
from pitboss.workers import ROLES
from runtime.kafka.control import ControlCommand
from schemas.errors import UsageError

_role = click.argument("role", type=NameChoice([*ROLES, "all"]))
_dry_run = click.option(
    "--dry-run", is_flag=True, help="Print what would change, and write nothing."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object.")


@click.command()
@_role
@click.option("--by", "actor", required=True, help="The acting person; kept with the pause.")
@click.option("--reason", required=True, help="The reason; kept with the pause.")
@_dry_run
@_as_json
def pause(role: str, actor: str, reason: str, dry_run: bool, as_json: bool) -> None:
    """Pause the workers of a role: they take no records until `pitboss resume`.

    Running workers finish what they have read and keep their partitions; workers that start later
    are paused, too. What they would have read stays in its topic.
    """
    for name, text in (("--by", actor), ("--reason", reason)):
        if not text.strip():
            raise UsageError(f"{name} is empty: give a text that the next person understands")
    _change(ControlCommand.PAUSE, role, actor, reason, dry_run=dry_run, as_json=as_json)


@click.command()
@_role
@click.option("--by", "actor", default="", help="The acting person; kept in the topic.")
@click.option("--reason", default="", help="The reason; kept in the topic.")
@_dry_run
@_as_json
def resume(role: str, actor: str, reason: str, dry_run: bool, as_json: bool) -> None:
    """Resume the workers of a role: they continue where they stopped."""
    _change(ControlCommand.RESUME, role, actor, reason, dry_run=dry_run, as_json=as_json)


def _change(
    command: ControlCommand, role: str, actor: str, reason: str, *, dry_run: bool, as_json: bool
) -> None:
    roles = ROLES if role == "all" else (role,)
    changes = asyncio.run(
        change_pauses(
            resolve_runtime(read_settings()),
            command,
            roles,
            actor=actor,
            reason=reason,
            dry_run=dry_run,
        )
    )
    if as_json:
        rows = [
            {"role": one.role, "changed": one.message is not None, "pause": one.pause}
            for one in changes
        ]
        click.echo(msgspec.json.encode({"dry_run": dry_run, "command": command, "roles": rows}))
        return
    for change in changes:
        click.echo(_line(change, dry_run=dry_run))


def _line(change: PauseChange, *, dry_run: bool) -> str:
    if change.message is None:
        state = "is not paused" if change.pause is None else f"is already {change.pause}"
        return f"{change.role} {state}; nothing is written"
    if dry_run:
        return f"would append: {msgspec.json.encode(change.message).decode()}"
    return f"{change.role} is {'resumed' if change.pause is None else change.pause}"
