"""Group commit: partitions submit their batches one by one, one transaction takes all that wait.

One fsync then serves every partition of the worker. A partition has at most one batch here, so its
order is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from ledger_sink.booking.publisher import Publisher
from ledger_sink.store.groups import Slice, UnbookableEvent
from ledger_sink.store.ledger import PostgresLedger
from runtime.postgres.database import DataRefused

EVENTS_PER_TRANSACTION_MAX: Final = 10_000
"""About 0.3 s of work for a worker that is behind: the cost of a transaction no longer shows."""

PendingSlice = tuple[Slice, asyncio.Future[None]]
"""A slice, and the future that its handler awaits until the commit."""

SliceGroup = list[PendingSlice]


class Committer:
    """Takes slices, commits them in groups, and gives what was decided to the publisher."""

    def __init__(
        self,
        store: PostgresLedger,
        publisher: Publisher,
        *,
        events_max: int = EVENTS_PER_TRANSACTION_MAX,
    ) -> None:
        """Close a group at `events_max` events; the slices left over are decided meanwhile."""
        self._events_max = events_max
        self._store = store
        self._publisher = publisher
        self._queue: asyncio.Queue[PendingSlice] = asyncio.Queue()
        self._slices: list[Slice] = []
        """The group that was passed as the following one: it was decided for exactly this list."""

    async def submit(self, slice_: Slice) -> None:
        """Return once the slice is committed.

        Raises the error that prevented it; after a retriable one the slice may be submitted again.
        UnbookableEvent and DataRefused are raised only where it is this slice that they are about.
        """
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put((slice_, committed))
        await committed

    async def run(self) -> None:
        """Commit group after group for ever; an error is raised where its slices were submitted."""
        group: SliceGroup = []
        while True:
            if not group:
                group = self._take_group(await self._queue.get())
            # The slices that wait by now are decided while PostgreSQL is busy with the group before
            # them.
            following: SliceGroup = []
            if not self._queue.empty():
                following = self._take_group(self._queue.get_nowait())
            later = [slice_ for slice_, _ in following]
            slices = self._slices or [slice_ for slice_, _ in group]
            await self._commit(group, slices, later)
            group, self._slices = following, later

    async def _commit(
        self, group: SliceGroup, slices: Sequence[Slice], later: Sequence[Slice]
    ) -> None:
        """Commit a group and resolve its futures.

        The slice of an event that cannot be booked fails alone, and the others are committed
        without it. Where it is not known which slice that is, each is committed by itself.
        """
        try:
            applied = await self._store.commit_group(slices, later)
            await self._publisher.enqueue(applied)
        except UnbookableEvent as error:
            partition = error.source.partition
            _resolve([one for one in group if one[0].partition == partition], error)
            others = [one for one in group if one[0].partition != partition]
            if others:
                await self._commit(others, [slice_ for slice_, _ in others], ())
        except DataRefused as error:
            if len(group) == 1:
                _resolve(group, error)
                return
            for one in group:
                await self._commit([one], [one[0]], ())
        except Exception as error:  # noqa: BLE001  # the caller tries again or ends the process
            _resolve(group, error)
        else:
            _resolve(group, None)

    def _take_group(self, first: PendingSlice) -> SliceGroup:
        group = [first]
        size = len(first[0].events)
        while size < self._events_max and not self._queue.empty():
            group.append(self._queue.get_nowait())
            size += len(group[-1][0].events)
        return group


def _resolve(group: SliceGroup, failure: Exception | None) -> None:
    for _, committed in group:
        if committed.done():
            continue
        if failure is None:
            committed.set_result(None)
        else:
            committed.set_exception(failure)
