"""One PostgreSQL transaction for a group of batches: position, entries, transfers and balances, or
nothing of it.

The position is locked and compared first, so a redelivered batch is trimmed, a hole stops the
worker and a zombie is fenced. A COMMIT whose reply was lost is no special case: the connection is
dropped, and the next try reads from the position how far the database really is.

While PostgreSQL writes one group, the next one is decided on top of it. That draft is written only
if nothing else was committed in between that it hangs on: its positions are where they were, and no
transaction has crossed partitions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from psycopg import AsyncConnection

from ledger_sink.rules.book import Book, LogEvent
from ledger_sink.rules.posting import post
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.player_cache import PlayerCache, carry_over
from ledger_sink.store.reading import (
    PendingReads,
    ReadSet,
    collect_read_set,
    read_follow_ups,
    send_reads,
)
from ledger_sink.store.statements import statements
from ledger_sink.store.writing import FEW_EVENTS_MAX, CopyRows, RowsMoved, Statement, write_book
from schemas.errors import Fenced, InvariantBroken, OffsetHole, Unavailable
from schemas.policies import DEFAULT_POLICY, LedgerPolicy
from schemas.topics import TRANSACTIONS

logger = logging.getLogger(__name__)

CONSUMER = "ledger"
_SQL = statements("ledger")
_EVENTS_PER_TURN: Final = 100
"""About 2 ms of deciding; then whatever else waits gets its turn, the connection first of all."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The events of one partition from `from_offset` up to, not including, `next_offset`; gaps of
    the log included.
    """

    partition: int
    from_offset: int
    next_offset: int
    events: Sequence[LogEvent]
    last_timestamp_ms: int | None = None
    last_checksum: int | None = None


@dataclass(slots=True)
class AppliedGroup:
    """What a transaction did.

    What is in `known` was committed before: its answers are in the tables.
    """

    book: Book = field(default_factory=Book)
    newly_committed: list[Slice] = field(default_factory=list)
    already_committed: list[Slice] = field(default_factory=list)
    epochs: dict[int, int] = field(default_factory=dict)
    """Under which claim each partition was written."""


@dataclass(slots=True)
class PendingGroup:
    """A group on its way to be written: what it wants to know, what was decided, and the rows that
    come of it.
    """

    slices: Sequence[Slice]
    events: list[LogEvent]
    read_set: ReadSet
    book: Book = field(default_factory=Book)
    players_to_read: Sequence[str] = ()
    """Players that have to be read from the tables."""
    rows: CopyRows | None = None
    """None until it is decided."""
    crossings: int = 0
    """How many transactions had crossed partitions when it was read."""


class PostgresLedger:
    """The ledger's tables, used by one task at a time."""

    def __init__(
        self,
        database: LedgerDatabase,
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
        self._players = PlayerCache()
        self._next: PendingGroup | None = None
        self._deciding: asyncio.Task[PendingGroup | None] | None = None

    async def commit_group(
        self, slices: Sequence[Slice], following: Sequence[Slice] = ()
    ) -> AppliedGroup:
        """Decide and commit a group of slices of different partitions, all or nothing.

        `following`, of other partitions than these, is decided meanwhile; nothing of it is written
        before a call that has that very sequence as its `slices`.

        Raises Fenced where another worker has claimed a partition, OffsetHole where the log would
        be skipped, InvariantBroken for a bug, Unavailable while the database is away (nothing may
        be acknowledged then) and for a partition that we have let go since (whoever has it now
        repeats the slice).
        """
        try:
            try:
                return await self._apply_once(slices, following)
            except RowsMoved:
                # What was remembered is not what the tables hold; what is read anew now is.
                return await self._apply_once(slices, ())
        except InvariantBroken as error:
            culprit = _find_unstorable(slices)
            if culprit is None:
                raise
            message = f"{culprit}: PostgreSQL stores no NUL; whoever wrote this to the log is not the normaliser"
            raise InvariantBroken(message) from error

    async def _apply_once(
        self, slices: Sequence[Slice], following: Sequence[Slice]
    ) -> AppliedGroup:
        draft, self._next = self._next, None
        if draft is None or draft.slices is not slices:
            draft = self._prepare(slices)
        try:
            async with self.database.transaction() as connection:
                applied = await self._apply(connection, draft, following)
        except BaseException:
            # Nobody knows what was committed, so what is remembered may be older than the tables.
            self._players.clear()
            if self._deciding is not None:
                self._deciding.cancel()
                self._deciding = None
            raise
        if applied.newly_committed:  # else nothing was read either
            self._players.remember(applied.book, draft.read_set.players, applied.epochs)
        deciding, self._deciding = self._deciding, None
        self._next = await deciding if deciding is not None else None
        return applied

    def _prepare(self, slices: Sequence[Slice]) -> PendingGroup:
        events = [sourced for part in slices for sourced in part.events]
        draft = PendingGroup(slices, events, collect_read_set(events, self._policies))
        epochs = {part.partition: self.epochs.get(part.partition, 0) for part in slices}
        draft.players_to_read = self._players.fill(draft.book, draft.read_set.players, epochs)
        return draft

    async def _apply(
        self, connection: AsyncConnection[Any], draft: PendingGroup, following: Sequence[Slice]
    ) -> AppliedGroup:
        later = self._prepare(following) if following else None
        if later is not None and later.read_set.crosses_partitions:
            later = None  # it has to wait for all that is under way elsewhere
        reading = reading_later = None
        async with connection.pipeline():
            columns = {
                "consumer": CONSUMER,
                "topic": self._topic,
                "parts": [part.partition for part in draft.slices],
            }
            if draft.read_set.crosses_partitions:
                await connection.execute(_SQL["lock_all_positions"], columns)
            positions = await connection.execute(_SQL["lock_positions"], columns)
            crossings = await connection.execute(_SQL["crossings"])
            await connection.execute(_SQL["probe_only"])
            if draft.rows is None:
                reading = await send_reads(connection, draft.read_set, draft.players_to_read)
            if later is not None:
                reading_later = await send_reads(connection, later.read_set, later.players_to_read)
        stored = {
            part: (next_offset, epoch) for part, next_offset, epoch in await positions.fetchall()
        }
        [(crossed,)] = await crossings.fetchall()
        applied = AppliedGroup(draft.book)
        for part in draft.slices:
            self._trim_committed(part, stored.get(part.partition), applied)
        if not applied.newly_committed:
            return applied
        lines = await self._rows(connection, draft, reading, applied, crossed)
        if later is not None and reading_later is not None:
            later.crossings = crossed
            await self._fill(connection, later, reading_later, applied.book)
            self._deciding = asyncio.create_task(self._decide_ahead(later))
        last = self._advance(applied, crosses=draft.read_set.crosses_partitions)
        moved = await write_book(connection, applied.book, lines, last, self._few_events_max)
        if moved != len(applied.newly_committed):
            message = f"{self._topic}: {moved} of {len(applied.newly_committed)} positions moved under their own lock"
            raise InvariantBroken(message)
        return applied

    async def _rows(
        self,
        connection: AsyncConnection[Any],
        draft: PendingGroup,
        reading: PendingReads | None,
        applied: AppliedGroup,
        crossed: int,
    ) -> CopyRows:
        """Decide the group, unless that has been done and still holds."""
        if draft.rows is not None and crossed == draft.crossings and not applied.already_committed:
            return draft.rows
        draft.events = [sourced for part in applied.newly_committed for sourced in part.events]
        if reading is None:
            self._players.clear()
            applied.book = draft.book = Book()
            async with connection.pipeline():
                reading = await send_reads(
                    connection, draft.read_set, sorted(draft.read_set.players)
                )
        await self._fill(connection, draft, reading)
        return await self._decide(draft)

    async def _fill(
        self,
        connection: AsyncConnection[Any],
        draft: PendingGroup,
        reading: PendingReads,
        before: Book | None = None,
    ) -> None:
        await reading.fill(draft.book)
        if before is not None:
            carry_over(draft.book, before, draft.read_set.event_ids, draft.read_set.players)
        await read_follow_ups(connection, draft.book, draft.read_set, draft.events)

    async def _decide(self, draft: PendingGroup) -> CopyRows:
        book, events, lines = draft.book, draft.events, CopyRows()
        for start in range(0, len(events), _EVENTS_PER_TURN):
            decided, moved = len(book.decisions), len(book.new_transfers)
            for sourced in events[start : start + _EVENTS_PER_TURN]:
                post(book, sourced, self._policies.get(sourced.event.provider, DEFAULT_POLICY))
            lines.add(book.decisions[decided:], book.new_transfers[moved:])
            await asyncio.sleep(0)
        return lines

    async def _decide_ahead(self, draft: PendingGroup) -> PendingGroup | None:
        try:
            draft.rows = await self._decide(draft)
        except Exception as error:  # its own turn comes, and the error with it
            logger.debug("a group could not be decided ahead: %s", error)
            return None
        return draft

    def _trim_committed(
        self, part: Slice, stored: tuple[int, int] | None, applied: AppliedGroup
    ) -> None:
        """Tell the part of a slice that the database has from the part that it does not have yet."""
        where = f"{self._topic}-{part.partition}"
        ours = self.epochs.get(part.partition)
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
        applied.epochs[part.partition] = epoch
        if part.from_offset < next_offset:
            applied.already_committed.append(
                Slice(part.partition, part.from_offset, min(part.next_offset, next_offset), ())
            )
        if part.next_offset > next_offset:
            fresh = [sourced for sourced in part.events if sourced.source.offset >= next_offset]
            applied.newly_committed.append(
                Slice(
                    part.partition,
                    next_offset,
                    part.next_offset,
                    fresh,
                    part.last_timestamp_ms,
                    part.last_checksum,
                )
            )

    def _advance(self, applied: AppliedGroup, *, crosses: bool) -> list[Statement]:
        """What ends the transaction: the batch is noted, and the positions move."""
        slices = applied.newly_committed
        columns = {
            "consumer": CONSUMER,
            "topic": self._topic,
            "parts": [part.partition for part in slices],
            "froms": [part.from_offset for part in slices],
            "nexts": [part.next_offset for part in slices],
            # Not as they are now: a partition may have been let go since the position was locked.
            "epochs": [applied.epochs[part.partition] for part in slices],
            "timestamps": [part.last_timestamp_ms for part in slices],
            "checksums": [part.last_checksum for part in slices],
        }
        crossing: list[Statement] = [(_SQL["cross"], None)] if crosses else []
        return [(_SQL["insert_batches"], columns), *crossing, (_SQL["advance_positions"], columns)]


def _find_unstorable(slices: Iterable[Slice]) -> LogEvent | None:
    """The first event with a character that PostgreSQL's text cannot hold.

    The normaliser lets none through.
    """
    for part in slices:
        for sourced in part.events:
            event = sourced.event
            texts = (
                event.brand,
                event.region,
                event.operation,
                event.provider_tx_id,
                event.player_id,
                event.round_id,
            )
            if any(
                "\0" in text for text in (*texts, event.provider, event.game_id) if text is not None
            ):
                return sourced
    return None
