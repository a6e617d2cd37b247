"""What commands share by which a person tells the ledger something: who and why, and the ledger's
answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import msgspec

from ledger_sink.store.database import LedgerDatabase
from pitboss.cli.option_types import FiniteFloat
from pitboss.embedded.state import resolve_runtime
from pitboss.ops import operator_events as house
from pitboss.settings import read_settings, read_worker_settings
from runtime.postgres.roles import Role
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
by_option = click.option("--by", "actor", required=True, help="Who does it; kept in the log.")
reason_option = click.option("--reason", required=True, help="Why; kept in the log.")
brand_option = click.option(
    "--brand", default="default", show_default=True, help="The brand that it is done for."
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
    "--dry-run", is_flag=True, help="Say what would be written, and write nothing."
)


def operator_options(command: C) -> C:
    """The options of every command that appends to the log."""
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
    """The answer of the installation's database."""
    runtime = resolve_runtime(read_settings())

    async def ask() -> T:
        async with _database(runtime.database_url) as database:
            return await query(database)

    return asyncio.run(ask())


@asynccontextmanager
async def _database(url: str) -> Any:
    database = LedgerDatabase(url, APPLICATION_NAME, role=Role.READER)
    try:
        yield database
    finally:
        await database.close()


def parse_minor_units(amount: str, currency: str) -> int:
    """The amount in minor units. Raises UsageError for what is no exact amount of the currency."""
    try:
        return minor_units(amount_from_text(amount), currency)
    except Rejected as error:
        raise UsageError(error.detail) from error


def submit_and_print(
    said: Mapping[str, Any], *, brand: str, wait_s: float, dry_run: bool, as_json: bool
) -> None:
    """Append what a person says, print the ledger's answer, and exit with 1 if it refuses."""
    if dry_run:
        click.echo(
            msgspec.json.encode(said)
            if as_json
            else f"would append: {msgspec.json.encode(said).decode()}"
        )
        return
    runtime, worker = resolve_runtime(read_settings()), read_worker_settings()
    attempt, outcome = asyncio.run(house.submit(runtime, worker, said, brand, wait_s))
    where = f"{attempt.topic}-{attempt.partition}@{attempt.offset}"
    if as_json:
        click.echo(msgspec.json.encode({"attempt": where, "said": said, "outcome": outcome}))
    elif outcome is None:
        click.echo(
            f"appended as {where}; the ledger has not answered within {wait_s:g} s, and will"
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
    """A time as a person reads it, UTC."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
