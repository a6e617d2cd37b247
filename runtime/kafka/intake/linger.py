"""Linger: how long an intake gathers records before it sends the next batch.

A small batch costs nearly as much as a large one, so a feed of few records waits for more (ADR 9).
The wait begins when a batch is sent, and ends when as many records are there as that batch had:
callers that wait for an answer before they call again have all called by then (ADR 41). It lasts
`LINGER_S_PER_RECORD` for each further record of that batch at the longest, and no longer than
`LINGER_MAX_S`. Nothing waits behind a lone record, nor behind a large batch, where more is ready.

Every `WHOLE_EVERY`th wait lasts its whole time: then those that call together are found again,
after they have come apart.

This module decides only when to send. Meanwhile the client fetches on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

LINGER_S_PER_RECORD: Final = 0.003
LINGER_MAX_S: Final = 0.015
"""Part of the time that a decision may take; a transaction of the ledger takes about as long."""
WHOLE_EVERY: Final = 3

_LARGE_SHARE: Final = 4
"""A batch of a quarter of the most records, or more, is large."""


class Linger:
    """The waits of one read loop, each before its next batch."""

    def __init__(self, batch_records_max: int, count_records: Callable[[], int]) -> None:
        """Take the number of records in a full batch, and what counts those that can be sent."""
        self._count_records = count_records
        self._large_records = batch_records_max // _LARGE_SHARE
        self._enough: int | None = None
        """The number of records that ends the wait; None in a whole wait, and in none."""
        self._has_enough = asyncio.Event()
        self._waits = 0

    async def wait(self, sent: int) -> None:
        """Wait behind a batch of `sent` records."""
        wait_s = self.wait_max_s(sent)
        if not wait_s:
            return
        self._waits += 1
        is_whole = self._waits % WHOLE_EVERY == 0
        self._enough = None if is_whole else sent
        self._has_enough.clear()
        self.note_fetch()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._has_enough.wait()
        self._enough = None

    def wait_max_s(self, sent: int) -> float:
        """Return how many seconds to wait at most behind a batch of so many records."""
        if sent >= self._large_records:
            return 0.0
        return min(LINGER_MAX_S, LINGER_S_PER_RECORD * max(0, sent - 1))

    def note_fetch(self) -> None:
        """End the wait if there are enough records by now."""
        if self._enough is not None and self._count_records() >= self._enough:
            self._has_enough.set()
