"""`pitboss ledger entry`: everything that the ledger holds about one event."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import click
import msgspec
from rich.table import Table

from ledger_sink.queries import history
from pitboss.cli import screen
from pitboss.cli.ledger_queries import (
    format_moment,
    format_money,
    format_place,
    json_option,
    read_ledger,
)
from pitboss.cli.option_types import note_former_name
from pitboss.cli.suggestions import STORED_PROVIDER
from pitboss.embedded.state import resolve_runtime
from pitboss.settings import Runtime, read_settings
from schemas.errors import UsageError, suggest
from schemas.identity import event_id as event_id_of


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
            format_moment(one.occurred_at),
            f"{one.provider} {one.operation} {one.provider_tx_id}",
            one.player_id or "",
            f"{one.outcome} {one.reason}",
            format_money(one.available_minor or 0, one.currency or "") if known else "",
            f"{one.attempt_topic}-{one.attempt_partition}@{one.attempt_offset}",
            format_place(runtime, one),
        )
    return table


def _transfers_table(decisions: Sequence[history.EventDecision]) -> Table:
    table = screen.table(
        "version", "moved", "from", "to", title="moved", title_justify="left", box=None
    )
    for one in decisions:
        for row in one.moved:
            amount = format_money(row.amount_minor, one.currency or "")
            table.add_row(str(row.version), amount, row.debit, row.credit)
    return table


def _closings_table(runtime: Runtime, closings: Sequence[history.EventClosing]) -> Table:
    table = screen.table(
        "closed", "by event", "player", "booked from", whole=("by event",), box=None
    )
    for closing in closings:
        place = format_place(runtime, closing)
        table.add_row(closing.action, closing.by_event_id, closing.player_id, place)
    return table


def _repeats_table(runtime: Runtime, repeats: Sequence[history.RepeatedAttempt]) -> Table:
    table = screen.table("repeated at", "answered", "redelivered", "booked from", box=None)
    for repeat in repeats:
        table.add_row(
            f"{repeat.attempt_topic}-{repeat.attempt_partition}@{repeat.attempt_offset}",
            f"{repeat.outcome} {repeat.reason}",
            "yes" if repeat.redelivered else "",
            format_place(runtime, repeat),
        )
    return table
