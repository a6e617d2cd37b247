"""`pitboss ledger balance | history | entry | round`: the ledger's rows, as tables or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec
from rich.table import Table

from ledger_sink.queries import history
from ledger_sink.rules.accounts import purse_of
from ledger_sink.store.database import LedgerDatabase
from pitboss.cli import screen
from pitboss.cli.ledger_queries import json_option, print_json, read_ledger, show_rows
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.log_positions import offset_after
from pitboss.settings import read_settings
from schemas.errors import UsageError
from schemas.identity import event_id as event_id_of
from schemas.money import exponent_of, format_minor


@click.command()
@click.argument("player")
@click.option(
    "--at",
    "place",
    help="A time (RFC 3339), an offset of the player's partition, or TOPIC-PARTITION@OFFSET.",
)
@json_option
def balance(*, player: str, place: str | None, as_json: bool) -> None:
    """Show a player's wallets, now or when the log was booked up to a time or an offset.

    A time is that of the log: records appended by then count. The record at an offset is included.
    """
    runtime = resolve_runtime(read_settings())

    async def read(database: LedgerDatabase) -> list[history.WalletAt]:
        if place is None:
            return await history.current_wallets(database, player)
        return await history.wallets_before(
            database, player, await offset_after(runtime, database, player, place)
        )

    found = read_ledger(runtime, read)
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
            f"{wallet.partition}@{wallet.source_offset}",
        )
    show_rows(
        table,
        f"{player} has no wallet" + (" there" if place else ""),
        found,
        as_numbers=(1, 2, 3, 4, 5),
    )


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


def _movement_row(movement: history.Movement, scale: int) -> list[str]:
    afterwards = (movement.cash_minor, movement.bonus_minor, movement.held_minor)
    return [
        str(movement.version),
        _time(movement.occurred_at),
        f"{movement.kind} {movement.reason}",
        movement.provider,
        f"{movement.operation} {movement.provider_tx_id}",
        _format_movement(movement.debit, movement.credit, movement.amount_minor, scale),
        *[format_minor(after, scale) for after in afterwards],
        f"{movement.partition}@{movement.source_offset}",
    ]


@click.command("history")
@click.argument("player")
@click.option("--currency", help="Only this wallet; needed where the player has several.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="How many, newest first.",
)
@click.option(
    "--before-version",
    type=click.IntRange(1),
    help="Only what came before this version: the next page.",
)
@json_option
def history_command(
    *, player: str, currency: str | None, limit: int, before_version: int | None, as_json: bool
) -> None:
    """List a wallet's movements, newest first, with the balances after each and its source."""
    before = before_version or history.LAST_VERSION

    async def read(database: LedgerDatabase) -> tuple[str, list[history.Movement]]:
        chosen = currency.upper() if currency else await _only_currency(database, player)
        return chosen, await history.movements(
            database, player, chosen, before_version=before, count=limit
        )

    chosen, found = read_ledger(resolve_runtime(read_settings()), read)
    scale = exponent_of(chosen)
    if as_json:
        print_json(
            [
                {"currency": chosen, "scale": scale, **msgspec.to_builtins(movement)}
                for movement in found
            ]
        )
        return
    table = screen.table(*_MOVEMENT_COLUMNS, whole=("transaction",), box=None)
    for movement in found:
        table.add_row(*_movement_row(movement, scale))
    show_rows(table, f"no movements of {player}:{chosen}", found, as_numbers=(0, 6, 7, 8))


@click.command()
@click.argument("event_id", required=False)
@click.option(
    "--brand",
    default="default",
    show_default=True,
    help="With the next three, in place of EVENT_ID.",
)
@click.option("--provider")
@click.option("--operation")
@click.option("--tx", "provider_tx_id", help="The provider's transaction id.")
@json_option
def entry(
    *,
    event_id: str | None,
    brand: str,
    provider: str | None,
    operation: str | None,
    provider_tx_id: str | None,
    as_json: bool,
) -> None:
    """Show every decision about an event, its transfers, what closed it, and its repeats.

    Exit code 1 if the ledger does not know it.
    """
    if event_id is None:
        if provider is None or operation is None or provider_tx_id is None:
            raise UsageError("name an event by its id, or by --provider, --operation and --tx")
        event_id = event_id_of(brand, provider, operation, provider_tx_id)
    wanted = event_id
    found = read_ledger(
        resolve_runtime(read_settings()), lambda database: history.event_history(database, wanted)
    )
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        for table in _event_tables(found):
            screen.show(table)
    if not found.decisions:
        click.echo(f"the ledger has no entry {event_id}", err=True)
        raise SystemExit(1)


@click.command("round")
@click.argument("round_id")
@click.option("--provider", help="Two providers may use one round id.")
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

    found = read_ledger(resolve_runtime(read_settings()), read)
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
            f"{event.partition}@{event.source_offset}",
        )
    show_rows(table, f"no event names the round {round_id}", found)


VIEWS: tuple[click.Command, ...] = (balance, history_command, entry, round_command)


async def _only_currency(database: LedgerDatabase, player: str) -> str:
    currencies = [wallet.currency for wallet in await history.current_wallets(database, player)]
    if not currencies:
        raise UsageError(
            f"{player!r} has no wallet: check the id, it is spelled as the provider does"
        )
    if len(currencies) > 1:
        raise UsageError(
            f"{player!r} has wallets in {', '.join(currencies)}: choose one with --currency"
        )
    return currencies[0]


def _wallet_fields(wallet: history.WalletAt) -> dict[str, Any]:
    sums = {"available_minor": wallet.available_minor, "balance_minor": wallet.balance_minor}
    return {**msgspec.to_builtins(wallet), **sums}


def _event_tables(found: history.EventHistory) -> list[Table]:
    tables = (
        _decisions_table(found.decisions),
        _transfers_table(found.decisions),
        _closings_table(found.closed_by),
        _repeats_table(found.repeats),
    )
    return [table for table in tables if table.row_count]


def _decisions_table(decisions: Sequence[history.EventDecision]) -> Table:
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
            f"{one.partition}@{one.source_offset}",
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


def _closings_table(closings: Sequence[history.EventClosing]) -> Table:
    table = screen.table(
        "closed", "by event", "player", "booked from", whole=("by event",), box=None
    )
    for closing in closings:
        place = f"{closing.partition}@{closing.source_offset}"
        table.add_row(closing.action, closing.by_event_id, closing.player_id, place)
    return table


def _repeats_table(repeats: Sequence[history.RepeatedAttempt]) -> Table:
    table = screen.table("repeated at", "answered", "redelivered", "booked from", box=None)
    for repeat in repeats:
        table.add_row(
            f"{repeat.attempt_topic}-{repeat.attempt_partition}@{repeat.attempt_offset}",
            f"{repeat.outcome} {repeat.reason}",
            "yes" if repeat.redelivered else "",
            f"{repeat.partition}@{repeat.source_offset}",
        )
    return table


def _format_movement(debit: str, credit: str, amount_minor: int, scale: int) -> str:
    took, gave = purse_of(debit), purse_of(credit)
    if took and gave:
        return f"{format_minor(amount_minor, scale)} {took} to {gave}"
    return f"{format_minor(amount_minor if gave else -amount_minor, scale)} {gave or took}"


def _money(minor: int, currency: str) -> str:
    return f"{format_minor(minor, exponent_of(currency))} {currency}"


def _time(at_ms: int) -> str:
    seconds, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ms:03}"
