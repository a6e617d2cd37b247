"""Says in a normalising worker's log what it has counted: what is flagged is looked at only where
somebody sees it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from mode import Service

from streams.normalise.stats import NormaliseStats, format_delta

_LOG = logging.getLogger(__name__)
INTERVAL_S: Final = 60.0


class StatsLogger(Service):
    """One line a minute, and one at the end, of what came since the last one; nothing where nothing
    came.

    It has to be supervised before the intake, to stop after it: the intake's last batches are
    finished while it stops.
    """

    def __init__(
        self,
        stats: NormaliseStats,
        gap_offsets: Callable[[], int],
        interval_s: float = INTERVAL_S,
        **kwargs: Any,
    ) -> None:
        """`gap_offsets` tells how many offsets held no record since the start."""
        super().__init__(**kwargs)
        self._stats = stats
        self._gap_offsets = gap_offsets
        self._interval_s = interval_s
        self._before = stats.copy()
        self._gaps_before = 0

    @Service.task
    async def _tell_often(self) -> None:
        while not self.should_stop:
            await self.sleep(self._interval_s)
            self.log_delta()

    async def on_stop(self) -> None:
        """Tell what the last minute has not."""
        self.log_delta()

    def log_delta(self) -> None:
        """Log what came since the last time."""
        now, gaps = self._stats.copy(), self._gap_offsets()
        text = format_delta(now, self._before, gaps - self._gaps_before)
        self._before, self._gaps_before = now, gaps
        if text is not None:
            _LOG.info("counted: %s", text)
