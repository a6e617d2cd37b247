"""Options and output shared by the commands that append operators' events to the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import msgspec

from ledger_sink.store.database import LedgerDatabase
from pitboss.cli.ledger_queries import read_ledger
from pitboss.cli.option_types import FiniteFloat
from pitboss.embedded.state import resolve_runtime
from pitboss.ops import operator_events
from pitboss.settings import read_settings, read_worker_settings
from runtime.postgres.database import SILENCE_MAX_S
from schemas.errors import Rejected, UsageError
from schemas.events import Outcome, WalletOutcome
from schemas.money import amount_from_text, format_minor, minor_units

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., None])

APPLICATION_NAME = "pitboss.cli"
ACCEPTED_OUTCOMES = frozenset(
    {Outcome.POSTED.value, Outcome.EXISTS.value, Outcome.INFORMATIONAL.value}
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
by_option = click.option("--by", "actor", required=True, help="The acting person; kept in the log.")
reason_option = click.option("--reason", required=True, help="The reason; kept in the log.")
brand_option = click.option(
    "--brand", default="default", show_default=True, help="The brand of the player."
)
wait_option = click.option(
    "--wait",
    "wait_s",
    default=10.0,
    show_default=True,
    type=FiniteFloat(0),
    help="Seconds to wait for the ledger.",
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Print what would be written, and write nothing."
)


def operator_options(command: C) -> C:
    """Add the options of every command that appends to the log."""
    for option in (
        json_option,
        dry_run_option,
        wait_option,
        brand_option,
        reason_option,
        by_option,
    ):
        command = option(command)
    return command


def query_ledger(query: Callable[[LedgerDatabase], Awaitable[T]]) -> T:
    """Run a query on the installation's ledger. Raises Unavailable, RightsMissing."""
    return read_ledger(
        resolve_runtime(read_settings()),
        query,
        application_name=APPLICATION_NAME,
        silence_max_s=SILENCE_MAX_S,
    )


def parse_minor_units(amount: str, currency: str) -> int:
    """Parse an amount into minor units. Raises UsageError unless it is exact in the currency."""
    try:
        return minor_units(amount_from_text(amount), currency)
    except Rejected as error:
        raise UsageError(error.detail) from error


def submit_and_print(
    event: Mapping[str, Any], *, brand: str, wait_s: float, dry_run: bool, as_json: bool
) -> None:
    """Append an operator's event, print the ledger's outcome; exit with 1 if it is refused."""
    if dry_run:
        click.echo(
            msgspec.json.encode(event)
            if as_json
            else f"would append: {msgspec.json.encode(event).decode()}"
        )
        return
    runtime, worker = resolve_runtime(read_settings()), read_worker_settings()
    attempt, outcome = asyncio.run(operator_events.submit(runtime, worker, event, brand, wait_s))
    where = f"{attempt.topic}-{attempt.partition}@{attempt.offset}"
    if as_json:
        click.echo(msgspec.json.encode({"attempt": where, "said": event, "outcome": outcome}))
    elif outcome is None:
        click.echo(
            f"appended as {where}; the ledger did not answer within {wait_s:g} s, but will later"
        )
    else:
        click.echo(f"{outcome.outcome} {outcome.reason}{_balance(outcome)} ({where})")
    if outcome is not None and outcome.outcome not in ACCEPTED_OUTCOMES:
        raise SystemExit(1)


def _balance(outcome: WalletOutcome) -> str:
    if outcome.balance_minor is None or outcome.scale is None:
        return ""
    return f", available {format_minor(outcome.balance_minor, outcome.scale)} {outcome.currency}"


def format_time(epoch_ms: int) -> str:
    """Format epoch ms as a UTC time, to the second."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
