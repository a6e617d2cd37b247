"""Group commit: partitions hand in their batches one by one, one transaction takes all that are
waiting.

One fsync then serves every partition of the worker. A partition has at most one batch here, so its
order is kept.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ledger_sink.booking.publisher import Publisher
from ledger_sink.store.ledger import PostgresLedger, Slice

EVENTS_PER_TRANSACTION_MAX: Final = 10_000
"""A third of a second's work of a worker that is behind: what a transaction costs by itself no
longer shows.
"""

PendingSlice = tuple[Slice, asyncio.Future[None]]
SliceGroup = list[PendingSlice]


class Committer:
    """Takes slices, commits them in groups, hands what was decided to the publisher."""

    def __init__(
        self,
        store: PostgresLedger,
        publisher: Publisher,
        *,
        events_max: int = EVENTS_PER_TRANSACTION_MAX,
    ) -> None:
        """At `events_max` events a group takes no further slice; what is left is decided meanwhile."""
        self._events_max = events_max
        self._store = store
        self._publisher = publisher
        self._queue: asyncio.Queue[PendingSlice] = asyncio.Queue()
        self._slices: list[Slice] = []

    async def submit(self, slice_: Slice) -> None:
        """Return once the slice is committed.

        Raises what made it impossible; a retriable error may be tried again.
        """
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put((slice_, committed))
        await committed

    async def run(self) -> None:
        """Commit group after group for ever; an error is handed to those who wait for it."""
        group: SliceGroup = []
        while True:
            if not group:
                group = self._group(await self._queue.get())
            # What waits by now is decided while PostgreSQL is busy with the group before it.
            following = [] if self._queue.empty() else self._group(self._queue.get_nowait())
            failure: Exception | None = None
            later = [slice_ for slice_, _ in following]
            try:
                applied = await self._store.commit_group(
                    self._slices or [slice_ for slice_, _ in group], later
                )
                await self._publisher.enqueue(applied)
            except Exception as error:  # whoever waits decides: try again, or end the process
                failure = error
            for _, committed in group:
                if committed.done():
                    continue
                if failure is None:
                    committed.set_result(None)
                else:
                    committed.set_exception(failure)
            group, self._slices = following, later

    def _group(self, first: PendingSlice) -> SliceGroup:
        group = [first]
        size = len(first[0].events)
        while size < self._events_max and not self._queue.empty():
            group.append(self._queue.get_nowait())
            size += len(group[-1][0].events)
        return group
