"""Linger: how long an intake waits for more records before its next fetch, and within it.

A small batch costs nearly as much as a large one, so a feed of few records waits for more (ADR 9).
The wait grows with the number of records that the last fetch returned. A lone record is followed by
the next fetch after a millisecond; from about a thousand records a second on the wait is
`LINGER_MAX_S`; after a large batch, behind which more is ready, the wait is zero.

This module decides only when to fetch. What is fetched, and where a batch begins and ends, is
decided by the intake.
"""

from __future__ import annotations

from typing import Final

LINGER_S_PER_RECORD: Final = 0.001
LINGER_MAX_S: Final = 0.015
"""Part of the time that a decision may take; a transaction of the ledger takes about as long."""

_LARGE_SHARE: Final = 4
"""A fetch of a quarter of a full batch or more is large."""

_SECOND_FETCH_AFTER_S: Final = 0.005
"""After a shorter wait, too few records have arrived to be worth a second fetch."""

_SECOND_FETCH_MS: Final = 5
"""Bounds what the second fetch adds to the wait; the broker answers at once if it has records."""


class Linger:
    """The wait of one read loop before its next fetch."""

    def __init__(self, batch_records_max: int) -> None:
        """Start without a wait.

        `batch_records_max` is the number of records in a full batch.
        """
        self.linger_s = 0.0
        """Seconds to wait after the last fetch."""
        self.expects_more = False
        """Whether the last fetch was large, so that a full batch is likely to be ready."""
        self._large_records = batch_records_max // _LARGE_SHARE

    def after_fetch(self, records: int) -> float:
        """Return the seconds to wait after a fetch of so many records; 0 after a large one."""
        self.expects_more = records >= self._large_records
        self.linger_s = 0.0 if self.expects_more else _linger_s(records)
        return self.linger_s

    @property
    def second_fetch_ms(self) -> int | None:
        """Time to wait for a second fetch, after a long wait; None after a short one.

        The client asks the broker as soon as it has returned what it held. So after a wait it holds
        what came at the beginning of the wait, and all that arrived since is one fetch behind.
        """
        return _SECOND_FETCH_MS if self.linger_s >= _SECOND_FETCH_AFTER_S else None


def _linger_s(records: int) -> float:
    return min(LINGER_MAX_S, LINGER_S_PER_RECORD * records)
