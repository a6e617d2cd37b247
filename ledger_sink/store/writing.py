"""Writing a book: COPY for what every event adds, one statement a table for the rest.

A COPY takes two round trips of its own. The rows of few events go in with the rest instead, in one
round trip for all, COMMIT included: at a moderate rate a worker spends its time on round trips.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar, Final, LiteralString

import msgspec
from psycopg import AsyncConnection

from ledger_sink.rules.book import Book
from ledger_sink.rules.journal import Wallet
from ledger_sink.store.copy_rows import CopyRows
from ledger_sink.store.statements import plain_array, statements, text_array
from schemas.errors import Fatal

_SQL = statements("ledger")

FEW_EVENTS_MAX: Final = 200
"""Above it COPY, which PostgreSQL reads faster, costs less than it saves."""

_COPY_BYTES: Final = 1 << 18
"""Between two writes other tasks run, for milliseconds only: PostgreSQL waits for rows meanwhile.
"""

_BY_PLAYER: Final = attrgetter("player_id")

Statement = tuple[LiteralString, Mapping[str, Any] | None]


class RowsMoved(Fatal):
    """A wallet, a closing or a position differs from what was read when its events were decided.

    Raised to the worker only if that is so right after the rows were read: another writer changes
    the ledger's tables.
    """

    code: ClassVar[str] = "ROWS_MOVED"
    exit_code: ClassVar[int] = 76


def goes_by_copy(rows: CopyRows, few_events_max: int) -> bool:
    """Return whether rows go by COPY: many, or such as cannot be cut at their tabs."""
    return rows.events > few_events_max or not rows.is_plain


async def copy_book(connection: AsyncConnection[Any], rows: CopyRows) -> None:
    """Insert by COPY what every event adds. Not within a pipeline, which has no COPY."""
    for table, chunks in _tables(rows):
        if chunks:
            await _copy(connection, _SQL[f"copy_{table}"], chunks)


async def write_book(
    connection: AsyncConnection[Any],
    book: Book,
    rows: CopyRows,
    last: Sequence[Statement],
    few_events_max: int = FEW_EVENTS_MAX,
) -> None:
    """Send what inserts the new rows, unless they go by COPY, and moves the projections forward.

    Then the `last` statements. Meant for a pipeline. A row that is not written because it is not as
    it was read fails its statement, and so the transaction (the function `demand`).
    """
    if not goes_by_copy(rows, few_events_max):
        for table, chunks in _tables(rows):
            if any(chunks):
                lines = {"lines": _lines(chunks)}
                await connection.execute(_SQL[f"insert_{table}"], lines)
    await _write_projections(connection, book)
    for statement, parameters in last:
        await connection.execute(statement, parameters)


def unread_book_columns(
    book: Book, rows: CopyRows, event_ids: Collection[str]
) -> dict[str, str] | None:
    """Return what `write_unread` needs of a book that only adds entries and moves wallets.

    None for any other book. None of the `event_ids` may be known.
    """
    if rows.repeats or not _only_moves_wallets(book):
        return None
    wallets = sorted(book.changed_wallets.values(), key=_BY_PLAYER)
    columns = _wallet_columns(wallets)
    for name in ("event_ids", "parts", "offsets"):
        columns[f"wallet_{name}"] = columns.pop(name)
    return {
        **columns,
        "event_ids": plain_array(event_ids),
        "entries": _lines(rows.entries),
        "transfers": _lines(rows.transfers),
    }


def _only_moves_wallets(book: Book) -> bool:
    return not (
        book.new_closings
        or book.changed_states
        or book.new_proposals
        or book.closed_items
        or book.new_open_items
        or book.new_limits
        or book.new_opened_deposits
    )


def _lines(chunks: Sequence[bytes]) -> str:
    return b"".join(chunks).decode().removesuffix("\n")


def _tables(rows: CopyRows) -> Sequence[tuple[str, Sequence[bytes]]]:
    return (("entries", rows.entries), ("transfers", rows.transfers), ("repeats", rows.repeats))


async def _copy(
    connection: AsyncConnection[Any], statement: LiteralString, chunks: Iterable[bytes]
) -> None:
    data = b"".join(chunks)
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for start in range(0, len(data), _COPY_BYTES):
            await copy.write(data[start : start + _COPY_BYTES])


async def _write_projections(connection: AsyncConnection[Any], book: Book) -> None:
    if book.new_closings:
        await connection.execute(_SQL["insert_closings"], _closing_columns(book))
    if book.changed_states:
        await connection.execute(_SQL["upsert_states"], _state_columns(book))
    await _write_acts_of_people(connection, book)
    if book.new_opened_deposits:
        await connection.execute(_SQL["insert_opened_deposits"], _opened_columns(book))
    # In the order of the key each page of the table is looked up once, not once for each wallet.
    wallets = sorted(book.changed_wallets.values(), key=_BY_PLAYER)
    if wallets:
        await connection.execute(_SQL["upsert_wallets"], _wallet_columns(wallets))


async def _write_acts_of_people(connection: AsyncConnection[Any], book: Book) -> None:
    """Execute the statements of proposals, limits and open items; nearly every group has none."""
    if book.new_proposals:
        await connection.execute(_SQL["insert_proposals"], _proposal_columns(book))
    if book.closed_items:
        closed = {"event_ids": sorted(book.closed_items)}
        await connection.execute(_SQL["delete_open_items"], closed)
    if book.new_open_items:
        await connection.execute(_SQL["upsert_open_items"], _item_columns(book))
    if book.new_limits:
        limits = list(book.new_limits.values())
        columns = {
            "currencies": [limit.currency for limit in limits],
            "amounts": [limit.amount_minor for limit in limits],
            "event_ids": [limit.event_id for limit in limits],
        }
        await connection.execute(_SQL["upsert_limits"], columns)


def _item_columns(book: Book) -> dict[str, Any]:
    new = list(book.new_open_items.values())
    return {
        "event_ids": [item.event_id for item in new],
        "decisions": [item.decision for item in new],
        "providers": [item.provider for item in new],
        "players": [item.player_id for item in new],
        "currencies": [item.currency for item in new],
        "amounts": [item.amount_minor for item in new],
        "in_suspense": [item.in_suspense for item in new],
        "times": [item.opened_at_ms for item in new],
    }


def _closing_columns(book: Book) -> dict[str, Any]:
    new = list(book.new_closings.values())
    return {
        "event_ids": [closing.event_id for _, closing in new],
        "players": [closing.player_id for _, closing in new],
        "actions": [closing.action for _, closing in new],
        "by": [closing.by_event_id for _, closing in new],
        "parts": [log_event.source.partition for log_event, _ in new],
        "offsets": [log_event.source.offset for log_event, _ in new],
    }


def _state_columns(book: Book) -> dict[str, Any]:
    states = [book.changed_states[player] for player in sorted(book.changed_states)]
    return {
        "players": [state.player_id for state in states],
        "standings": [_json(state.standings) for state in states],
        "limits": [_json(state.limits) for state in states],
        "wagering": [_json(state.wagering) for state in states],
        "event_ids": [state.event_id for state in states],
        "fractions": [_json(state.fractions) for state in states],
        "reversals": [_json(state.reversals) for state in states],
    }


def _json(values: Mapping[str, Any]) -> str:
    return msgspec.json.encode(dict(values)).decode()


def _proposal_columns(book: Book) -> dict[str, Any]:
    new = book.new_proposals
    return {
        "event_ids": [proposal.event_id for proposal in new],
        "players": [proposal.player_id for proposal in new],
        "currencies": [proposal.currency for proposal in new],
        "amounts": [proposal.amount_minor for proposal in new],
        "actors": [proposal.actor for proposal in new],
        "reasons": [proposal.reason for proposal in new],
        "brands": [proposal.brand for proposal in new],
        "ids": [proposal.id for proposal in new],
        "times": [proposal.occurred_at_ms for proposal in new],
        "acts": [proposal.act for proposal in new],
        "items": [proposal.item_id for proposal in new],
    }


def _opened_columns(book: Book) -> dict[str, Any]:
    new = book.new_opened_deposits
    return {
        "event_ids": [opened.event_id for opened in new],
        "players": [opened.player_id for opened in new],
        "psps": [opened.psp for opened in new],
        "currencies": [opened.currency for opened in new],
        "amounts": [opened.amount_minor for opened in new],
    }


def _wallet_columns(wallets: Sequence[Wallet]) -> dict[str, str]:
    return {
        "players": text_array([wallet.player_id for wallet in wallets]),
        "currencies": text_array([wallet.currency for wallet in wallets]),
        "scales": plain_array([wallet.scale for wallet in wallets]),
        "cash": plain_array([wallet.cash_minor for wallet in wallets]),
        "bonus": plain_array([wallet.bonus_minor for wallet in wallets]),
        "held": plain_array([wallet.held_minor for wallet in wallets]),
        "versions": plain_array([wallet.version for wallet in wallets]),
        "event_ids": plain_array([wallet.event_id for wallet in wallets]),
        "parts": plain_array([wallet.partition for wallet in wallets]),
        "offsets": plain_array([wallet.source_offset for wallet in wallets]),
        "brands": text_array([wallet.brand for wallet in wallets]),
    }
