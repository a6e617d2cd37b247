"""`pitboss ledger history | round`: the ledger's rows, as tables, CSV or JSON."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Final

import click
import msgspec

from ledger_sink.queries import history
from ledger_sink.rules.accounts import purse_of
from ledger_sink.store.database import LedgerDatabase
from pitboss.cli import screen
from pitboss.cli.ledger_queries import (
    UnknownPlayer,
    format_moment,
    format_money,
    format_place,
    json_option,
    print_json,
    read_ledger,
    show_rows,
)
from pitboss.cli.ledger_refusals import print_refusals
from pitboss.cli.option_types import period_options
from pitboss.cli.suggestions import CURRENCY, STORED_PROVIDER, NameChoice
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.periods import check_period, format_time
from pitboss.settings import Runtime, read_settings
from schemas.errors import UsageError
from schemas.events import Kind
from schemas.money import exponent_of, format_minor

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 100_000
_FIELDS: Final = tuple(field.encode_name for field in msgspec.structs.fields(history.Movement))


_MOVEMENT_COLUMNS: Final = (
    "version",
    "time (UTC)",
    "event",
    "provider",
    "transaction",
    "moved",
    "cash",
    "bonus",
    "held",
    "booked from",
)


def _movement_row(runtime: Runtime, movement: history.Movement, scale: int) -> list[str]:
    afterwards = (movement.cash_minor, movement.bonus_minor, movement.held_minor)
    return [
        str(movement.version),
        format_moment(movement.occurred_at),
        f"{movement.kind} {movement.reason}",
        movement.provider,
        f"{movement.operation} {movement.provider_tx_id}",
        _format_movement(movement.debit, movement.credit, movement.amount_minor, scale),
        *[format_minor(after, scale) for after in afterwards],
        format_place(runtime, movement),
    ]


@click.command("history")
@click.argument("player")
@click.option(
    "--currency", type=CURRENCY, help="Only this wallet; needed where the player has several."
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=NameChoice([kind.value for kind in Kind], case_sensitive=False),
    metavar="KIND",
    help="Only movements by events of this kind, as in BET; may be repeated.",
)
@period_options()
@click.option(
    "--limit",
    type=click.IntRange(1, LIMIT_MAX),
    help=f"How many, newest first. Default: {LIMIT_DEFAULT}, or {LIMIT_MAX} with --since.",
)
@click.option(
    "--before-version",
    type=click.IntRange(1),
    help="Only what came before this version: the next page.",
)
@click.option(
    "--refused",
    "is_refused",
    is_flag=True,
    help="What the ledger refused instead, with the reason; reads all entries.",
)
@click.option(
    "--format",
    "form",
    type=NameChoice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="CSV has a header, and the time in RFC 3339 before JSON's fields.",
)
@json_option
def history_command(
    *,
    player: str,
    currency: str | None,
    since_ms: int | None,
    until_ms: int | None,
    limit: int | None,
    before_version: int | None,
    is_refused: bool,
    form: str,
    as_json: bool,
    kinds: tuple[str, ...],
) -> None:
    """List a wallet's movements, newest first, with the balances after each and its source.

    A refused event moves nothing: --refused lists those, with the amounts that the log still has.
    Exit code 1 if the ledger has no wallet of the player.
    """
    form = _form(form, as_json=as_json)
    check_period(since_ms, until_ms)
    count = limit or (LIMIT_DEFAULT if since_ms is None else LIMIT_MAX)
    runtime = resolve_runtime(read_settings())
    if is_refused:
        if before_version is not None:
            raise UsageError("--before-version is of a wallet's movements: use --until")
        period = {"since_ms": since_ms, "until_ms": until_ms}
        print_refusals(runtime, player, count, form, currency=currency, kinds=kinds, **period)
        return

    async def read(database: LedgerDatabase) -> tuple[str, list[history.Movement]]:
        chosen = currency or await _only_currency(database, player)
        return chosen, await history.movements(
            database,
            player,
            chosen,
            before_version=before_version or history.LAST_VERSION,
            since_ms=since_ms,
            until_ms=until_ms,
            kinds=kinds,
            count=count + 1,
        )

    chosen, found = read_ledger(runtime, read)
    shown = found[:count]
    _print_movements(runtime, player, chosen, shown, form)
    if len(found) > count:
        click.echo(
            f"older movements are left out: add --before-version {shown[-1].version}", err=True
        )


def _form(form: str, *, as_json: bool) -> str:
    if as_json and form == "csv":
        raise UsageError("--json and --format csv exclude each other")
    return "json" if as_json else form


def _print_movements(
    runtime: Runtime, player: str, currency: str, found: Sequence[history.Movement], form: str
) -> None:
    scale = exponent_of(currency)
    rows = [
        {"currency": currency, "scale": scale, **msgspec.to_builtins(movement)}
        for movement in found
    ]
    if form == "json":
        print_json(rows)
    elif form == "csv":
        names = ("time", "player_id", "currency", "scale", *_FIELDS)
        writer = csv.DictWriter(click.get_text_stream("stdout"), names, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            time = format_time(row["occurred_at"])
            writer.writerow({"time": time, "player_id": player, **row})
    else:
        table = screen.table(*_MOVEMENT_COLUMNS, whole=("transaction",), box=None)
        for movement in found:
            table.add_row(*_movement_row(runtime, movement, scale))
        show_rows(table, f"no movements of {player}:{currency}", found, as_numbers=(0, 6, 7, 8))


@click.command("round")
@click.argument("round_id")
@click.option(
    "--provider",
    type=STORED_PROVIDER,
    help="Only of this provider: two may use one round id.",
)
@click.option(
    "--player",
    help="Only this player's movements: read by key, without it every entry is read.",
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=1_000, show_default=True)
@json_option
def round_command(
    *, round_id: str, provider: str | None, player: str | None, limit: int, as_json: bool
) -> None:
    """List the events of a round and their outcomes."""

    async def read(database: LedgerDatabase) -> list[history.RoundEvent]:
        return await history.round_events(
            database, round_id, provider=provider, player_id=player, count=limit
        )

    runtime = resolve_runtime(read_settings())
    found = read_ledger(runtime, read)
    if as_json:
        print_json([msgspec.to_builtins(event) for event in found])
        return
    columns = (
        "time (UTC)",
        "player",
        "event",
        "transaction",
        "outcome",
        "since",
        "available",
        "booked from",
    )
    table = screen.table(*columns, whole=("transaction",), box=None)
    for event in found:
        money = event.currency is not None and event.available_minor is not None
        table.add_row(
            format_moment(event.occurred_at),
            event.player_id or "",
            event.kind + (", round ends" if event.round_closed else ""),
            f"{event.provider} {event.operation} {event.provider_tx_id}",
            f"{event.outcome} {event.reason}",
            event.closed or "",
            format_money(event.available_minor or 0, event.currency or "") if money else "",
            format_place(runtime, event),
        )
    show_rows(table, f"no event names the round {round_id}", found)


async def _only_currency(database: LedgerDatabase, player: str) -> str:
    currencies = [wallet.currency for wallet in await history.current_wallets(database, player)]
    if not currencies:
        raise UnknownPlayer(player)
    if len(currencies) > 1:
        raise UsageError(
            f"{player!r} has wallets in {', '.join(currencies)}: choose one with --currency"
        )
    return currencies[0]


def _format_movement(debit: str, credit: str, amount_minor: int, scale: int) -> str:
    took, gave = purse_of(debit), purse_of(credit)
    if took and gave:
        return f"{format_minor(amount_minor, scale)} {took} to {gave}"
    return f"{format_minor(amount_minor if gave else -amount_minor, scale)} {gave or took}"
