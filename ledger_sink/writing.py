"""Writing a book down: COPY for what every event adds, one statement a table for the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, LiteralString

import msgspec
from psycopg import AsyncConnection, AsyncCursor

from ledger_sink.book import Book, Decided
from ledger_sink.journal import Wallet
from ledger_sink.statements import plain_array, statements
from schemas.errors import InvariantBroken

_SQL = statements("ledger")


async def write_book(connection: AsyncConnection[Any], book: Book) -> None:
    """Insert what is new and move the projections forward, inside the caller's transaction."""
    entries = [decided for decided in book.decided if decided.decision is not None]
    repeats = [decided for decided in book.decided if decided.decision is None]
    await _copy(connection, _SQL["copy_entries"], (_entry_row(book, decided) for decided in entries))
    await _copy(connection, _SQL["copy_transfers"], _transfer_rows(book))
    if repeats:
        await _copy(connection, _SQL["copy_repeats"], (_repeat_row(decided) for decided in repeats))
    await _write_projections(connection, book)


async def _copy(connection: AsyncConnection[Any], statement: LiteralString, rows: Iterable[Sequence[Any]]) -> None:
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            await copy.write_row(row)


def _entry_row(book: Book, decided: Decided) -> Sequence[Any]:
    sourced, answer = decided.sourced, decided.answer
    event, source = sourced.event, sourced.source
    assert decided.decision is not None
    attempt = event.attempt
    return (
        event.event_id, decided.decision, event.brand, event.provider, event.provider_version, event.region,
        event.operation, event.provider_tx_id, "+".join([leg.kind for leg in event.legs]), event.player_id,
        event.round_id, event.round_closed, event.game_id, sourced.reference_id, event.fingerprint,
        attempt.topic, attempt.partition, attempt.offset, attempt.record_index, source.partition, source.offset,
        event.occurred_at, answer.outcome, answer.reason, answer.currency, answer.available_minor, answer.version,
        len(book.transfers_of[event.event_id, decided.decision]),
    )  # fmt: skip


def _repeat_row(decided: Decided) -> Sequence[Any]:
    event, source, answer = decided.sourced.event, decided.sourced.source, decided.answer
    attempt = event.attempt
    return (
        source.partition, source.offset, event.event_id, event.brand, event.provider, event.operation,
        event.provider_tx_id, event.player_id, event.fingerprint, attempt.topic, attempt.partition, attempt.offset,
        attempt.record_index, decided.redelivered, answer.outcome, answer.reason, answer.currency,
        answer.available_minor, answer.version,
    )  # fmt: skip


def _transfer_rows(book: Book) -> Iterable[Sequence[Any]]:
    for sourced, decision, transfer in book.new_transfers:
        event, source = sourced.event, sourced.source
        yield (
            transfer.player_id, transfer.currency, transfer.version, transfer.debit, transfer.credit,
            transfer.amount_minor, transfer.cash_minor, transfer.bonus_minor, transfer.held_minor, event.event_id,
            decision, source.partition, source.offset, event.occurred_at,
        )  # fmt: skip


async def _write_projections(connection: AsyncConnection[Any], book: Book) -> None:
    wallets = [book.changed_wallets[key] for key in sorted(book.changed_wallets)]
    written: AsyncCursor[Any] | None = None
    async with connection.pipeline():
        if book.new_closings:
            await connection.execute(_SQL["insert_closings"], _closing_columns(book))
        if book.changed_states:
            await connection.execute(_SQL["upsert_states"], _state_columns(book))
        if book.new_proposals:
            await connection.execute(_SQL["insert_proposals"], _proposal_columns(book))
        if wallets:
            written = await connection.execute(_SQL["upsert_wallets"], _wallet_columns(wallets))
    # Only behind the pipeline is the count known.
    if written is not None and written.rowcount != len(wallets):
        message = f"{len(wallets)} wallets changed, {written.rowcount} were written: another writer moved one forward"
        raise InvariantBroken(message)


def _closing_columns(book: Book) -> dict[str, Any]:
    new = list(book.new_closings.values())
    return {
        "event_ids": [closing.event_id for _, closing in new],
        "players": [closing.player_id for _, closing in new],
        "actions": [closing.action for _, closing in new],
        "by": [closing.by_event_id for _, closing in new],
        "parts": [sourced.source.partition for sourced, _ in new],
        "offsets": [sourced.source.offset for sourced, _ in new],
    }


def _state_columns(book: Book) -> dict[str, Any]:
    states = [book.changed_states[player] for player in sorted(book.changed_states)]
    return {
        "players": [state.player_id for state in states],
        "standings": [_json(state.standings) for state in states],
        "limits": [_json(state.limits) for state in states],
        "wagering": [_json(state.wagering) for state in states],
        "event_ids": [state.event_id for state in states],
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
    }


def _wallet_columns(wallets: Sequence[Wallet]) -> dict[str, Any]:
    return {
        "players": [wallet.player_id for wallet in wallets],
        "currencies": [wallet.currency for wallet in wallets],
        "scales": plain_array([wallet.scale for wallet in wallets]),
        "cash": plain_array([wallet.cash_minor for wallet in wallets]),
        "bonus": plain_array([wallet.bonus_minor for wallet in wallets]),
        "held": plain_array([wallet.held_minor for wallet in wallets]),
        "versions": plain_array([wallet.version for wallet in wallets]),
        "event_ids": plain_array([wallet.event_id for wallet in wallets]),
        "parts": plain_array([wallet.part for wallet in wallets]),
        "offsets": plain_array([wallet.source_offset for wallet in wallets]),
    }
