"""Groups of batches from the log to COMMIT: position, entries, transfers and balances, or nothing.

`PostgresLedger.commit_group` takes a group all the way. The position is locked and compared
first, so a redelivered batch is trimmed, a hole stops the worker and a zombie is fenced. A COMMIT
whose reply was lost is not a special case: the connection is dropped, and the next try reads from
the position how far the database really is.

While PostgreSQL writes one group, the next one is decided on top of it (`decide_ahead.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence

from ledger_sink.rules.book import Book, LogEvent
from ledger_sink.store.copy_rows import CopyRows
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.decide_ahead import AheadDecider, carry_over, decide
from ledger_sink.store.groups import AppliedGroup, PendingGroup, Slice, UnbookableEvent
from ledger_sink.store.player_cache import PlayerCache
from ledger_sink.store.reading import (
    PendingReads,
    collect_read_set,
    read_players,
    reads_nothing_else,
)
from ledger_sink.store.transaction import LedgerTransaction
from ledger_sink.store.writing import FEW_EVENTS_MAX, RowsMoved, goes_by_copy
from runtime.hop_tap import HopStep, note_step
from runtime.postgres.database import DataRefused, DemandFailed
from schemas.policies import LedgerPolicy
from schemas.topics import TRANSACTIONS

logger = logging.getLogger(__name__)


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
        """Prepare without connecting. Groups of more than `few_events_max` events go by COPY."""
        self.database = database
        self.epochs: dict[int, int] = {}
        """The epoch under which each of our partitions was claimed."""
        self.unread_groups = self.reread_groups = 0
        """Groups that were written without reading, and those for which that was tried in vain."""
        self._few_events_max = few_events_max
        self._policies = policies
        self._topic = topic
        self._players = PlayerCache()
        self._ahead = AheadDecider(policies)

    async def commit_group(
        self, slices: Sequence[Slice], following: Sequence[Slice] = ()
    ) -> AppliedGroup:
        """Decide and commit a group of slices of different partitions, all or nothing.

        `following`, of other partitions than these, is decided meanwhile; nothing of it is written
        before a call that has exactly that sequence as its `slices`.

        Raises Fenced where another worker has claimed a partition, OffsetHole where the log would
        be skipped, UnbookableEvent for an event that cannot be decided or stored, DataRefused where
        it is not known which one cannot be stored, InvariantBroken for a bug, RowsMoved where
        another writer changes the tables, and Unavailable while the database is away (nothing may
        be acknowledged then) and for a partition that was revoked meanwhile (its next owner repeats
        the slice).
        """
        self._note("grouped", slices)
        try:
            try:
                return await self._commit_once(slices, following)
            except RowsMoved:
                # The cached players differ from the tables, so they are read again.
                return await self._commit_once(slices, ())
        except DataRefused as error:
            culprit = _find_unstorable(slices)
            if culprit is None:
                raise
            message = (
                f"{culprit}: PostgreSQL stores no NUL, and the normaliser lets none through: find"
                " out which writer appended this to the log"
            )
            raise UnbookableEvent(culprit.source, message) from error

    async def _commit_once(
        self, slices: Sequence[Slice], following: Sequence[Slice]
    ) -> AppliedGroup:
        group = self._ahead.take(slices)
        applied = None
        if group is None:
            group = self._prepare(slices)
            if not following and await self._needs_no_reads(group):
                applied = await self._commit_unread(group)
                if applied is None:
                    group = self._prepare(slices)
        try:
            if applied is None:
                async with self.database.trips() as trips:
                    transaction = LedgerTransaction(trips, self._topic, self._few_events_max)
                    applied = await self._execute(transaction, group, following)
        except DemandFailed as error:
            self._forget()
            raise RowsMoved(str(error)) from error
        except BaseException:
            self._forget()
            raise
        applied.committed_ns = time.time_ns()
        self._note("committed", applied.newly_committed)
        if applied.newly_committed:  # else the book was not filled
            self._players.remember(applied.book, group.read_set.players, applied.epochs)
        await self._ahead.finish()
        return applied

    def _forget(self) -> None:
        # What was committed is unknown, so the cache may be older than the tables.
        self._players.clear()
        self._ahead.discard()

    async def _needs_no_reads(self, group: PendingGroup) -> bool:
        """Return whether a group reads nothing but players, if its events are new; read those.

        Raises Unavailable.
        """
        if not 0 < len(group.events) <= self._few_events_max:
            return False
        if not group.read_set.is_self_contained:
            return False
        if group.players_to_read:
            await read_players(self.database, group.book, group.players_to_read)
        return reads_nothing_else(group.read_set, group.events, group.book)

    async def _commit_unread(self, group: PendingGroup) -> AppliedGroup | None:
        """Decide a group by its players alone, and commit it in one round trip.

        The statements check what was taken for granted. None where that does not hold, or where the
        group cannot be written so: nothing was committed then, and it has to be read. Raises as
        `commit_group`.
        """
        applied = AppliedGroup(group.book, list(group.slices))
        try:
            rows = await decide(group, self._policies)
        except UnbookableEvent:
            return None
        for slice_ in group.slices:
            if (epoch := self.epochs.get(slice_.partition)) is None:
                return None
            applied.epochs[slice_.partition] = epoch
        if goes_by_copy(rows, self._few_events_max):
            return None
        applied.decided_ns = time.time_ns()
        self._note("decided", applied.newly_committed)
        try:
            async with self.database.trips() as trips:
                transaction = LedgerTransaction(trips, self._topic, self._few_events_max)
                await transaction.write_unread(applied, rows, group.read_set.event_ids)
        except DemandFailed as error:
            logger.debug("a group has to be read before it is written: %s", error)
            self._players.forget(group.read_set.players)
            self.reread_groups += 1
            return None
        except BaseException:
            self._forget()
            raise
        self.unread_groups += 1
        return applied

    def _note(self, step: HopStep, slices: Sequence[Slice]) -> None:
        for slice_ in slices:
            span = (slice_.from_offset, slice_.next_offset)
            note_step(step, self._topic, slice_.partition, *span)

    def _prepare(self, slices: Sequence[Slice]) -> PendingGroup:
        """Collect what a group has to read, and fill its book with the players in the cache."""
        events = [log_event for slice_ in slices for log_event in slice_.events]
        group = PendingGroup(slices, events, collect_read_set(events, self._policies))
        epochs = {slice_.partition: self.epochs.get(slice_.partition, 0) for slice_ in slices}
        group.players_to_read = self._players.fill(group.book, group.read_set.players, epochs)
        return group

    async def _execute(
        self, transaction: LedgerTransaction, group: PendingGroup, following: Sequence[Slice]
    ) -> AppliedGroup:
        """Lock, read, decide and write in an open transaction; begin to decide what follows."""
        later = self._prepare(following) if following else None
        if later is not None and later.read_set.crosses_partitions:
            later = None  # it has to wait for every other open transaction
        reads = later_reads = None
        async with transaction.trip():
            locks = await transaction.lock(group)
            if group.rows is None:
                reads = await transaction.read(group)
            if later is not None:
                later_reads = await transaction.read(later)
        positions, crossings = await locks.fetch()
        applied = transaction.trim_committed(group, positions, self.epochs)
        if not applied.newly_committed:
            return applied
        rows = await self._rows(transaction, group, reads, applied, crossings)
        if later is not None and later_reads is not None:
            later.crossings = crossings
            await self._fill(transaction, later, later_reads, applied.book)
            self._ahead.start(later)
        applied.decided_ns = time.time_ns()
        self._note("decided", applied.newly_committed)
        await transaction.write(applied, rows, crosses=group.read_set.crosses_partitions)
        return applied

    async def _rows(
        self,
        transaction: LedgerTransaction,
        group: PendingGroup,
        reads: PendingReads | None,
        applied: AppliedGroup,
        crossings: int,
    ) -> CopyRows:
        """Return the group's new rows; decide it, unless that was done ahead and still holds."""
        is_current = crossings == group.crossings and not applied.already_committed
        if group.rows is not None and is_current:
            return group.rows
        group.events = [event for slice_ in applied.newly_committed for event in slice_.events]
        if reads is None:
            self._players.clear()
            applied.book = group.book = Book()
            group.players_to_read = sorted(group.read_set.players)
            async with transaction.trip():
                reads = await transaction.read(group)
        await self._fill(transaction, group, reads)
        return await decide(group, self._policies)

    async def _fill(
        self,
        transaction: LedgerTransaction,
        group: PendingGroup,
        reads: PendingReads,
        before: Book | None = None,
    ) -> None:
        """Complete a group's book; `before` is that of the group just decided, not written yet."""
        await reads.fill(group.book)
        if before is not None:
            carry_over(group.book, before, group.read_set.event_ids, group.read_set.players)
        await transaction.read_follow_ups(group)


def _find_unstorable(slices: Iterable[Slice]) -> LogEvent | None:
    """Return the first event with a character that PostgreSQL's text cannot hold."""
    for slice_ in slices:
        members = (one for event in slice_.events for one in event.members or (event,))
        for log_event in members:
            event = log_event.event
            texts = (
                event.brand,
                event.region,
                event.operation,
                event.provider_tx_id,
                event.player_id,
                event.round_id,
                event.provider,
                event.game_id,
            )
            if any("\0" in text for text in texts if text is not None):
                return log_event
    return None
