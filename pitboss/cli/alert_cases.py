"""`pitboss alerts assign` and `close`: who works on an alert, and what they found."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click
import msgspec
from psycopg import AsyncConnection

from fraud_agents.casework import CaseAction, CaseActionKind, Verdict, actions_of, add_action
from ledger_sink.store.database import LedgerDatabase
from pitboss.cli.suggestions import NameChoice
from pitboss.settings import Runtime
from runtime.postgres.roles import Role
from schemas.errors import UsageError

T = TypeVar("T")

assignee_option = click.option("--assignee", required=True, help="The person to work on it.")
verdict_option = click.option(
    "--verdict",
    required=True,
    type=NameChoice([verdict.value for verdict in Verdict]),
    help="What it was; the precision of a rule is counted from these.",
)


def read_actions(runtime: Runtime, alert_id: str) -> list[CaseAction]:
    """Return what was done about an alert. Raises Unavailable, UsageError without tables."""
    return _run(runtime, Role.READER, lambda connection: actions_of(connection, alert_id))


def record_action(
    runtime: Runtime, alert_id: str, action: CaseAction, *, dry_run: bool, as_json: bool
) -> None:
    """Record an action and print it. Raises UsageError without a name or a reason."""
    if not all(text.strip() for text in (action.value, action.actor, action.reason)):
        raise UsageError("an action on an alert carries a person's name and a reason")
    if not dry_run:
        _run(runtime, Role.WRITER, lambda connection: add_action(connection, alert_id, action))
    if as_json:
        fields = {"alert_id": alert_id, "dry_run": dry_run, **msgspec.to_builtins(action)}
        click.echo(msgspec.json.encode(fields))
        return
    click.echo(f"{'would be: ' if dry_run else ''}{alert_id} {action}")


def assign_action(assignee: str, actor: str, reason: str) -> CaseAction:
    """Make the action that gives an alert to a person."""
    return CaseAction(CaseActionKind.ASSIGNED.value, assignee, actor, reason)


def close_action(verdict: str, actor: str, reason: str) -> CaseAction:
    """Make the action that closes an alert's case."""
    return CaseAction(CaseActionKind.CLOSED.value, verdict, actor, reason)


def _run(runtime: Runtime, role: Role, work: Callable[[AsyncConnection[Any]], Awaitable[T]]) -> T:
    async def run() -> T:
        database = LedgerDatabase(runtime.database_url, "pitboss.alerts", role=role)
        try:
            async with database.transaction() as connection:
                return await work(connection)
        finally:
            await database.close()

    return asyncio.run(run())
