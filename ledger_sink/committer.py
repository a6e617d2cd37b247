"""Group commit: partitions hand in their batches one by one, one transaction takes all that are waiting.

One fsync then serves every partition of the worker. A partition has at most one batch here, so its order is kept.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from ledger_sink.publisher import Publisher
from ledger_sink.store import Applied, PostgresLedger, Slice
from schemas.errors import PitbossError

EVENTS_PER_TRANSACTION_MAX: Final = 5_000
_BACK_OFF_FIRST_S: Final = 0.05
_BACK_OFF_MAX_S: Final = 5.0

Waiting = Callable[[str | None], None]
"""Told why nothing moves while the database is away, and None once it moves again."""


class Committer:
    """Takes slices, commits them in groups, hands what was decided to the publisher."""

    def __init__(self, store: PostgresLedger, publisher: Publisher, report_waiting: Waiting) -> None:
        self._store = store
        self._publisher = publisher
        self._report_waiting = report_waiting
        self._queue: asyncio.Queue[tuple[Slice, asyncio.Future[None]]] = asyncio.Queue()
        self._back_off = random.Random()  # noqa: S311  # jitter between workers, no secret

    async def submit(self, slice_: Slice) -> None:
        """Return once the slice is committed. Raises what made it impossible."""
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self._queue.put((slice_, committed))
        await committed

    async def run(self) -> None:
        """Commit group after group for ever; an error is handed to those who wait for it."""
        while True:
            group = [await self._queue.get()]
            size = len(group[0][0].events)
            while size < EVENTS_PER_TRANSACTION_MAX and not self._queue.empty():
                group.append(self._queue.get_nowait())
                size += len(group[-1][0].events)
            try:
                applied = await self._apply([slice_ for slice_, _ in group])
                await self._publisher.put(applied)
            except Exception as error:  # noqa: BLE001  # goes to each waiting handler, whose agent ends the process
                for _, committed in group:
                    if not committed.done():
                        committed.set_exception(error)
                continue
            for _, committed in group:
                if not committed.done():
                    committed.set_result(None)

    async def _apply(self, slices: list[Slice]) -> Applied:
        delay_s = _BACK_OFF_FIRST_S
        while True:
            try:
                applied = await self._store.apply(slices)
            except PitbossError as error:
                if not error.retriable:
                    raise
                self._report_waiting(str(error))
                await asyncio.sleep(delay_s * self._back_off.uniform(0.5, 1.5))
                delay_s = min(delay_s * 2, _BACK_OFF_MAX_S)
            else:
                self._report_waiting(None)
                return applied
