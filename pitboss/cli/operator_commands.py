"""Options and output shared by the commands that append operators' events to the log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from ledger_sink.queries.people import read_brand
from ledger_sink.rules.refusals import STALE_STATE
from ledger_sink.rules.two_people import ALREADY_CLOSED
from ledger_sink.store.database import LedgerDatabase
from pitboss.cli.ledger_queries import read_ledger
from pitboss.cli.option_types import FiniteFloat
from pitboss.embedded.state import resolve_runtime
from pitboss.ops import operator_events
from pitboss.ops.operator_events import SubmittedEvent
from pitboss.setting_files import read_keyring, read_keys_file
from pitboss.settings import StackSettings, WorkerSettings, read_settings, read_worker_settings
from pitboss.workers.role_locks import list_running
from runtime.dead_letters.headers import format_position
from runtime.postgres.database import SILENCE_MAX_S
from schemas.errors import PitbossError, Rejected, UsageError
from schemas.events import Outcome, WalletOutcome
from schemas.money import amount_from_text, format_minor, minor_units

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., None])

APPLICATION_NAME = "pitboss.cli"
ACCEPTED_OUTCOMES = frozenset(
    {Outcome.POSTED.value, Outcome.EXISTS.value, Outcome.INFORMATIONAL.value}
)
UNAPPLIED_REASONS = frozenset({STALE_STATE[1], ALREADY_CLOSED[1]})
"""Reasons of an accepted event that has changed nothing."""

DEFAULT_BRAND = "default"

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
by_option = click.option("--by", "actor", required=True, help="The acting person; kept in the log.")
reason_option = click.option("--reason", required=True, help="The reason; kept in the log.")
brand_option = click.option(
    "--brand",
    help="The brand of the player. Default: the one that the ledger knows, else `default`.",
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
    event: Mapping[str, Any],
    *,
    brand: str | None,
    wait_s: float,
    dry_run: bool,
    as_json: bool,
    log_partition: int | None = None,
) -> None:
    """Append an operator's event and print the ledger's outcome.

    With `log_partition` it is enough that the event has come into that partition of the log. Exit
    with 1 if the event is refused or rejected, or has changed nothing.
    """
    if dry_run:
        click.echo(
            msgspec.json.encode(event)
            if as_json
            else f"would append: {msgspec.json.encode(event).decode()}"
        )
        return
    settings, worker = read_settings(), read_worker_settings()
    runtime = resolve_runtime(settings)
    warn = operator_events.ignore_warning if _warn_of_key(settings, worker) else _print_warning
    if brand is None and (player_id := event.get("player_id")) is not None:
        brand = find_brand(str(player_id))
    found = asyncio.run(
        operator_events.submit(
            runtime,
            worker,
            event,
            brand or DEFAULT_BRAND,
            wait_s,
            warn=warn,
            log_partition=log_partition,
        )
    )
    if as_json:
        click.echo(msgspec.json.encode(_as_json(event, found)))
    else:
        click.echo(_format_answer(found, wait_s))
    if _is_applied(found) is False:
        raise SystemExit(1)


def find_brand(player_id: str) -> str | None:
    """Return a player's brand; None where no money moved, and while the ledger does not answer."""
    with suppress(PitbossError):
        return query_ledger(partial(read_brand, player_id=player_id))
    return None


def _is_applied(found: SubmittedEvent) -> bool | None:
    """Return whether the event has its effect; None without an answer."""
    outcome = found.outcome
    if found.letter is not None:
        return False
    if outcome is None:
        return None
    return outcome.outcome in ACCEPTED_OUTCOMES and outcome.reason not in UNAPPLIED_REASONS


def _warn_of_key(settings: StackSettings, worker: WorkerSettings) -> bool:
    """Warn if the normaliser of this home checks house records and this shell cannot sign them."""
    if operator_events.PROVIDER in read_keyring(worker):
        return False
    for running in list_running(settings.home, settings.namespace):
        if running.role == "normalise" and running.keys_file is not None:
            with suppress(UsageError):  # not every account may read the workers' keys
                file = Path(running.keys_file)
                if operator_events.PROVIDER in read_keys_file(file, "the workers' keys file"):
                    _print_warning(
                        f"the workers check house records by {file}, and this shell has no key for "
                        f"house, so they will reject this one: set PITBOSS_KEYS_FILE={file}"
                    )
                    return True
    return False


def _print_warning(sentence: str) -> None:
    click.echo(f"warning: {sentence}", err=True)


def _as_json(event: Mapping[str, Any], found: SubmittedEvent) -> dict[str, Any]:
    letter = found.letter
    return {
        "attempt": _place(found),
        "said": event,
        "applied": _is_applied(found),
        "outcome": found.outcome,
        "log": found.logged and format_position(found.logged),
        "dead_letter": letter and {"code": letter.code, "detail": letter.detail},
    }


def _format_answer(found: SubmittedEvent, wait_s: float) -> str:
    where, outcome, letter = _place(found), found.outcome, found.letter
    if letter is not None:
        return (
            f"REJECTED {letter.code}: {letter.detail} ({where}); it is a dead letter, so the "
            f"ledger never decides it: `pitboss dlt show {where}`"
        )
    if found.logged is not None:
        return f"in the log as {format_position(found.logged)} ({where})"
    if outcome is None:
        return (
            f"appended as {where}; no outcome within {wait_s:g} s: it comes once the workers have "
            "read it (`pitboss topics lag`), unless they reject it (`pitboss dlt list`)"
        )
    unapplied = "" if _is_applied(found) else "; nothing was changed"
    return f"{outcome.outcome} {outcome.reason}{_balance(outcome)} ({where}){unapplied}"


def _place(found: SubmittedEvent) -> str:
    at = found.attempt
    return f"{at.topic}-{at.partition}@{at.offset}"


def _balance(outcome: WalletOutcome) -> str:
    if outcome.balance_minor is None or outcome.scale is None:
        return ""
    return f", available {format_minor(outcome.balance_minor, outcome.scale)} {outcome.currency}"


def format_time(epoch_ms: int) -> str:
    """Format epoch ms as a UTC time, to the second."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
