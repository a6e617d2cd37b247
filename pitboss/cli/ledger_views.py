"""`pitboss ledger balance | history | entry | round`: the ledger's rows, as tables or JSON."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from uuid import UUID

import click
import msgspec
from rich.table import Table

from ledger_sink.queries import history
from ledger_sink.rules.accounts import purse_of
from ledger_sink.store.database import LedgerDatabase
from pitboss.cli import screen
from pitboss.cli.ledger_queries import (
    UnknownPlayer,
    json_option,
    print_json,
    read_ledger,
    show_rows,
)
from pitboss.cli.ledger_refusals import print_refusals
from pitboss.cli.option_types import Time, note_former_name, period_options
from pitboss.cli.suggestions import CURRENCY, STORED_PROVIDER, NameChoice
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.log_positions import is_place, offset_after
from pitboss.ops.periods import ACCEPTED_TIMES, check_period, format_time
from pitboss.settings import Runtime, read_settings
from schemas.errors import UsageError, suggest
from schemas.events import Kind
from schemas.identity import event_id as event_id_of
from schemas.money import exponent_of, format_minor
from schemas.topics import TRANSACTIONS

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 100_000
_FIELDS: Final = tuple(field.encode_name for field in msgspec.structs.fields(history.Movement))


class _Booked(Protocol):
    @property
    def partition(self) -> int: ...
    @property
    def source_offset(self) -> int: ...


class TimeOrPlace(Time):
    """Time, converted to epoch ms, or a place in the log, which stays a text."""

    name = "time or place"
    also_accepted = "; or a place: TOPIC-PARTITION@OFFSET"

    def convert(  # type: ignore[override]  # a place is not converted
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Return a place as it is, and convert a time."""
        if isinstance(value, str) and is_place(value):
            return value
        return super().convert(value, param, ctx)


@click.command()
@click.argument("player")
@click.option(
    "--at",
    type=TimeOrPlace(),
    help=f"A time: {ACCEPTED_TIMES}; or TOPIC-PARTITION@OFFSET, or an offset of the player's"
    " partition.",
)
@json_option
def balance(*, player: str, at: int | str | None, as_json: bool) -> None:
    """Show a player's wallets, now or when the log was booked up to a time or an offset.

    A time is that of the log: records appended by then count. The record at an offset is included.
    Exit code 1 if the ledger has no wallet of the player.
    """
    runtime = resolve_runtime(read_settings())

    async def read(database: LedgerDatabase) -> list[history.WalletAt]:
        if at is None:
            return await history.current_wallets(database, player)
        return await history.wallets_before(
            database, player, await offset_after(runtime, database, player, at)
        )

    found = read_ledger(runtime, read)
    if not found:
        raise UnknownPlayer(player, "no wallet" if at is None else "no wallet at that place")
    if as_json:
        print_json([_wallet_fields(wallet) for wallet in found])
        return
    columns = (
        "currency",
        "balance",
        "available",
        "held",
        "bonus",
        "version",
        "event",
        "booked from",
    )
    table = screen.table(*columns, whole=("event",), box=None)
    for wallet in found:
        amounts = (
            wallet.balance_minor,
            wallet.available_minor,
            wallet.held_minor,
            wallet.bonus_minor,
        )
        table.add_row(
            wallet.currency,
            *[format_minor(amount, wallet.scale) for amount in amounts],
            str(wallet.version),
            wallet.event_id,
            _place(runtime, wallet),
        )
    for index in (1, 2, 3, 4, 5):
        table.columns[index].justify = "right"
    screen.show(table)


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
        _time(movement.occurred_at),
        f"{movement.kind} {movement.reason}",
        movement.provider,
        f"{movement.operation} {movement.provider_tx_id}",
        _format_movement(movement.debit, movement.credit, movement.amount_minor, scale),
        *[format_minor(after, scale) for after in afterwards],
        _place(runtime, movement),
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


@click.command()
@click.argument("identifier", metavar="ID", required=False)
@click.option(
    "--provider", type=STORED_PROVIDER, help="ID is this provider's transaction; with --operation."
)
@click.option("--operation", help="The operation of the provider's transaction, as in bet.")
@click.option("--brand", default="default", show_default=True, help="The brand of the transaction.")
@click.option("--tx", "former_id", hidden=True)
@json_option
def entry(
    *,
    identifier: str | None,
    brand: str,
    provider: str | None,
    operation: str | None,
    former_id: str | None,
    as_json: bool,
) -> None:
    """Show every decision about an event, its transfers, what closed it, and its repeats.

    ID is an event id or, with --provider and --operation, the provider's transaction id. Exit code
    1 if the ledger does not know it.
    """
    if former_id is not None:
        note_former_name("--tx", f"an argument: {former_id}")
    event_id = _event_id(identifier or former_id, brand, provider, operation)
    runtime = resolve_runtime(read_settings())
    found = read_ledger(runtime, lambda database: history.event_history(database, event_id))
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        for table in _event_tables(runtime, found):
            screen.show(table)
    if not found.decisions:
        tx_id = identifier or former_id
        click.echo(_format_unknown(runtime, event_id, brand, provider, operation, tx_id), err=True)
        raise SystemExit(1)


def _format_unknown(
    runtime: Runtime,
    event_id: str,
    brand: str,
    provider: str | None,
    operation: str | None,
    tx_id: str | None,
) -> str:
    """Return what the ledger does not have, as it was typed, and the operations that it has."""
    if provider is None or operation is None:
        return f"the ledger has no entry {event_id}"
    known = read_ledger(runtime, lambda database: history.operations_of(database, provider))
    hint = "" if operation in known else suggest(operation, known)
    return (
        f"the ledger has no entry of {provider} {operation} {tx_id}, brand {brand} (its event id "
        f"would be {event_id}); operations of {provider} there: {', '.join(known) or 'none'}{hint}"
    )


def _event_id(
    identifier: str | None, brand: str, provider: str | None, operation: str | None
) -> str:
    """Return the id of the event that is named. Raises UsageError."""
    if identifier is None:
        raise UsageError("name an event: its id, or its transaction, --provider and --operation")
    if provider is not None and operation is not None:
        return event_id_of(brand, provider, operation, identifier)
    if provider is not None or operation is not None:
        raise UsageError("a provider's transaction needs both --provider and --operation")
    try:
        return str(UUID(identifier))
    except ValueError:
        raise UsageError(
            f"{identifier!r} is not an event id, which is a UUID: a provider's transaction needs"
            " --provider and --operation"
        ) from None


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
            _time(event.occurred_at),
            event.player_id or "",
            event.kind + (", round ends" if event.round_closed else ""),
            f"{event.provider} {event.operation} {event.provider_tx_id}",
            f"{event.outcome} {event.reason}",
            event.closed or "",
            _money(event.available_minor or 0, event.currency or "") if money else "",
            _place(runtime, event),
        )
    show_rows(table, f"no event names the round {round_id}", found)


VIEWS: tuple[click.Command, ...] = (balance, history_command, entry, round_command)


async def _only_currency(database: LedgerDatabase, player: str) -> str:
    currencies = [wallet.currency for wallet in await history.current_wallets(database, player)]
    if not currencies:
        raise UnknownPlayer(player)
    if len(currencies) > 1:
        raise UsageError(
            f"{player!r} has wallets in {', '.join(currencies)}: choose one with --currency"
        )
    return currencies[0]


def _wallet_fields(wallet: history.WalletAt) -> dict[str, Any]:
    sums = {"available_minor": wallet.available_minor, "balance_minor": wallet.balance_minor}
    return {**msgspec.to_builtins(wallet), **sums}


def _event_tables(runtime: Runtime, found: history.EventHistory) -> list[Table]:
    tables = (
        _decisions_table(runtime, found.decisions),
        _transfers_table(found.decisions),
        _closings_table(runtime, found.closed_by),
        _repeats_table(runtime, found.repeats),
    )
    return [table for table in tables if table.row_count]


def _decisions_table(runtime: Runtime, decisions: Sequence[history.EventDecision]) -> Table:
    columns = (
        "decision",
        "time (UTC)",
        "transaction",
        "player",
        "outcome",
        "available",
        "attempt",
        "booked from",
    )
    table = screen.table(*columns, whole=("transaction",), box=None)
    for one in decisions:
        known = one.currency is not None and one.available_minor is not None
        table.add_row(
            str(one.decision),
            _time(one.occurred_at),
            f"{one.provider} {one.operation} {one.provider_tx_id}",
            one.player_id or "",
            f"{one.outcome} {one.reason}",
            _money(one.available_minor or 0, one.currency or "") if known else "",
            f"{one.attempt_topic}-{one.attempt_partition}@{one.attempt_offset}",
            _place(runtime, one),
        )
    return table


def _transfers_table(decisions: Sequence[history.EventDecision]) -> Table:
    table = screen.table(
        "version", "moved", "from", "to", title="moved", title_justify="left", box=None
    )
    for one in decisions:
        for row in one.moved:
            amount = _money(row.amount_minor, one.currency or "")
            table.add_row(str(row.version), amount, row.debit, row.credit)
    return table


def _closings_table(runtime: Runtime, closings: Sequence[history.EventClosing]) -> Table:
    table = screen.table(
        "closed", "by event", "player", "booked from", whole=("by event",), box=None
    )
    for closing in closings:
        place = _place(runtime, closing)
        table.add_row(closing.action, closing.by_event_id, closing.player_id, place)
    return table


def _repeats_table(runtime: Runtime, repeats: Sequence[history.RepeatedAttempt]) -> Table:
    table = screen.table("repeated at", "answered", "redelivered", "booked from", box=None)
    for repeat in repeats:
        table.add_row(
            f"{repeat.attempt_topic}-{repeat.attempt_partition}@{repeat.attempt_offset}",
            f"{repeat.outcome} {repeat.reason}",
            "yes" if repeat.redelivered else "",
            _place(runtime, repeat),
        )
    return table


def _format_movement(debit: str, credit: str, amount_minor: int, scale: int) -> str:
    took, gave = purse_of(debit), purse_of(credit)
    if took and gave:
        return f"{format_minor(amount_minor, scale)} {took} to {gave}"
    return f"{format_minor(amount_minor if gave else -amount_minor, scale)} {gave or took}"


def _place(runtime: Runtime, row: _Booked) -> str:
    """Return the record of the log that a row was booked from."""
    return f"{runtime.topic(TRANSACTIONS)}-{row.partition}@{row.source_offset}"


def _money(minor: int, currency: str) -> str:
    return f"{format_minor(minor, exponent_of(currency))} {currency}"


def _time(at_ms: int) -> str:
    seconds, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ms:03}"
