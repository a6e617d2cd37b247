"""`pitboss ledger rounds | sweep`: open rounds, and proposals to end those that are too old."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import click
import msgspec

from ledger_sink.queries.rounds import OpenRound, overdue_action, propose_endings, read_open_rounds
from pitboss.cli import screen
from pitboss.cli.ledger_queries import show_rows
from pitboss.cli.operator_commands import (
    by_option,
    dry_run_option,
    format_time,
    json_option,
    query_ledger,
)
from pitboss.cli.option_types import DURATION, FiniteFloat
from pitboss.cli.suggestions import STORED_PROVIDER
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.operator_events import append_events
from pitboss.ops.raw_topics import read_current
from pitboss.ops.unbooked import wait_until_booked
from pitboss.settings import read_settings, read_worker_settings
from schemas.money import exponent_of, format_minor
from schemas.policies import LedgerPolicy
from schemas.topics import TRANSACTIONS
from streams.providers.registry import policies

_provider = click.option("--provider", type=STORED_PROVIDER, help="Only of this provider.")
_player = click.option("--player", "player_id", help="Only of this player.")


@click.command()
@click.option(
    "--open",
    "is_open",
    is_flag=True,
    default=True,
    help="Open rounds: always on, as only these are listed.",
)
@click.option(
    "--older-than",
    "older_than_ms",
    default="0s",
    show_default=True,
    type=DURATION,
    help="90s, 30m, 12h, 14d.",
)
@_provider
@_player
@json_option
def rounds(
    *, is_open: bool, older_than_ms: int, provider: str | None, player_id: str | None, as_json: bool
) -> None:
    """List rounds with a bet that nothing has closed, oldest first.

    Reads all entries: do not run it every minute.
    """
    del is_open
    now_ms = time.time_ns() // 1_000_000
    found = query_ledger(
        partial(
            read_open_rounds,
            until_ms=now_ms - older_than_ms,
            provider=provider,
            player_id=player_id,
        )
    )
    views = [_view(one, policies(), now_ms) for one in found]
    if as_json:
        click.echo(msgspec.json.encode(views))
        return
    _show(views)


def _view(found: OpenRound, known: Mapping[str, LedgerPolicy], now_ms: int) -> dict[str, Any]:
    first = found.bets[0]
    return {
        "brand": first.brand,
        "provider": first.provider,
        "player_id": first.player_id,
        "round_id": first.round_id,
        "game_id": first.game_id,
        "bets": [bet.provider_tx_id for bet in found.bets],
        "currency": first.currency,
        "staked_minor": found.staked_minor,
        "opened_at": found.opened_at_ms,
        "age_ms": now_ms - found.opened_at_ms,
        "action": overdue_action(found, known, now_ms),
    }


def _show(views: Sequence[Mapping[str, Any]]) -> None:
    columns = ("opened (UTC)", "age", "provider", "player", "round", "bets", "staked", "due")
    table = screen.table(*columns, whole=("round",))
    for view in views:
        currency = view["currency"]
        staked = format_minor(view["staked_minor"], exponent_of(currency)) if currency else "0"
        age_h, rest = divmod(view["age_ms"], 3_600_000)
        table.add_row(
            format_time(view["opened_at"]),
            f"{age_h} h" if age_h else f"{rest // 60_000} min",
            view["provider"],
            view["player_id"],
            view["round_id"] or "",
            str(len(view["bets"])),
            f"{staked} {currency or ''}",
            view["action"] or "",
        )
    show_rows(table, "no round is open", views)


@click.command()
@_provider
@by_option
@click.option(
    "--wait",
    "wait_s",
    default=60.0,
    show_default=True,
    type=FiniteFloat(0),
    help="Seconds to wait until what has come in is booked.",
)
@dry_run_option
@json_option
def sweep(*, provider: str | None, actor: str, wait_s: float, dry_run: bool, as_json: bool) -> None:
    """Propose an end for rounds that are open for longer than their provider's policy allows.

    Each proposal is an event of the log with the cause `sweep`; the ledger decides it like any
    other. For a daily job. Everything that is in the topics at the start is booked first: a win
    that is not booked yet would be refused behind the proposal. Exit code 69, and nothing proposed,
    while the normaliser or the ledger lags.
    """
    settings = read_settings()
    runtime, now_ms = resolve_runtime(settings), time.time_ns() // 1_000_000
    read = read_current(runtime, read_worker_settings()).providers
    asyncio.run(wait_until_booked(runtime, read, provider, timeout_s=wait_s))
    found = query_ledger(partial(read_open_rounds, until_ms=now_ms, provider=provider))
    events = propose_endings(found, policies(), now_ms, actor, runtime.topic(TRANSACTIONS))
    if not dry_run and events:
        asyncio.run(append_events(runtime.broker, runtime.topic(TRANSACTIONS), events))
    if as_json:
        rows = [
            (event.provider, event.player_id, event.round_id, event.operation, event.event_id)
            for event in events
        ]
        names = ("provider", "player_id", "round_id", "operation", "event_id")
        click.echo(msgspec.json.encode([dict(zip(names, row, strict=True)) for row in rows]))
        return
    for event in events:
        click.echo(
            f"{event.operation}  {event.provider}  {event.player_id}  {event.provider_tx_id}"
        )
    click.echo(f"{len(events)} {'would be proposed' if dry_run else 'proposed'}")


"""Commands that `pitboss ledger` adds."""
