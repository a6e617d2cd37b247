"""Letting records gather: a small batch costs nearly what a large one costs, so that a feed of few
records waits.

It waits the longer, the more records its last fetch had: a lone one is followed at once, at some
thousand a second the wait is `LINGER_MAX_S`, and behind a large batch, where more lies ready, there
is none. Nothing is decided here but when to ask: what is fetched, and where a batch begins and
ends, is the intake's.
"""

from __future__ import annotations

from typing import Final

LINGER_S_PER_RECORD: Final = 0.001
LINGER_MAX_S: Final = 0.015
"""Of the time that a decision may take; a transaction of the ledger takes about as long."""

_LONG_S: Final = 0.005
_BEHIND_MS: Final = 5


class Linger:
    """How long one feed waits before its next fetch, and within it."""

    def __init__(self) -> None:
        self.linger_s = 0.0

    def after_fetch(self, records: int, *, is_much: bool) -> float:
        """How long to wait after a fetch of so many records; not at all if they are `is_much` of a
        batch already.
        """
        self.linger_s = 0.0 if is_much else min(LINGER_MAX_S, LINGER_S_PER_RECORD * records)
        return self.linger_s

    @property
    def second_fetch_ms(self) -> int | None:
        """After a long wait: how long to ask once more, behind what is there at once; else None.

        The client asks the broker as soon as it has handed out what it had. So after a wait it
        holds what came at the beginning of it, and all that gathered lies behind.
        """
        return _BEHIND_MS if self.linger_s >= _LONG_S else None
