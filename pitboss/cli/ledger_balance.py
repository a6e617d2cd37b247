"""`pitboss ledger balance`: a player's wallets, now or at an earlier time.

It is the command that is asked most, so it imports only what its answer needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from ledger_sink.queries import history
from ledger_sink.store.database import LedgerDatabase
from pitboss.cli.ledger_queries import (
    UnknownPlayer,
    format_place,
    json_option,
    print_json,
    read_ledger,
)
from pitboss.cli.option_types import Time
from pitboss.embedded.state import resolve_runtime
from pitboss.ops.log_positions import is_place, offset_after
from pitboss.ops.periods import ACCEPTED_TIMES
from pitboss.settings import Runtime, read_settings
from schemas.money import format_minor


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
    _show_wallets(runtime, found)


def _show_wallets(runtime: Runtime, found: Sequence[history.WalletAt]) -> None:
    from pitboss.cli import screen

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
            format_place(runtime, wallet),
        )
    for index in (1, 2, 3, 4, 5):
        table.columns[index].justify = "right"
    screen.show(table)


def _wallet_fields(wallet: history.WalletAt) -> dict[str, Any]:
    sums = {"available_minor": wallet.available_minor, "balance_minor": wallet.balance_minor}
    return {**msgspec.to_builtins(wallet), **sums}
