"""Load on a timetable: every record has a time at which it is due, whatever became of earlier ones.

A sender that is timed from its own sends sends less while the system is slow, and what it holds
back does not count as waiting (coordinated omission). Here due times never move: a slow system gets
as many records as a fast one, later ones in larger batches, and the wait of each is measured from
the time at which it was due.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from schemas.errors import UsageError

TICK_S: Final = 0.004
"""What falls due within a tick is sent together, as a busy connector does."""

SPAN_MAX: Final = 500
"""Records sent together at most, also after a slow broker: topics stay in step to so many."""

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
    on_sent: Callable[[int], None] | None = None,
) -> None:
    """Send `total` records as they fall due, each span after the one before is acknowledged.

    What falls due meanwhile forms the next span, so batches grow as the broker slows down; to
    overlap them would only fill the producer's queues with batches of one record. `on_sent` gets
    the number of acknowledged records. Errors of `send` pass through.
    """
    sent = 0
    while sent < total:
        due = min(total, timetable.due_count(time.monotonic()))
        if due <= sent:
            await asyncio.sleep(TICK_S)
            continue
        after = min(due, sent + SPAN_MAX)
        await send(sent, after)
        sent = after
        if on_sent is not None:
            on_sent(sent)
        if sent == due:
            await asyncio.sleep(TICK_S)
