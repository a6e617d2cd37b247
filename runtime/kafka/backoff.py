"""Waiting before a new try: longer each time, never in step with others."""

from __future__ import annotations

import random

FIRST_MS = 50
LONGEST_MS = 5_000


class Backoff:
    """The waits of one thing that is tried again and again."""

    def __init__(self, first_ms: int = FIRST_MS, longest_ms: int = LONGEST_MS) -> None:
        self.tries = 0
        self._first_ms = first_ms
        self._longest_ms = longest_ms

    def next_s(self) -> float:
        """Seconds to wait now: the limit doubles with each try up to the longest; half of it is
        left to chance.
        """
        limit_ms = min(self._longest_ms, self._first_ms * 2 ** min(self.tries, 20))
        self.tries += 1
        return random.uniform(limit_ms / 2, limit_ms) / 1000  # spreads load, guards nothing
