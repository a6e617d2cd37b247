"""Group commit: partitions submit their batches one by one, one transaction takes all that wait.

One fsync then serves every partition of the worker. A partition has at most one batch here, so its
order is kept. While the database is slow, groups are small, and a batch is cut into as many slices
as that takes (`group_size.py`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from ledger_sink.booking.group_size import TRANSACTION_TARGET_S, GroupSize
from ledger_sink.booking.publisher import Publisher
from ledger_sink.store.groups import Slice, UnbookableEvent, split_slice
from ledger_sink.store.ledger import PostgresLedger
from runtime.postgres.database import DataRefused, StatementTimeout
from schemas.errors import PitbossError

EVENTS_PER_TRANSACTION_MAX: Final = 10_000
"""About 0.3 s of work for a worker that is behind: the cost of a transaction no longer shows."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class PendingSlice:
    """A partition's slice that waits for its commit, in one piece or in several."""

    rest: Slice
    """What no transaction has committed yet."""
    committed: asyncio.Future[None]
    """Done when all of it is committed; the handler awaits it."""
    on_reached: Callable[[int], None]


@dataclass(slots=True)
class SliceGroup:
    """The slices of one transaction: the first pieces of what some partitions wait for."""

    pending: list[PendingSlice]
    slices: list[Slice]
    """The same list object in both calls of the store: as following and as present group."""
    rests: list[Slice | None]
    """What follows each of the slices."""

    @property
    def events(self) -> int:
        """Number of events in the group."""
        return sum(len(slice_.events) for slice_ in self.slices)

    def select(self, partitions: Collection[int]) -> SliceGroup:
        """Return the group of the slices of these partitions, in their order."""
        wanted = [n for n, slice_ in enumerate(self.slices) if slice_.partition in partitions]
        return SliceGroup(
            [self.pending[n] for n in wanted],
            [self.slices[n] for n in wanted],
            [self.rests[n] for n in wanted],
        )

    def fail(self, error: Exception) -> None:
        """Raise an error where the slices were submitted."""
        for pending in self.pending:
            if not pending.committed.done():
                pending.committed.set_exception(error)


class Committer:
    """Takes slices, commits them in groups, and gives what was decided to the publisher."""

    def __init__(
        self,
        store: PostgresLedger,
        publisher: Publisher,
        *,
        events_max: int = EVENTS_PER_TRANSACTION_MAX,
        target_s: float = TRANSACTION_TARGET_S,
    ) -> None:
        """Commit at most `events_max` events together, fewer if that takes more than `target_s`."""
        self._size = GroupSize(events_max, target_s)
        self._store = store
        self._publisher = publisher
        self._queue: asyncio.Queue[PendingSlice] = asyncio.Queue()

    async def submit(
        self, slice_: Slice, on_reached: Callable[[int], None] = lambda _: None
    ) -> None:
        """Return once the slice is committed; `on_reached` takes the end of each piece before it.

        Raises the error that prevented it; after a retriable one the slice may be submitted again,
        or what is left of it behind the last piece. UnbookableEvent and DataRefused are raised only
        where it is this slice that they are about.
        """
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put(PendingSlice(slice_, committed, on_reached))
        await committed

    async def run(self) -> None:
        """Commit group after group for ever; an error is raised where its slices were submitted."""
        group: SliceGroup | None = None
        while True:
            if group is None:
                group = self._take_group(await self._queue.get())
            # The slices that wait by now are decided while PostgreSQL is busy with the group before
            # them.
            following: SliceGroup | None = None
            if not self._queue.empty():
                following = self._take_group(self._queue.get_nowait())
            is_smaller = await self._commit(group, following)
            if is_smaller and following is not None:
                for pending in following.pending:  # taken when groups were larger
                    self._queue.put_nowait(pending)
                following = None
            group = following

    async def _commit(self, group: SliceGroup, following: SliceGroup | None) -> bool:
        """Commit a group and answer its slices; return whether groups are smaller from now on."""
        was = self._size.events
        await self._commit_slices(group, [] if following is None else following.slices)
        return self._size.events < was

    async def _commit_slices(self, group: SliceGroup, later: Sequence[Slice]) -> None:
        """Commit a group and answer its slices.

        The slice of an event that cannot be booked fails alone, and the others are committed
        without it. Where it is not known which slice that is, each is committed by itself.
        """
        began_s = time.monotonic()
        try:
            applied = await self._store.commit_group(group.slices, later)
            self._size.note_commit(group.events, time.monotonic() - began_s)
            await self._publisher.enqueue(applied)
        except UnbookableEvent as error:
            failed = {error.source.partition}
            group.select(failed).fail(error)
            others = group.select({slice_.partition for slice_ in group.slices} - failed)
            if others.pending:
                await self._commit_slices(others, ())
        except DataRefused as error:
            if len(group.pending) == 1:
                group.fail(error)
                return
            for slice_ in group.slices:
                await self._commit_slices(group.select({slice_.partition}), ())
        except Exception as error:  # noqa: BLE001  # the caller tries again or ends the process
            self._note_failure(group, time.monotonic() - began_s, error)
            group.fail(error)
        else:
            for pending, slice_, rest in zip(group.pending, group.slices, group.rests, strict=True):
                self._answer(pending, slice_, rest)

    def _answer(self, pending: PendingSlice, slice_: Slice, rest: Slice | None) -> None:
        if pending.committed.done():  # its handler was cancelled
            return
        if rest is None:
            pending.committed.set_result(None)
            return
        pending.rest = rest
        pending.on_reached(slice_.next_offset)
        self._queue.put_nowait(pending)

    def _note_failure(self, group: SliceGroup, elapsed_s: float, error: Exception) -> None:
        if not isinstance(error, PitbossError) or not error.retriable:
            return
        events = group.events
        timed_out = isinstance(error, StatementTimeout)
        if self._size.note_failure(events, elapsed_s, timed_out=timed_out):
            logger.warning(
                "the database is slow: %d events were not booked in %.1f s, the next transactions"
                " take %d at most",
                events,
                elapsed_s,
                self._size.events,
            )

    def _take_group(self, first: PendingSlice) -> SliceGroup:
        group, room = SliceGroup([], [], []), self._size.events
        pending: PendingSlice | None = first
        while pending is not None:
            slice_, rest = split_slice(pending.rest, room)
            group.pending.append(pending)
            group.slices.append(slice_)
            group.rests.append(rest)
            room -= len(slice_.events)
            pending = None if room <= 0 or self._queue.empty() else self._queue.get_nowait()
        return group
