"""Linger: how long an intake gathers records before it sends the next batch.

A small batch costs nearly as much as a large one, so a feed of few records waits for more (ADR 9).
The wait begins when a batch is sent, and grows with the number of its records: nothing waits behind
a lone record, and what comes after the wait is over is sent at once. From about a thousand records
a second on the wait is `LINGER_MAX_S`; after a large batch, behind which more is ready, it is zero.

This module decides only when to send. Meanwhile the client fetches on.
"""

from __future__ import annotations

from typing import Final

LINGER_S_PER_RECORD: Final = 0.001
LINGER_MAX_S: Final = 0.015
"""Part of the time that a decision may take; a transaction of the ledger takes about as long."""

_LARGE_SHARE: Final = 4
"""A batch of a quarter of the most records, or more, is large."""


class Linger:
    """The wait of one read loop before its next batch."""

    def __init__(self, batch_records_max: int) -> None:
        """Take the number of records in a full batch."""
        self._large_records = batch_records_max // _LARGE_SHARE

    def after_batch(self, records: int) -> float:
        """Return the seconds to wait after a batch of so many records."""
        if records >= self._large_records:
            return 0.0
        return min(LINGER_MAX_S, LINGER_S_PER_RECORD * max(0, records - 1))
