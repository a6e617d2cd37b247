"""Reads everything that the events of a group may touch into a book: in sets, never row by row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection, AsyncCursor

from ledger_sink.rules.book import NO_PLAYER, Book, LogEvent
from ledger_sink.rules.closings import CLOSING_KINDS
from ledger_sink.rules.journal import (
    ASSIGNED,
    Answer,
    Closing,
    Entry,
    OpenedDeposit,
    OpenItem,
    OperatorLimit,
    PlayerState,
    Proposal,
    Transfer,
    Wallet,
)
from ledger_sink.rules.operations import twin_ids
from ledger_sink.rules.payments import names_opened_deposit
from ledger_sink.rules.references import WINS, checks_bet_of_win, protects_settled_bets
from ledger_sink.rules.reversals import compares_with_payment
from ledger_sink.rules.suspense import OF_ITEMS, whole_of
from ledger_sink.store.copy_rows import month_of, previous_month
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import plain_array, statements
from schemas.errors import Rejected
from schemas.events import Attempt, Kind, WalletTransaction
from schemas.identity import HOUSE, names_entry
from schemas.money import exponent_of
from schemas.policies import DEFAULT_POLICY, LedgerPolicy

_SQL = statements("ledger")

_LIMITED = frozenset({Kind.ADJUSTMENT.value, *OF_ITEMS})
"""The legs of operators that may move money."""


@dataclass(slots=True)
class ReadSet:
    """The event ids and players that a group of events names."""

    event_ids: set[str] = field(default_factory=set)
    """Their own, and those referred to by events whose rules look at what they refer to."""
    reversible: set[str] = field(default_factory=set)
    """References whose movements may have to be taken back."""
    players: dict[str, int] = field(default_factory=dict)
    """With the partition that their events come from."""
    bets: set[tuple[str, str]] = field(default_factory=set)
    """Events that wins refer to, with their players: read only if bonus money may have paid for
    them.
    """
    proposals: set[str] = field(default_factory=set)
    opened_deposits: set[str] = field(default_factory=set)
    open_items: set[str] = field(default_factory=set)
    payments: set[str] = field(default_factory=set)
    """Payments that refunds and chargebacks refer to: a person may have given one to its player."""
    is_limited: bool = False
    """Whether an operator acts alone, so that the limits have to be read."""
    newly_wagering: set[str] = field(default_factory=set)
    """Players whose bonus money has to be wagered from within this group on."""
    is_self_contained: bool = True
    """Whether the events name no others of which the rules read a row. See `reads_nothing_else`."""
    crosses_partitions: bool = False
    """Whether an event refers to another that may be of any partition: one without a player does,
    and the acts of operators on limits and open items.
    """


def collect_read_set(events: Iterable[LogEvent], policies: Mapping[str, LedgerPolicy]) -> ReadSet:
    """Return the read set of these events.

    An event adds the same in every group.
    """
    read_set = ReadSet()
    event_ids, players = read_set.event_ids, read_set.players
    checking = {
        provider
        for provider, policy in policies.items()
        if checks_bet_of_win(policy) or protects_settled_bets(policy)
    }
    excluding = {name for name, policy in policies.items() if policy.exclusive_operations}
    for log_event in events:
        event = log_event.event
        player_id = event.player_id
        event_ids.add(event.event_id)
        if log_event.quarantine is not None:
            event_ids.update(member.event.event_id for member in log_event.members)
            continue
        if event.provider in excluding:
            for member in log_event.members or (log_event,):
                event_ids.update(twin_ids(member.event, policies[event.provider]))
        if player_id is not None:
            players[player_id] = log_event.source.partition
            if len(event.legs) > 1 and any(leg.kind == Kind.WAGERING for leg in event.legs):
                read_set.newly_wagering.add(player_id)
        if log_event.reference_id is not None:
            _add_reference(read_set, event, log_event.reference_id, checking, policies)
        if event.cause is not None or event.provider == HOUSE:
            _add_cause(read_set, event)
        if log_event.members or log_event.reference_ids:
            _add_members(read_set, log_event, checking, policies)
    return read_set


def reads_nothing_else(read_set: ReadSet, events: Iterable[LogEvent], book: Book) -> bool:
    """Return whether these events, if each comes for the first time, read only their players.

    `book` holds these players.
    """
    if not read_set.is_self_contained or read_set.newly_wagering:
        return False
    if any(one.event.group or one.quarantine or one.event.player_id is None for one in events):
        return False
    wagering = {player for player, state in book.states.items() if state.wagering}
    return wagering.isdisjoint(player for _, player in read_set.bets)


def _add_cause(read_set: ReadSet, event: WalletTransaction) -> None:
    """Add what is read for an operator's act, and for a payment whose whole may have come."""
    read_set.is_self_contained = False
    whole_id = whole_of(event)
    if whole_id is not None:
        read_set.event_ids.add(whole_id)
    if event.provider == HOUSE and any(leg.kind in _LIMITED for leg in event.legs):
        read_set.is_limited = True


def _add_members(
    read_set: ReadSet,
    log_event: LogEvent,
    checking: set[str],
    policies: Mapping[str, LedgerPolicy],
) -> None:
    """Add what is read for the other events of a group, and for ambiguous references."""
    read_set.is_self_contained = False
    for member in log_event.members or (log_event,):
        read_set.event_ids.add(member.event.event_id)
        if member.reference_id is not None:
            for reference_id in member.reference_ids or (member.reference_id,):
                _add_reference(read_set, member.event, reference_id, checking, policies)


def _add_act(read_set: ReadSet, event: WalletTransaction, reference_id: str, kind: str) -> None:
    """Add what an act of operators names: an open item, a proposal, or a quarantine."""
    read_set.event_ids.add(reference_id)
    if kind == Kind.QUARANTINE:
        return
    read_set.crosses_partitions = True
    names_item = event.reference is not None and names_entry(event.provider, event.reference)
    (read_set.open_items if names_item else read_set.proposals).add(reference_id)


def _add_reference(
    read_set: ReadSet,
    event: WalletTransaction,
    reference_id: str,
    checking: set[str],
    policies: Mapping[str, LedgerPolicy],
) -> None:
    """Add what the rules read of the event that a reference means.

    `checking`: the providers whose policy looks at the bet that a win names.
    """
    player_id = event.player_id
    kinds = [leg.kind for leg in event.legs]
    reads_bet = event.provider in checking or _borrows_currency(event)
    read_set.is_self_contained &= player_id is not None and WINS.issuperset(kinds) and not reads_bet
    if not OF_ITEMS.isdisjoint(kinds) or Kind.QUARANTINE in kinds:
        _add_act(read_set, event, reference_id, kinds[0])
        return
    if player_id is None:
        read_set.crosses_partitions = True
    if not CLOSING_KINDS.isdisjoint(kinds):
        read_set.event_ids.add(reference_id)
        read_set.reversible.add(reference_id)
    elif not WINS.isdisjoint(kinds):
        if reads_bet:
            read_set.event_ids.add(reference_id)
        if player_id is not None and Kind.WIN in kinds:
            read_set.bets.add((reference_id, player_id))
    elif compares_with_payment(event, policies.get(event.provider, DEFAULT_POLICY)):
        read_set.event_ids.add(reference_id)
        read_set.reversible.add(reference_id)
        read_set.payments.add(reference_id)
    elif names_opened_deposit(event):
        read_set.opened_deposits.add(reference_id)
    elif Kind.ADJUSTMENT in kinds:
        read_set.event_ids.add(reference_id)
        read_set.proposals.add(reference_id)


def _borrows_currency(event: WalletTransaction) -> bool:
    return any(leg.currency is None for leg in event.legs)


@dataclass(frozen=True, slots=True)
class PendingReads:
    """Queries that are under way in a pipeline."""

    entries: AsyncCursor[Any]
    closings: AsyncCursor[Any]
    wallets: AsyncCursor[Any] | None
    states: AsyncCursor[Any] | None
    """None where every player is in the cache."""

    async def fill(self, book: Book) -> None:
        """Add the answers to a book."""
        _add_entries(book, await self.entries.fetchall())
        for row in await self.closings.fetchall():
            book.closings[row[0], row[1]] = Closing(*row)
        wallets = await self.wallets.fetchall() if self.wallets else ()
        states = await self.states.fetchall() if self.states else ()
        _add_players(book, wallets, states)


def _add_players(
    book: Book, wallets: Iterable[Sequence[Any]], states: Iterable[Sequence[Any]]
) -> None:
    for row in wallets:
        wallet = Wallet(*row)
        book.add_wallet(wallet)
        if (misread := _check_scale(wallet)) is not None:
            book.misread_players[wallet.player_id] = misread
    for row in states:
        book.states[row[0]] = PlayerState(*row)


async def read_players(database: LedgerDatabase, book: Book, players: Sequence[str]) -> None:
    """Add players to a book in one round trip, without a transaction.

    As long as their partitions are ours, only we change their rows.
    """
    named = {"players": players}
    wallets, states = await database.query_all(
        (_SQL["known_wallets"], named), (_SQL["known_states"], named)
    )
    _add_players(book, wallets, states)


def _add_entries(book: Book, rows: Iterable[Sequence[Any]]) -> None:
    for row in rows:
        event_id, decision, player_id, fingerprint, *attempt = row[:8]
        *answer, moves, group_id, rest = row[8:]
        entry = Entry(
            event_id,
            decision,
            player_id,
            fingerprint,
            Attempt(*attempt),
            Answer(*answer),
            moves,
            group_id,
            rest,
        )
        book.entries.setdefault(event_id, []).append(entry)


def _check_scale(wallet: Wallet) -> str | None:
    """Return why a wallet's amounts would be read wrong; None where they are not."""
    name = f"wallet {wallet.player_id}:{wallet.currency}"
    try:
        exponent = exponent_of(wallet.currency)
    except Rejected as error:
        return f"{name} was opened in a currency that is not configured now: {error.detail}"
    if wallet.scale == exponent:
        return None
    return (
        f"{name} was opened with {wallet.scale} decimals, the currency now has {exponent}; its"
        " amounts would be read wrong"
    )


async def send_reads(
    connection: AsyncConnection[Any], read_set: ReadSet, players: Sequence[str]
) -> PendingReads:
    """Send the queries for a read set, of players for those given.

    Meant for a pipeline, so that they cost one round trip.
    """
    # PostgreSQL sorts them itself.
    ids = {"event_ids": plain_array(read_set.event_ids)}
    named = {"players": players}
    return PendingReads(
        await connection.execute(_SQL["known_entries"], ids),
        await connection.execute(_SQL["known_closings"], ids),
        await connection.execute(_SQL["known_wallets"], named) if players else None,
        await connection.execute(_SQL["known_states"], named) if players else None,
    )


async def read_follow_ups(
    connection: AsyncConnection[Any], book: Book, read_set: ReadSet, events: Sequence[LogEvent]
) -> None:
    """Add rows that depend on the answers to the first queries; few groups need any."""
    await read_repeats(connection, book, events)
    await read_opened_deposits(connection, book, read_set)
    bets = await read_proposals_and_bets(connection, book, read_set)
    await read_open_items(connection, book, read_set)
    assignments = await read_assignments(connection, book, read_set)
    months = recent_months(one.event.appended_at for one in events)
    await read_reversible(connection, book, read_set.reversible | bets | assignments, months)


async def read_open_items(connection: AsyncConnection[Any], book: Book, read_set: ReadSet) -> None:
    """Add the items that operators name, themselves or by a proposal, and the limits."""
    proposed = {book.proposals[one].item_id for one in read_set.proposals if one in book.proposals}
    item_ids = sorted(read_set.open_items.union(one for one in proposed if one is not None))
    if item_ids:
        columns = {"event_ids": plain_array(item_ids)}
        cursor = await connection.execute(_SQL["known_open_items"], columns)
        for row in await cursor.fetchall():
            book.open_items[row[0]] = OpenItem(*row)
        cursor = await connection.execute(_SQL["known_closings"], columns)
        for row in await cursor.fetchall():
            book.closings[row[0], row[1]] = Closing(*row)
    if read_set.is_limited:
        cursor = await connection.execute(_SQL["known_limits"])
        for row in await cursor.fetchall():
            book.operator_limits[row[0]] = OperatorLimit(*row)


async def read_assignments(
    connection: AsyncConnection[Any], book: Book, read_set: ReadSet
) -> set[str]:
    """Add the assignments by which payments came to their players. Returns their ids."""
    closings = [book.closings.get((payment, NO_PLAYER)) for payment in read_set.payments]
    assigned = {one.by_event_id for one in closings if one is not None and one.action == ASSIGNED}
    unknown = sorted(assigned.difference(book.entries))
    if unknown:
        cursor = await connection.execute(
            _SQL["known_entries"], {"event_ids": plain_array(unknown)}
        )
        _add_entries(book, await cursor.fetchall())
    return assigned


async def read_opened_deposits(
    connection: AsyncConnection[Any], book: Book, read_set: ReadSet
) -> None:
    """Add the deposits that payments name."""
    if read_set.opened_deposits:
        columns = {"event_ids": plain_array(read_set.opened_deposits)}
        cursor = await connection.execute(_SQL["known_opened_deposits"], columns)
        for row in await cursor.fetchall():
            book.opened_deposits[row[0]] = OpenedDeposit(*row)


async def read_proposals_and_bets(
    connection: AsyncConnection[Any], book: Book, read_set: ReadSet
) -> set[str]:
    """Add proposals, and bets that bonus money may have paid. Returns those bets' ids."""
    if read_set.proposals:
        columns = {"event_ids": sorted(read_set.proposals)}
        cursor = await connection.execute(_SQL["known_proposals"], columns)
        for row in await cursor.fetchall():
            book.proposals[row[0]] = Proposal(*row)
    wagering = read_set.newly_wagering.union(
        player for player, state in book.states.items() if state.wagering
    )
    bets = {bet for bet, player in read_set.bets if player in wagering}
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
    """Add the answers to attempts that may come again: of events decided by another attempt."""
    further = [
        member.event
        for log_event in events
        for member in log_event.members or (log_event,)
        if _is_further(member.event, book)
    ]
    if not further:
        return
    cursor = await connection.execute(
        _SQL["known_repeats"],
        {
            "event_ids": [event.event_id for event in further],
            "offsets": [event.attempt.offset for event in further],
        },
    )
    for event_id, topic, partition, offset, index, *answer in await cursor.fetchall():
        attempt = Attempt(topic, partition, offset, index)
        book.repeats[event_id, attempt] = Answer(*answer)


def _is_further(event: WalletTransaction, book: Book) -> bool:
    entries = book.entries.get(event.event_id)
    if entries is None:
        # An event of a group may have been answered by a conflict of the group alone.
        return event.group is not None
    return all(entry.attempt != event.attempt for entry in entries)


def recent_months(times_ms: Iterable[int]) -> list[int]:
    """Return the months of these times and the month before each of them, in order."""
    months = {month_of(time_ms) for time_ms in times_ms}
    return sorted(months | {previous_month(month) for month in months})


async def read_reversible(
    connection: AsyncConnection[Any], book: Book, event_ids: Iterable[str], months: Sequence[int]
) -> None:
    """Add the movements of stored events that may be reversed.

    Nearly all of them are of the group's own `months`; only what is not found there is looked up
    in every month.
    """
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
    # Without a wallet in its answer an event moved money between house accounts alone.
    entries = [entry for entry in entries if entry.answer.version is not None]
    if not entries:
        return
    missing = await _read_transfers(connection, book, entries, months)
    if missing:
        missing = await _read_transfers(connection, book, missing, None)
    if missing:
        [(count,)] = await (await connection.execute(_SQL["months_away"])).fetchall()
        if count:
            cursor = await connection.execute(_SQL["moved_away"], _columns(missing), prepare=False)
            book.archived_event_ids.update(event_id for (event_id,) in await cursor.fetchall())


async def _read_transfers(
    connection: AsyncConnection[Any],
    book: Book,
    entries: Sequence[Entry],
    months: Sequence[int] | None,
) -> list[Entry]:
    """Add the movements of entries that are of these months; return the entries without any."""
    columns = {**_columns(entries), "months": months}
    # Never prepared: the plan for any parameters, which PostgreSQL makes of a prepared statement,
    # knows no months.
    cursor = await connection.execute(_SQL["transfers_of"], columns, prepare=False)
    for event_id, decision, *transfer in await cursor.fetchall():
        book.transfers_of[event_id, decision].append(Transfer(*transfer))
    return [entry for entry in entries if not book.transfers_of[entry.event_id, entry.decision]]


def _columns(entries: Sequence[Entry]) -> dict[str, list[Any]]:
    return {
        "event_ids": [entry.event_id for entry in entries],
        "decisions": [entry.decision for entry in entries],
        "players": [entry.player_id for entry in entries],
        "currencies": [entry.answer.currency for entry in entries],
        "firsts": [entry.first_version for entry in entries],
        "lasts": [entry.answer.version for entry in entries],
    }
