"""One PostgreSQL transaction for a group of batches: position, entries, transfers and balances, or nothing of it.

The position is locked and compared first, so a redelivered batch is trimmed, a hole stops the worker and a zombie is
fenced. A COMMIT whose reply was lost is no special case: the connection is dropped, and the next try reads from the
position how far the database really is.

While PostgreSQL writes one group, the next one is decided on top of it. That draft is written only if nothing else was
committed in between that it hangs on: its positions are where they were, and no transaction has crossed partitions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from psycopg import AsyncConnection

from ledger_sink.rules.book import Book, Sourced
from ledger_sink.rules.posting import post
from ledger_sink.store.database import Database
from ledger_sink.store.player_cache import KnownPlayers, carry_over
from ledger_sink.store.reading import Reading, Wanted, read_book, read_further, wanted_by
from ledger_sink.store.statements import statements
from ledger_sink.store.writing import FEW_EVENTS_MAX, Lines, RowsMoved, Statement, write_book
from schemas.errors import Fenced, InvariantBroken, OffsetHole, Unavailable
from schemas.policies import DEFAULT_POLICY, LedgerPolicy
from schemas.topics import TRANSACTIONS

logger = logging.getLogger(__name__)

CONSUMER = "ledger"
_SQL = statements("ledger")
_EVENTS_AT_ONCE: Final = 100
"""About 2 ms of deciding; then whatever else waits gets its turn, the connection first of all."""


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


@dataclass(slots=True)
class _Draft:
    """A group on its way to be written: what it wants to know, what was decided, and the rows that come of it."""

    slices: Sequence[Slice]
    events: list[Sourced]
    wanted: Wanted
    book: Book = field(default_factory=Book)
    missing: Sequence[str] = ()
    """Players that have to be read from the tables."""
    lines: Lines | None = None
    """None until it is decided."""
    crossings: int = 0
    """How many transactions had crossed partitions when it was read."""


class PostgresLedger:
    """The ledger's tables, used by one task at a time."""

    def __init__(
        self,
        database: Database,
        policies: Mapping[str, LedgerPolicy],
        *,
        topic: str = TRANSACTIONS,
        few_events_max: int = FEW_EVENTS_MAX,
    ) -> None:
        """Groups of more than `few_events_max` events are written by COPY."""
        self.database = database
        self._few_events_max = few_events_max
        self._policies = policies
        self._topic = topic
        self.epochs: dict[int, int] = {}
        """The epoch under which each of our partitions was claimed."""
        self._players = KnownPlayers()
        self._next: _Draft | None = None
        self._deciding: asyncio.Task[_Draft | None] | None = None

    async def apply(self, slices: Sequence[Slice], following: Sequence[Slice] = ()) -> Applied:
        """Decide and commit a group of slices of different partitions, all or nothing.

        `following`, of other partitions than these, is decided meanwhile; nothing of it is written before a call that
        has that very sequence as its `slices`.

        Raises Fenced where another worker has claimed a partition, OffsetHole where the log would be skipped,
        InvariantBroken for a bug, Unavailable while the database is away (nothing may be acknowledged then) and for a
        partition that we have let go since (whoever has it now repeats the slice).
        """
        try:
            try:
                return await self._apply_once(slices, following)
            except RowsMoved:
                # What was remembered is not what the tables hold; what is read anew now is.
                return await self._apply_once(slices, ())
        except InvariantBroken as error:
            culprit = _unstorable(slices)
            if culprit is None:
                raise
            message = f"{culprit}: PostgreSQL stores no NUL; whoever wrote this to the log is not the normaliser"
            raise InvariantBroken(message) from error

    async def _apply_once(self, slices: Sequence[Slice], following: Sequence[Slice]) -> Applied:
        draft, self._next = self._next, None
        if draft is None or draft.slices is not slices:
            draft = self._begun(slices)
        try:
            async with self.database.transaction() as connection:
                applied = await self._apply(connection, draft, following)
        except BaseException:
            # Nobody knows what was committed, so what is remembered may be older than the tables.
            self._players.forget()
            if self._deciding is not None:
                self._deciding.cancel()
                self._deciding = None
            raise
        if applied.done:  # else nothing was read either
            self._players.keep(applied.book, draft.wanted.players, applied.epochs)
        deciding, self._deciding = self._deciding, None
        self._next = await deciding if deciding is not None else None
        return applied

    def _begun(self, slices: Sequence[Slice]) -> _Draft:
        events = [sourced for part in slices for sourced in part.events]
        draft = _Draft(slices, events, wanted_by(events, self._policies))
        epochs = {part.part: self.epochs.get(part.part, 0) for part in slices}
        draft.missing = self._players.enter(draft.book, draft.wanted.players, epochs)
        return draft

    async def _apply(self, connection: AsyncConnection[Any], draft: _Draft, following: Sequence[Slice]) -> Applied:
        later = self._begun(following) if following else None
        if later is not None and later.wanted.crosses:
            later = None  # it has to wait for all that is under way elsewhere
        reading = reading_later = None
        async with connection.pipeline():
            columns = {"consumer": CONSUMER, "topic": self._topic, "parts": [part.part for part in draft.slices]}
            if draft.wanted.crosses:
                await connection.execute(_SQL["lock_all_positions"], columns)
            positions = await connection.execute(_SQL["lock_positions"], columns)
            crossings = await connection.execute(_SQL["crossings"])
            await connection.execute(_SQL["probe_only"])
            if draft.lines is None:
                reading = await read_book(connection, draft.wanted, draft.missing)
            if later is not None:
                reading_later = await read_book(connection, later.wanted, later.missing)
        stored = {part: (next_offset, epoch) for part, next_offset, epoch in await positions.fetchall()}
        [(crossed,)] = await crossings.fetchall()
        applied = Applied(draft.book)
        for part in draft.slices:
            self._sort(part, stored.get(part.part), applied)
        if not applied.done:
            return applied
        lines = await self._lines(connection, draft, reading, applied, crossed)
        if later is not None and reading_later is not None:
            later.crossings = crossed
            await self._fill(connection, later, reading_later, applied.book)
            self._deciding = asyncio.create_task(self._decided_ahead(later))
        last = self._advance(applied, crosses=draft.wanted.crosses)
        moved = await write_book(connection, applied.book, lines, last, self._few_events_max)
        if moved != len(applied.done):
            message = f"{self._topic}: {moved} of {len(applied.done)} positions moved under their own lock"
            raise InvariantBroken(message)
        return applied

    async def _lines(
        self, connection: AsyncConnection[Any], draft: _Draft, reading: Reading | None, applied: Applied, crossed: int
    ) -> Lines:
        """Decide the group, unless that has been done and still holds."""
        if draft.lines is not None and crossed == draft.crossings and not applied.known:
            return draft.lines
        draft.events = [sourced for part in applied.done for sourced in part.events]
        if reading is None:
            self._players.forget()
            applied.book = draft.book = Book()
            async with connection.pipeline():
                reading = await read_book(connection, draft.wanted, sorted(draft.wanted.players))
        await self._fill(connection, draft, reading)
        return await self._decide(draft)

    async def _fill(
        self, connection: AsyncConnection[Any], draft: _Draft, reading: Reading, before: Book | None = None
    ) -> None:
        await reading.enter(draft.book)
        if before is not None:
            carry_over(draft.book, before, draft.wanted.event_ids, draft.wanted.players)
        await read_further(connection, draft.book, draft.wanted, draft.events)

    async def _decide(self, draft: _Draft) -> Lines:
        book, events, lines = draft.book, draft.events, Lines()
        for start in range(0, len(events), _EVENTS_AT_ONCE):
            decided, moved = len(book.decided), len(book.new_transfers)
            for sourced in events[start : start + _EVENTS_AT_ONCE]:
                post(book, sourced, self._policies.get(sourced.event.provider, DEFAULT_POLICY))
            lines.add(book.decided[decided:], book.new_transfers[moved:])
            await asyncio.sleep(0)
        return lines

    async def _decided_ahead(self, draft: _Draft) -> _Draft | None:
        try:
            draft.lines = await self._decide(draft)
        except Exception as error:  # noqa: BLE001  # its own turn comes, and the error with it
            logger.debug("a group could not be decided ahead: %s", error)
            return None
        return draft

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

    def _advance(self, applied: Applied, *, crosses: bool) -> list[Statement]:
        """What ends the transaction: the batch is noted, and the positions move."""
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
        crossing: list[Statement] = [(_SQL["cross"], None)] if crosses else []
        return [(_SQL["insert_batches"], columns), *crossing, (_SQL["advance_positions"], columns)]


def _unstorable(slices: Iterable[Slice]) -> Sourced | None:
    """The first event with a character that PostgreSQL's text cannot hold. The normaliser lets none through."""
    for part in slices:
        for sourced in part.events:
            event = sourced.event
            texts = (event.brand, event.region, event.operation, event.provider_tx_id, event.player_id, event.round_id)
            if any("\0" in text for text in (*texts, event.provider, event.game_id) if text is not None):
                return sourced
    return None
