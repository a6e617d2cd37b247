"""Counts of a normalising worker since its start, and the log line that reports them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final

from mode import Service

from runtime.telemetry.samples import MetricSample, count_samples
from schemas.topics import TRANSACTIONS, UNRESOLVED

_LOG = logging.getLogger(__name__)
INTERVAL_S: Final = 60.0


@dataclass
class NormaliseStats:
    """Plain counters; a batch is counted after it is durable, a repeated one again.

    `sent` counts events by topic (unqualified) and `versions` by (provider, version) that they were
    read as; `rejected` counts items by code. `clamped` events had a clock that was not believed.
    `fallbacks` counts items by (provider, expected version, version that could read them).
    `StatsLogger` puts them into the log.
    """

    records: int = 0
    clamped: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    versions: Counter[tuple[str, str]] = field(default_factory=Counter)
    fallbacks: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    unsent_samples: int = 0
    """Of the samples for drift: the topic for them is missing."""

    @property
    def accepted_count(self) -> int:
        """Number of events that were sent to the log."""
        return self.sent[TRANSACTIONS]

    @property
    def unresolved_count(self) -> int:
        """Number of events that were sent to the resolver's topic."""
        return self.sent[UNRESOLVED]

    def samples(self) -> Iterator[MetricSample]:
        """Yield the counts as metrics."""
        yield MetricSample("pitboss.normalise.records", (), self.records)
        yield from count_samples("pitboss.normalise.events", self.versions)
        yield from count_samples("pitboss.normalise.rejected", self.rejected)
        yield from count_samples("pitboss.normalise.fallbacks", self.fallbacks)

    def copy(self) -> NormaliseStats:
        """Return the counts as they are now; the copy does not change with them."""
        return deepcopy(self)


class StatsLogger(Service):
    """Service that logs the counts gained since its last line, once a minute and at the end.

    Without counts it logs nothing. It has to be supervised before the intake, to stop after it:
    the intake's last batches are finished while it stops.
    """

    def __init__(
        self,
        stats: NormaliseStats,
        gap_offsets: Callable[[], int],
        interval_s: float = INTERVAL_S,
        **kwargs: Any,
    ) -> None:
        """Log `stats`; `gap_offsets` returns how many offsets held no record since the start."""
        super().__init__(**kwargs)
        self._stats = stats
        self._gap_offsets = gap_offsets
        self._interval_s = interval_s
        self._previous = stats.copy()
        self._previous_gaps = 0

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
        current, gaps = self._stats.copy(), self._gap_offsets()
        line = format_delta(current, self._previous, gaps - self._previous_gaps)
        self._previous, self._previous_gaps = current, gaps
        if line is not None:
            _LOG.info("counted: %s", line)


def format_delta(current: NormaliseStats, previous: NormaliseStats, gap_offsets: int) -> str | None:
    """Format the counts gained since `previous` as one log line; None where there are none.

    `gap_offsets` are offsets in which the raw topics hold no record, such as the markers of
    transactions.
    """
    records, clamped = current.records - previous.records, current.clamped - previous.clamped
    sent, rejected = current.sent - previous.sent, current.rejected - previous.rejected
    texts = []
    if records:
        texts.append(f"{records:,} records")
    if sent:
        texts.append(f"sent {_by_count(sent)}")
    if rejected:
        texts.append(f"{rejected.total():,} items rejected ({_by_count(rejected)})")
    if clamped:
        texts.append(f"{clamped:,} clocks not believed")
    if unsent := current.unsent_samples - previous.unsent_samples:
        texts.append(f"{unsent:,} samples for drift without a topic: run `pitboss topics create`")
    if gap_offsets:
        texts.append(f"{gap_offsets:,} offsets without a record")
    return "; ".join(texts) or None


def _by_count(counts: Mapping[str, int]) -> str:
    """Format counts by name, the highest first; of equals, by name."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count:,} {name}" for name, count in ordered)
