"""Keeps an outage from filling the logs: aiokafka says the same thing twenty times in each 100 ms
without a broker.
"""

from __future__ import annotations

import logging
import time

EVERY_S = 10.0
TEMPLATES_MAX = 1_000


class LogThrottle(logging.Filter):
    """Lets each message of a library through once in a while, and says how many like it were left
    out.

    Messages are alike when logger, level and template are: their arguments may differ.
    """

    def __init__(self, library: str = "aiokafka", every_s: float = EVERY_S) -> None:
        super().__init__()
        self._library = library
        self._every_s = every_s
        self._last: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to let the record through."""
        if record.name.partition(".")[0] != self._library:
            return True
        alike = (record.name, record.levelno, str(record.msg))
        now = time.monotonic()
        last, left_out = self._last.get(alike, (-self._every_s, 0))
        if now - last < self._every_s:
            self._last[alike] = (last, left_out + 1)
            return False
        if len(self._last) >= TEMPLATES_MAX:
            self._last.clear()
        self._last[alike] = (now, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} alike)", ()
        return True
