"""Counts of a gateway since its start, and the log line that reports them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from mode import Service

from runtime.telemetry.samples import MetricSample, count_samples

_LOG = logging.getLogger(__name__)
INTERVAL_S: Final = 60.0

SHOWN_AT_ZERO: Final = (
    "failed",
    "taken back",
    "refused, the circuit is open",
    "refused, too many calls in flight",
)
"""Endings without a decision that are shown from the start: the rate of a counter that begins with
its first call misses that call, and an alert on it has no data before."""


@dataclass
class GatewayStats:
    """Plain counters: `calls` by provider, `endings` by how a call ended (`count_ending`)."""

    calls: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)

    def samples(self) -> Iterator[MetricSample]:
        """Yield the counts as metrics."""
        yield from count_samples("pitboss.gateway.calls", self.calls)
        endings = dict.fromkeys(SHOWN_AT_ZERO, 0) | self.endings
        yield from count_samples("pitboss.gateway.endings", endings)

    def copy(self) -> GatewayStats:
        """Return the counts as they are now; the copy does not change with them."""
        return GatewayStats(self.calls.copy(), self.endings.copy())


class GatewayStatsLogger(Service):
    """Service that logs the counts gained since its last line, once a minute and at the end."""

    def __init__(self, stats: GatewayStats, interval_s: float = INTERVAL_S, **kwargs: Any) -> None:
        """Log `stats`; without new counts nothing is logged."""
        super().__init__(**kwargs)
        self._stats = stats
        self._interval_s = interval_s
        self._previous = stats.copy()

    @Service.task
    async def _log_loop(self) -> None:
        while not self.should_stop:
            await self.sleep(self._interval_s)
            self.log_delta()

    async def on_stop(self) -> None:
        """Log the counts gained since the last line."""
        self.log_delta()

    def log_delta(self) -> None:
        """Log the counts gained since the last line, if there are any."""
        current = self._stats.copy()
        line = format_delta(current, self._previous)
        self._previous = current
        if line is not None:
            _LOG.info("counted: %s", line)


def format_delta(current: GatewayStats, previous: GatewayStats) -> str | None:
    """Format the counts gained since `previous` as one log line; None where there are none."""
    calls, endings = current.calls - previous.calls, current.endings - previous.endings
    parts = []
    if calls:
        parts.append(f"{calls.total():,} calls ({_by_count(calls)})")
    if endings:
        parts.append(_by_count(endings))
    return "; ".join(parts) or None


def _by_count(counts: Counter[str]) -> str:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count:,} {name}" for name, count in ordered)
