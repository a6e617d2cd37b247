"""`pitboss ledger history PLAYER --refused`: what the ledger refused, and why."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click
import msgspec

from ledger_sink.queries import history
from ledger_sink.queries.history import RefusedEvent
from ledger_sink.store.database import LedgerDatabase
from pitboss.cli import screen
from pitboss.cli.ledger_queries import print_json, read_ledger, show_rows
from pitboss.ops.log_events import read_events
from pitboss.ops.periods import format_time
from pitboss.settings import Runtime
from schemas.errors import Unavailable
from schemas.events import WalletTransaction
from schemas.money import exponent_of, format_minor
from schemas.topics import TRANSACTIONS

_FIELDS: Final = tuple(field.encode_name for field in msgspec.structs.fields(RefusedEvent))
_COLUMNS: Final = (
    "time (UTC)",
    "event",
    "amount",
    "why",
    "available",
    "provider",
    "transaction",
    "round",
    "booked from",
)


def print_refusals(
    runtime: Runtime, player: str, count: int, form: str, *, currency: str | None, **chosen: Any
) -> None:
    """Print a player's refused events, newest first, with the amounts that the log has."""

    async def read(database: LedgerDatabase) -> list[RefusedEvent]:
        return await history.refused_events(
            database,
            player,
            currency=currency,
            count=count + 1,
            **chosen,
        )

    found = read_ledger(runtime, read)
    shown = found[:count]
    rows = _add_amounts(shown, _read_events(runtime, shown))
    if form == "json":
        print_json(rows)
    elif form == "csv":
        names = ("time", "player_id", *_FIELDS, "amount")
        writer = csv.DictWriter(click.get_text_stream("stdout"), names, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({"time": format_time(row["occurred_at"]), "player_id": player, **row})
    else:
        _show(runtime, player, rows)
    if len(found) > count:
        until = format_time(shown[-1].occurred_at)
        click.echo(f"older ones are left out: raise --limit, or add --until {until}", err=True)


def _read_events(
    runtime: Runtime, refused: Sequence[RefusedEvent]
) -> Mapping[tuple[int, int], WalletTransaction]:
    places = {(one.partition, one.source_offset) for one in refused}
    try:
        return asyncio.run(read_events(runtime, places))
    except Unavailable as error:
        click.echo(f"amounts are left out: {error}", err=True)
        return {}


def _add_amounts(
    refused: Sequence[RefusedEvent], events: Mapping[tuple[int, int], WalletTransaction]
) -> list[dict[str, Any]]:
    return [
        {
            **msgspec.to_builtins(one),
            "amount": _amount(events.get((one.partition, one.source_offset))),
        }
        for one in refused
    ]


def _amount(event: WalletTransaction | None) -> str | None:
    """Return what the event asked for, one amount a leg; None where that is not known."""
    legs = [] if event is None else [leg for leg in event.legs if leg.amount is not None]
    texts = [
        f"{format_minor(leg.amount.unscaled, leg.amount.scale)} {leg.currency or ''}".rstrip()
        for leg in legs
        if leg.amount is not None
    ]
    return " + ".join(texts) or None


def _show(runtime: Runtime, player: str, rows: Sequence[Mapping[str, Any]]) -> None:
    table = screen.table(*_COLUMNS, whole=("transaction",), box=None)
    for row in rows:
        available, currency = row["available_minor"], row["currency"]
        is_known = available is not None and currency is not None
        table.add_row(
            format_time(row["occurred_at"]),
            row["kind"],
            row["amount"] or "",
            f"{row['outcome']} {row['reason']}",
            format_minor(available, exponent_of(currency)) if is_known else "",
            row["provider"],
            f"{row['operation']} {row['provider_tx_id']}",
            row["round_id"] or "",
            f"{runtime.topic(TRANSACTIONS)}-{row['part']}@{row['source_offset']}",
        )
    show_rows(table, f"the ledger has refused nothing of {player}", rows, as_numbers=(2, 4))
