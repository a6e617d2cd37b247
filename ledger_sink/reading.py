"""Filling a book: what the events of a group may touch, read set by set, never row by row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, AsyncCursor

from ledger_sink import closings
from ledger_sink.book import Book, Sourced
from ledger_sink.journal import Answer, Closing, Entry, PlayerState, Transfer, Wallet
from ledger_sink.statements import plain_array, statements
from schemas.errors import InvariantBroken
from schemas.events import Attempt, WalletTransaction
from schemas.money import exponent_of

_SQL = statements("ledger")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Event ids and players that a group of events names."""

    own: frozenset[str]
    references: frozenset[str]
    """Of those events only whose rules look at what they refer to."""
    players: frozenset[str]


def wanted_by(events: Iterable[Sourced]) -> Wanted:
    """What has to be known to decide these events."""
    own: set[str] = set()
    references: set[str] = set()
    players: set[str] = set()
    for sourced in events:
        event = sourced.event
        own.add(event.event_id)
        if event.player_id is not None:
            players.add(event.player_id)
        if sourced.reference_id is not None and any(leg.kind in closings.KINDS for leg in event.legs):
            references.add(sourced.reference_id)
    return Wanted(frozenset(own), frozenset(references), frozenset(players))


@dataclass(frozen=True, slots=True)
class Reading:
    """Queries that are under way in a pipeline."""

    entries: AsyncCursor[Any]
    closings: AsyncCursor[Any]
    wallets: AsyncCursor[Any]
    states: AsyncCursor[Any]

    async def book(self) -> Book:
        """The book that the answers make."""
        book = Book()
        for row in await self.entries.fetchall():
            event_id, decision, player_id, fingerprint, topic, part, offset, index, *answer, moves = row
            attempt = Attempt(topic, part, offset, index)
            entry = Entry(event_id, decision, player_id, fingerprint, attempt, Answer(*answer), moves)
            book.entries.setdefault(event_id, []).append(entry)
        for row in await self.closings.fetchall():
            book.closings[row[0], row[1]] = Closing(*row)
        for row in await self.wallets.fetchall():
            book.wallets[row[0], row[1]] = _checked(Wallet(*row))
        for row in await self.states.fetchall():
            book.states[row[0]] = PlayerState(*row)
        return book


def _checked(wallet: Wallet) -> Wallet:
    if wallet.scale != exponent_of(wallet.currency):
        message = (
            f"wallet {wallet.player_id}:{wallet.currency} was opened with {wallet.scale} decimals, the currency now has"
            f" {exponent_of(wallet.currency)}; its amounts would be read wrong"
        )
        raise InvariantBroken(message)
    return wallet


async def read_book(connection: AsyncConnection[Any], wanted: Wanted) -> Reading:
    """Ask for everything at once; meant for a pipeline, so that it costs one round trip."""
    ids = {"event_ids": plain_array(sorted(wanted.own | wanted.references))}
    players = {"players": sorted(wanted.players)}
    return Reading(
        await connection.execute(_SQL["known_entries"], ids),
        await connection.execute(_SQL["known_closings"], ids),
        await connection.execute(_SQL["known_wallets"], players),
        await connection.execute(_SQL["known_states"], players),
    )


async def read_repeats(connection: AsyncConnection[Any], book: Book, events: Iterable[Sourced]) -> None:
    """Add what attempts were told that may come again: those of events that another attempt had decided."""
    further = [event for event in (sourced.event for sourced in events) if _is_further(event, book)]
    if not further:
        return
    cursor = await connection.execute(
        _SQL["known_repeats"],
        {"event_ids": [event.event_id for event in further], "offsets": [event.attempt.offset for event in further]},
    )
    for event_id, topic, part, offset, index, *answer in await cursor.fetchall():
        book.repeats[event_id, Attempt(topic, part, offset, index)] = Answer(*answer)


def _is_further(event: WalletTransaction, book: Book) -> bool:
    known = book.entries.get(event.event_id)
    return known is not None and all(entry.attempt != event.attempt for entry in known)


async def read_reversible(connection: AsyncConnection[Any], book: Book, entries: Sequence[Entry]) -> None:
    """Add the movements of entries that may be reversed."""
    if not entries:
        return
    for entry in entries:
        book.transfers_of[entry.event_id, entry.decision] = []
    cursor = await connection.execute(
        _SQL["transfers_of"],
        {
            "event_ids": [entry.event_id for entry in entries],
            "decisions": [entry.decision for entry in entries],
            "players": [entry.player_id for entry in entries],
            "currencies": [entry.answer.currency for entry in entries],
            "firsts": [entry.first_version for entry in entries],
            "lasts": [entry.answer.version for entry in entries],
        },
    )
    for event_id, decision, *transfer in await cursor.fetchall():
        book.transfers_of[event_id, decision].append(Transfer(*transfer))
