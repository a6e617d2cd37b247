"""The statements of one ledger transaction, in their order: lock, read, write."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

from psycopg import AsyncCursor

from ledger_sink.store.copy_rows import CopyRows
from ledger_sink.store.groups import CONSUMER, AppliedGroup, PendingGroup, Slice
from ledger_sink.store.reading import PendingReads, read_follow_ups, send_reads
from ledger_sink.store.statements import plain_array, statements
from ledger_sink.store.writing import (
    Statement,
    copy_book,
    goes_by_copy,
    unread_book_columns,
    write_book,
)
from runtime.postgres.database import TransactionTrips
from schemas.errors import Fenced, InvariantBroken, OffsetHole, Unavailable

_SQL = statements("ledger")


@dataclass(frozen=True, slots=True)
class PositionLocks:
    """Locks that are under way in a pipeline."""

    positions: AsyncCursor[Any]
    crossings: AsyncCursor[Any]

    async def fetch(self) -> tuple[dict[int, tuple[int, int]], int]:
        """Return next offset and epoch by partition, and how many transactions have crossed."""
        rows = await self.positions.fetchall()
        [(crossings,)] = await self.crossings.fetchall()
        return {partition: (offset, epoch) for partition, offset, epoch in rows}, crossings


class LedgerTransaction:
    """One transaction of the ledger: `write` or `write_unread` commits it."""

    def __init__(self, trips: TransactionTrips, topic: str, few_events_max: int) -> None:
        self._trips = trips
        self._connection = trips.connection
        self._topic = topic
        self._few_events_max = few_events_max

    def trip(self) -> AbstractAsyncContextManager[None]:
        """Return a block whose `lock` and `read` cost one round trip together."""
        return self._trips.trip()

    async def lock(self, group: PendingGroup) -> PositionLocks:
        """Lock the positions of a group's partitions, or of all if an event may mean any of them.

        Always first and always in this order: it fences zombies, trims redelivery and keeps two
        groups from a deadlock.
        """
        connection = self._connection
        columns = {
            "consumer": CONSUMER,
            "topic": self._topic,
            "parts": [slice_.partition for slice_ in group.slices],
        }
        if group.read_set.crosses_partitions:
            await connection.execute(_SQL["lock_all_positions"], columns)
        positions = await connection.execute(_SQL["lock_positions"], columns)
        crossings = await connection.execute(_SQL["crossings"])
        await connection.execute(_SQL["probe_only"])
        return PositionLocks(positions, crossings)

    async def read(self, group: PendingGroup) -> PendingReads:
        """Send the queries for what a group's events may touch; the answers fill its book."""
        return await send_reads(self._connection, group.read_set, group.players_to_read)

    async def read_follow_ups(self, group: PendingGroup) -> None:
        """Add to a group's book the rows that depend on the answers of `read`."""
        await read_follow_ups(self._connection, group.book, group.read_set, group.events)

    def trim_committed(
        self,
        group: PendingGroup,
        positions: Mapping[int, tuple[int, int]],
        epochs: Mapping[int, int],
    ) -> AppliedGroup:
        """Split a group's slices into those that are committed already and the new ones.

        `positions`: next offset and epoch as locked. `epochs`: under which each partition is ours.
        Raises as `check_position`.
        """
        applied = AppliedGroup(group.book)
        for slice_ in group.slices:
            partition = slice_.partition
            next_offset, epoch = check_position(
                f"{self._topic}-{partition}",
                slice_.from_offset,
                positions.get(partition),
                epochs.get(partition),
            )
            applied.epochs[partition] = epoch
            _trim_committed(slice_, next_offset, applied)
        return applied

    async def write(self, applied: AppliedGroup, rows: CopyRows, *, crosses: bool) -> None:
        """Write the decided rows, record the batches, move the positions, and commit.

        `crosses`: whether the group has crossed partitions. Raises DemandFailed where a row is not
        as it was read.
        """
        if goes_by_copy(rows, self._few_events_max):
            await copy_book(self._connection, rows)
        async with self._trips.trip(is_last=True):
            await self._write(applied, rows, crosses=crosses)

    async def write_unread(
        self, applied: AppliedGroup, rows: CopyRows, event_ids: Collection[str]
    ) -> None:
        """Lock the positions, write rows of few events that were decided before, and commit.

        All in one round trip. Raises DemandFailed, and nothing is written, unless the positions are
        where the slices begin, under our claims, and none of the `event_ids` is known.
        """
        columns = self._columns(applied)
        book_columns = unread_book_columns(applied.book, rows, event_ids)
        if book_columns is not None:
            await self._trips.commit_all(
                [
                    (_SQL["demand_positions"], columns),
                    (_SQL["write_unread"], columns | book_columns),
                ]
            )
            return
        async with self._trips.trip(is_last=True):
            await self._connection.execute(_SQL["demand_positions"], columns)
            ids = {"event_ids": plain_array(event_ids)}
            await self._connection.execute(_SQL["demand_unknown"], ids)
            await self._write(applied, rows, crosses=False)

    async def _write(self, applied: AppliedGroup, rows: CopyRows, *, crosses: bool) -> None:
        last = self._last_statements(applied, crosses=crosses)
        await write_book(self._connection, applied.book, rows, last, self._few_events_max)

    def _last_statements(self, applied: AppliedGroup, *, crosses: bool) -> list[Statement]:
        columns = self._columns(applied)
        crossing: list[Statement] = [(_SQL["cross"], None)] if crosses else []
        return [
            (_SQL["insert_batches"], columns),
            *crossing,
            (_SQL["advance_positions"], columns),
        ]

    def _columns(self, applied: AppliedGroup) -> dict[str, str]:
        """Return the columns of the batches and positions."""
        slices = applied.newly_committed
        return {
            "consumer": CONSUMER,
            "topic": self._topic,
            "parts": plain_array([slice_.partition for slice_ in slices]),
            "froms": plain_array([slice_.from_offset for slice_ in slices]),
            "nexts": plain_array([slice_.next_offset for slice_ in slices]),
            # Not the present ones: a partition may have been revoked since its position was locked.
            "epochs": plain_array([applied.epochs[slice_.partition] for slice_ in slices]),
            "timestamps": plain_array([slice_.last_timestamp_ms for slice_ in slices]),
            "checksums": plain_array([slice_.last_checksum for slice_ in slices]),
        }


def check_position(
    where: str, from_offset: int, stored: tuple[int, int] | None, epoch: int | None
) -> tuple[int, int]:
    """Return the locked position's next offset and epoch, if a batch may continue from there.

    `stored` is that position, `epoch` the one under which the partition is ours. Raises Unavailable
    for a partition that was revoked meanwhile, Fenced for one that another worker has claimed,
    OffsetHole where the batch begins beyond the position, InvariantBroken without a claim.
    """
    if epoch is None:
        message = f"{where}: revoked while its batch waited for its turn; its next owner repeats it"
        raise Unavailable(message)
    if stored is None:
        message = f"{where}: no position is claimed"
        raise InvariantBroken(message)
    next_offset, stored_epoch = stored
    if stored_epoch != epoch:
        message = f"{where}: claimed by another worker (epoch {stored_epoch}, ours {epoch})"
        raise Fenced(message)
    if from_offset > next_offset:
        message = (
            f"{where}@{next_offset}: the next batch begins at {from_offset}; nothing may be skipped"
        )
        raise OffsetHole(message)
    return next_offset, epoch


def _trim_committed(slice_: Slice, next_offset: int, applied: AppliedGroup) -> None:
    partition, begin, end = slice_.partition, slice_.from_offset, slice_.next_offset
    if begin < next_offset:
        applied.already_committed.append(Slice(partition, begin, min(end, next_offset), ()))
    if end > next_offset:
        events = [event for event in slice_.events if event.source.offset >= next_offset]
        first = bisect_left(slice_.records, next_offset, key=lambda record: record.offset)
        # With the records: the publisher sends the traces of their headers on.
        new = replace(
            slice_, from_offset=next_offset, events=events, records=slice_.records[first:]
        )
        applied.newly_committed.append(new)
