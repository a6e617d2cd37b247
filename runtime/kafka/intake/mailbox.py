"""The mailbox through which the event loop talks to the thread of its consumer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

Request: TypeAlias = Callable[[], None]
"""Is called in the thread, between two polls."""

UNREAD_RECORDS_MAX = 2_000
"""Records that are handed over and that the loop has not taken yet: a full batch."""


class Mailbox:
    """What the event loop has left for the thread; the thread waits here while it does not poll."""

    def __init__(self) -> None:
        """Start empty."""
        self._condition = threading.Condition()
        self._requests: deque[Request] = deque()
        self.unread = 0
        """Number of records that the loop has not taken."""

    def put(self, request: Request) -> None:
        """Leave a request, and wake the thread if it waits here."""
        with self._condition:
            self._requests.append(request)
            self._condition.notify()

    def take(self) -> list[Request]:
        """Return the requests, in their order."""
        with self._condition:
            requests, self._requests = [*self._requests], deque()
        return requests

    def add_unread(self, records: int) -> None:
        """Count records that are handed over, or with a negative number such that are taken."""
        with self._condition:
            was_full, self.unread = self.is_full, self.unread + records
            if was_full and not self.is_full:
                self._condition.notify()

    @property
    def room(self) -> int:
        """How many more records may be handed over; not positive if none."""
        return UNREAD_RECORDS_MAX - self.unread

    @property
    def is_full(self) -> bool:
        """Whether no record may be handed over."""
        return self.room <= 0

    def wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until a condition holds that only a call of this object can change."""
        with self._condition:
            return self._condition.wait_for(condition, timeout_s)

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until there is room or a request; return whether there is."""
        return self.wait(lambda: bool(self._requests) or not self.is_full, timeout_s)
