"""Filling a book: what the events of a group may touch, read set by set, never row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, AsyncCursor

from ledger_sink.rules import closings
from ledger_sink.rules.book import Book, LogEvent
from ledger_sink.rules.journal import (
    Answer,
    Closing,
    Entry,
    PlayerState,
    Proposal,
    Transfer,
    Wallet,
)
from ledger_sink.rules.references import WINS, checks_bet_of_win, protects_settled_bets
from ledger_sink.store.statements import plain_array, statements
from schemas.errors import InvariantBroken
from schemas.events import Attempt, Kind, WalletTransaction
from schemas.money import exponent_of
from schemas.policies import LedgerPolicy

_SQL = statements("ledger")


@dataclass(frozen=True, slots=True)
class ReadSet:
    """Event ids and players that a group of events names."""

    event_ids: frozenset[str]
    """Their own, and those referred to by events whose rules look at what they refer to."""
    reversible: frozenset[str]
    """Those references whose movements may have to be taken back."""
    players: Mapping[str, int]
    """With the partition that their events come from."""
    bets: frozenset[tuple[str, str]]
    """What wins refer to, and by which player: looked at only if part of it may have been bonus
    money.
    """
    proposals: frozenset[str]
    newly_wagering: frozenset[str]
    """Players whose bonus money has to be wagered from within this group on."""
    crosses_partitions: bool
    """Whether an event of nobody's refers to another, which may be of any partition."""


def collect_read_set(events: Iterable[LogEvent], policies: Mapping[str, LedgerPolicy]) -> ReadSet:
    """What has to be known to decide these events; the same for an event, whatever group it comes
    in.
    """
    event_ids: set[str] = set()
    reversible: set[str] = set()
    players: dict[str, int] = {}
    bets: set[tuple[str, str]] = set()
    proposals: set[str] = set()
    granted: set[str] = set()
    crosses = False
    asking = {
        provider
        for provider, policy in policies.items()
        if checks_bet_of_win(policy) or protects_settled_bets(policy)
    }
    for sourced in events:
        event, reference_id, player_id = (
            sourced.event,
            sourced.reference_id,
            sourced.event.player_id,
        )
        event_ids.add(event.event_id)
        if player_id is not None:
            players[player_id] = sourced.source.partition
            if len(event.legs) > 1 and any(leg.kind == Kind.WAGERING for leg in event.legs):
                granted.add(player_id)
        if reference_id is None:
            continue
        crosses = crosses or player_id is None
        kinds = [leg.kind for leg in event.legs]
        if not closings.CLOSING_KINDS.isdisjoint(kinds):
            event_ids.add(reference_id)
            reversible.add(reference_id)
        elif not WINS.isdisjoint(kinds):
            if event.provider in asking or any(leg.currency is None for leg in event.legs):
                event_ids.add(reference_id)
            if player_id is not None and Kind.WIN in kinds:
                bets.add((reference_id, player_id))
        elif Kind.ADJUSTMENT in kinds:
            event_ids.add(reference_id)
            proposals.add(reference_id)
    return ReadSet(
        frozenset(event_ids),
        frozenset(reversible),
        players,
        frozenset(bets),
        frozenset(proposals),
        frozenset(granted),
        crosses,
    )


@dataclass(frozen=True, slots=True)
class PendingReads:
    """Queries that are under way in a pipeline."""

    entries: AsyncCursor[Any]
    closings: AsyncCursor[Any]
    wallets: AsyncCursor[Any] | None
    states: AsyncCursor[Any] | None
    """None where every player is known."""

    async def fill(self, book: Book) -> None:
        """Add the answers to a book."""
        _add_entries(book, await self.entries.fetchall())
        for row in await self.closings.fetchall():
            book.closings[row[0], row[1]] = Closing(*row)
        for row in await self.wallets.fetchall() if self.wallets else ():
            book.wallets[row[0], row[1]] = _check_scale(Wallet(*row))
        for row in await self.states.fetchall() if self.states else ():
            book.states[row[0]] = PlayerState(*row)


def _add_entries(book: Book, rows: Iterable[Sequence[Any]]) -> None:
    for row in rows:
        event_id, decision, player_id, fingerprint, topic, part, offset, index, *answer, moves = row
        attempt = Attempt(topic, part, offset, index)
        entry = Entry(event_id, decision, player_id, fingerprint, attempt, Answer(*answer), moves)
        book.entries.setdefault(event_id, []).append(entry)


def _check_scale(wallet: Wallet) -> Wallet:
    if wallet.scale != exponent_of(wallet.currency):
        message = (
            f"wallet {wallet.player_id}:{wallet.currency} was opened with {wallet.scale} decimals, the currency now has"
            f" {exponent_of(wallet.currency)}; its amounts would be read wrong"
        )
        raise InvariantBroken(message)
    return wallet


async def send_reads(
    connection: AsyncConnection[Any], wanted: ReadSet, players: Sequence[str]
) -> PendingReads:
    """Ask for all that is wanted, of players for those given; meant for a pipeline, so that it
    costs one round trip.
    """
    # PostgreSQL sorts them itself.
    ids = {"event_ids": plain_array(wanted.event_ids)}
    named = {"players": players}
    return PendingReads(
        await connection.execute(_SQL["known_entries"], ids),
        await connection.execute(_SQL["known_closings"], ids),
        await connection.execute(_SQL["known_wallets"], named) if players else None,
        await connection.execute(_SQL["known_states"], named) if players else None,
    )


async def read_follow_ups(
    connection: AsyncConnection[Any], book: Book, wanted: ReadSet, events: Sequence[LogEvent]
) -> None:
    """Add what only the answers to the first questions tell to ask for: few groups ask for any of
    it.
    """
    await read_repeats(connection, book, events)
    bets = await read_proposals_and_bets(connection, book, wanted)
    await read_reversible(connection, book, wanted.reversible | bets)


async def read_proposals_and_bets(
    connection: AsyncConnection[Any], book: Book, wanted: ReadSet
) -> frozenset[str]:
    """Add what few groups ask for: bets that bonus money may have paid, and proposals.

    Returns those bets' ids.
    """
    if wanted.proposals:
        cursor = await connection.execute(
            _SQL["known_proposals"], {"event_ids": sorted(wanted.proposals)}
        )
        for row in await cursor.fetchall():
            book.proposals[row[0]] = Proposal(*row)
    wagering = wanted.newly_wagering.union(
        player for player, state in book.states.items() if state.wagering
    )
    bets = frozenset(bet for bet, player in wanted.bets if player in wagering)
    unknown = sorted(bets.difference(book.entries))
    if unknown:
        cursor = await connection.execute(
            _SQL["known_entries"], {"event_ids": plain_array(unknown)}
        )
        _add_entries(book, await cursor.fetchall())
    return bets


async def read_repeats(
    connection: AsyncConnection[Any], book: Book, events: Iterable[LogEvent]
) -> None:
    """Add what attempts were told that may come again: those of events that another attempt had
    decided.
    """
    further = [event for event in (sourced.event for sourced in events) if _is_further(event, book)]
    if not further:
        return
    cursor = await connection.execute(
        _SQL["known_repeats"],
        {
            "event_ids": [event.event_id for event in further],
            "offsets": [event.attempt.offset for event in further],
        },
    )
    for event_id, topic, part, offset, index, *answer in await cursor.fetchall():
        book.repeats[event_id, Attempt(topic, part, offset, index)] = Answer(*answer)


def _is_further(event: WalletTransaction, book: Book) -> bool:
    known = book.entries.get(event.event_id)
    return known is not None and all(entry.attempt != event.attempt for entry in known)


async def read_reversible(
    connection: AsyncConnection[Any], book: Book, event_ids: Iterable[str]
) -> None:
    """Add the movements of stored events that may be reversed."""
    entries = [
        entry
        for event_id in sorted(event_ids)
        for entry in book.entries.get(event_id, ())
        if entry.transfers
        and entry.player_id is not None
        and (event_id, entry.decision) not in book.transfers_of
    ]
    if not entries:
        return
    for entry in entries:
        book.transfers_of[entry.event_id, entry.decision] = []
    cursor = await connection.execute(_SQL["transfers_of"], _columns(entries))
    for event_id, decision, *transfer in await cursor.fetchall():
        book.transfers_of[event_id, decision].append(Transfer(*transfer))
    gone = [entry for entry in entries if not book.transfers_of[entry.event_id, entry.decision]]
    if gone:
        cursor = await connection.execute(_SQL["moved_away"], _columns(gone))
        book.archived_event_ids.update(event_id for (event_id,) in await cursor.fetchall())


def _columns(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    return {
        "event_ids": [entry.event_id for entry in entries],
        "decisions": [entry.decision for entry in entries],
        "players": [entry.player_id for entry in entries],
        "currencies": [entry.answer.currency for entry in entries],
        "firsts": [entry.first_version for entry in entries],
        "lasts": [entry.answer.version for entry in entries],
    }
