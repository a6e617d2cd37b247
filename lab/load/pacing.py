"""Open loop: records leave when they are due, whether or not earlier ones are acknowledged.

A sender that waits for each acknowledgement sends less while the system is slow, and the records
that it holds back do not count as waiting (coordinated omission). Here a slow system gets as many
records as a fast one, and every record has a due time from which its wait can be measured.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from schemas.errors import UsageError

TICK_S: Final = 0.004
"""What falls due within a tick is sent together, as a busy connector does."""

SendSpan = Callable[[int, int], Awaitable[None]]
"""Sends the records from the first index up to, but without, the second; returns when they are
acknowledged.
"""


@dataclass(frozen=True)
class Timetable:
    """Due times of the records of one load, in seconds of `time.monotonic`."""

    rate: float
    """Records a second."""
    start_s: float

    def __post_init__(self) -> None:
        """Raise UsageError for a rate that is not above zero."""
        if not self.rate > 0:
            raise UsageError("the rate must be above zero")

    def due_s(self, index: int) -> float:
        """Return when the record with this index is due; the first one at the start."""
        return self.start_s + index / self.rate

    def due_count(self, now_s: float) -> int:
        """Return how many records are due by now."""
        return int((now_s - self.start_s) * self.rate) + 1 if now_s >= self.start_s else 0


async def send_on_time(
    timetable: Timetable,
    total: int,
    send: SendSpan,
    on_acknowledged: Callable[[int], None] | None = None,
) -> None:
    """Send `total` records as they fall due, and wait until all are acknowledged.

    Calls of `send` begin in the order of the records and overlap. `on_acknowledged` gets the number
    of records before the first unacknowledged one. The first error of `send` ends the load and is
    raised as it is.
    """
    acknowledged = _AcknowledgedPrefix(on_acknowledged)
    sent = 0

    async def send_span(first: int, after: int) -> None:
        await send(first, after)
        acknowledged.complete(first, after)

    try:
        async with asyncio.TaskGroup() as sends:
            while sent < total:
                due = min(total, timetable.due_count(time.monotonic()))
                if due > sent:
                    acknowledged.begin(sent)
                    sends.create_task(send_span(sent, due))
                    sent = due
                await asyncio.sleep(TICK_S)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


class _AcknowledgedPrefix:
    """Counts the records before the first one that is not acknowledged."""

    def __init__(self, report: Callable[[int], None] | None) -> None:
        self._report = report
        self._open: deque[int] = deque()
        self._ends: dict[int, int] = {}

    def begin(self, first: int) -> None:
        self._open.append(first)

    def complete(self, first: int, after: int) -> None:
        self._ends[first] = after
        count = None
        while self._open and self._open[0] in self._ends:
            count = self._ends.pop(self._open.popleft())
        if count is not None and self._report is not None:
            self._report(count)
