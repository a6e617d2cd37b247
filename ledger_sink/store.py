"""One PostgreSQL transaction for a group of batches: position, entries, transfers and balances, or nothing of it.

The position is locked and compared first, so a redelivered batch is trimmed, a hole stops the worker and a zombie is
fenced. A COMMIT whose reply was lost is no special case: the connection is dropped, and the next try reads from the
position how far the database really is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import AsyncConnection

from ledger_sink.book import Book, Sourced
from ledger_sink.database import Database
from ledger_sink.journal import Entry
from ledger_sink.posting import post
from ledger_sink.reading import Wanted, read_book, read_rare, read_repeats, read_reversible, wanted_by
from ledger_sink.statements import statements
from ledger_sink.writing import write_book
from schemas.errors import Fenced, InvariantBroken, OffsetHole, Unavailable
from schemas.policies import DEFAULT_POLICY, LedgerPolicy
from schemas.topics import TRANSACTIONS

CONSUMER = "ledger"
_SQL = statements("ledger")


@dataclass(frozen=True, slots=True)
class Slice:
    """The events of one partition from `from_offset` up to, not including, `next_offset`; gaps of the log included."""

    part: int
    from_offset: int
    next_offset: int
    events: Sequence[Sourced]
    last_timestamp_ms: int | None = None
    last_checksum: int | None = None


@dataclass(slots=True)
class Applied:
    """What a transaction did. What is in `known` was committed before: its answers are in the tables."""

    book: Book = field(default_factory=Book)
    done: list[Slice] = field(default_factory=list)
    known: list[Slice] = field(default_factory=list)
    epochs: dict[int, int] = field(default_factory=dict)
    """Under which claim each partition was written."""


class PostgresLedger:
    """The ledger's tables, used by one task at a time."""

    def __init__(self, database: Database, policies: Mapping[str, LedgerPolicy], *, topic: str = TRANSACTIONS) -> None:
        self.database = database
        self._policies = policies
        self._topic = topic
        self.epochs: dict[int, int] = {}
        """The epoch under which each of our partitions was claimed."""

    async def apply(self, slices: Sequence[Slice]) -> Applied:
        """Decide and commit a group of slices of different partitions, all or nothing.

        Raises Fenced where another worker has claimed a partition, OffsetHole where the log would be skipped,
        InvariantBroken for a bug, Unavailable while the database is away (nothing may be acknowledged then) and for a
        partition that we have let go since (whoever has it now repeats the slice).
        """
        try:
            async with self.database.transaction() as connection:
                return await self._apply(connection, slices)
        except InvariantBroken as error:
            culprit = _unstorable(slices)
            if culprit is None:
                raise
            message = f"{culprit}: PostgreSQL stores no NUL; whoever wrote this to the log is not the normaliser"
            raise InvariantBroken(message) from error

    async def _apply(self, connection: AsyncConnection[Any], slices: Sequence[Slice]) -> Applied:
        events = [sourced for part in slices for sourced in part.events]
        wanted = wanted_by(events, self._policies)
        async with connection.pipeline():
            cursor = await connection.execute(
                _SQL["lock_positions"],
                {"consumer": CONSUMER, "topic": self._topic, "parts": [part.part for part in slices]},
            )
            reading = await read_book(connection, wanted)
        positions = {part: (next_offset, epoch) for part, next_offset, epoch in await cursor.fetchall()}
        applied = Applied(await reading.book())
        for part in slices:
            self._sort(part, positions.get(part.part), applied)
        if applied.done:
            await self._decide(connection, applied, wanted)
            await write_book(connection, applied.book)
            await self._advance(connection, applied)
        return applied

    async def _decide(self, connection: AsyncConnection[Any], applied: Applied, wanted: Wanted) -> None:
        book = applied.book
        events = [sourced for part in applied.done for sourced in part.events]
        await read_repeats(connection, book, events)
        bets = await read_rare(connection, book, wanted)
        await read_reversible(connection, book, _reversible(book, wanted.reversible | bets))
        for sourced in events:
            post(book, sourced, self._policies.get(sourced.event.provider, DEFAULT_POLICY))

    def _sort(self, part: Slice, stored: tuple[int, int] | None, applied: Applied) -> None:
        """Tell the part of a slice that the database has from the part that it does not have yet."""
        where = f"{self._topic}-{part.part}"
        ours = self.epochs.get(part.part)
        if ours is None:
            message = f"{where}: let go while its batch waited for its turn"
            raise Unavailable(message)
        if stored is None:
            message = f"{where}: no position is claimed"
            raise InvariantBroken(message)
        next_offset, epoch = stored
        if epoch != ours:
            message = f"{where}: claimed by another worker (epoch {epoch}, ours {ours})"
            raise Fenced(message)
        if part.from_offset > next_offset:
            message = f"{where}@{next_offset}: the next batch begins at {part.from_offset}; nothing may be skipped"
            raise OffsetHole(message)
        applied.epochs[part.part] = epoch
        if part.from_offset < next_offset:
            applied.known.append(Slice(part.part, part.from_offset, min(part.next_offset, next_offset), ()))
        if part.next_offset > next_offset:
            fresh = [sourced for sourced in part.events if sourced.source.offset >= next_offset]
            applied.done.append(
                Slice(part.part, next_offset, part.next_offset, fresh, part.last_timestamp_ms, part.last_checksum)
            )

    async def _advance(self, connection: AsyncConnection[Any], applied: Applied) -> None:
        slices = applied.done
        columns = {
            "consumer": CONSUMER,
            "topic": self._topic,
            "parts": [part.part for part in slices],
            "froms": [part.from_offset for part in slices],
            "nexts": [part.next_offset for part in slices],
            # Not as they are now: a partition may have been let go since the position was locked.
            "epochs": [applied.epochs[part.part] for part in slices],
            "timestamps": [part.last_timestamp_ms for part in slices],
            "checksums": [part.last_checksum for part in slices],
        }
        await connection.execute(_SQL["insert_batches"], columns)
        moved = await connection.execute(_SQL["advance_positions"], columns)
        if moved.rowcount != len(slices):
            message = f"{self._topic}: {moved.rowcount} of {len(slices)} positions moved under their own lock"
            raise InvariantBroken(message)


def _reversible(book: Book, references: Iterable[str]) -> list[Entry]:
    """The stored entries whose movements a rollback, cancel or payment among the events may need."""
    return [
        entry
        for event_id in sorted(references)
        for entry in book.entries.get(event_id, ())
        if entry.transfers and entry.player_id is not None
    ]


def _unstorable(slices: Iterable[Slice]) -> Sourced | None:
    """The first event with a character that PostgreSQL's text cannot hold. The normaliser lets none through."""
    for part in slices:
        for sourced in part.events:
            event = sourced.event
            texts = (event.brand, event.region, event.operation, event.provider_tx_id, event.player_id, event.round_id)
            if any("\0" in text for text in (*texts, event.provider, event.game_id) if text is not None):
                return sourced
    return None
