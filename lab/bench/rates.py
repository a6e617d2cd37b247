"""From samples of a run to a rate, and from rates to a comparison. Pure.

A run is watched from outside: samples of how much had come out by when, and what the process had
spent. Peers are run in turns, ABAB, and compared pair by pair, so that a machine that slows down
slows both sides of a pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

MILLION = 1_000_000


class RateSample(NamedTuple):
    """One observation of a run."""

    at_s: float
    events: int
    """Outputs that the broker has acknowledged since the run began."""
    cpu_s: float
    """What the process has spent since it exists, user and system."""
    machine_cpu_s: float = 0.0
    """What the whole machine has spent since it was booted."""


@dataclass(frozen=True)
class Rate:
    """One run without its edges."""

    events: int
    took_s: float
    cpu_s: float
    elsewhere_cpu_s: float = 0.0
    """What the machine spent on anything but the measured process meanwhile."""

    @property
    def per_s(self) -> float:
        """Events a second."""
        return self.events / self.took_s

    @property
    def cpu_s_per_million(self) -> float:
        """CPU seconds for a million events."""
        return self.cpu_s * MILLION / self.events

    @property
    def elsewhere_cores(self) -> float:
        """Cores that were busy with something else.

        That is the broker, and anything that disturbed the measurement.
        """
        return self.elsewhere_cpu_s / self.took_s


@dataclass(frozen=True)
class Pair:
    """Ours and a peer's run, one right after the other."""

    ours: Rate
    peer: Rate

    @property
    def ratio(self) -> float:
        """Our rate divided by the peer's."""
        return self.ours.per_s / self.peer.per_s


@dataclass(frozen=True)
class Spread:
    """The median of some figures, and their range."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """Return the spread of at least one figure."""
        return cls(median(figures), min(figures), max(figures))


@dataclass(frozen=True)
class Latencies:
    """Times in milliseconds: the median, what one in a hundred exceeds, the longest."""

    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, took_ms: Sequence[float]) -> Latencies:
        """Return the latencies of at least one time.

        A percentile is the smallest figure that so many do not exceed (nearest rank).
        """
        ordered = sorted(took_ms)
        ranks = [-(-len(ordered) * share // 100) - 1 for share in (50, 99)]
        return cls(ordered[ranks[0]], ordered[ranks[1]], ordered[-1])


def rate_of(samples: Sequence[RateSample], edge: int) -> Rate:
    """Return the rate between the edges of a run.

    It goes from the first sample with `edge` events or more to the first that lacks at most so
    many. What came before belongs to the start: joining the group, the first fetch, cold caches.
    And some events are read and not yet written at any time: a process that is timed to the last
    one is credited for those that it had read before the clock began. Needs two samples with a
    difference between them; raises ValueError where the edges are the whole run.
    """
    return rate_between(samples, max(1, edge), samples[-1].events - edge)


def rate_between(samples: Sequence[RateSample], begin: int, end: int) -> Rate:
    """Return the rate from the first sample with `begin` events or more to that with `end`.

    Raises ValueError where there is nothing between them.
    """
    first = next((sample for sample in samples if sample.events >= begin), samples[-1])
    last = next((sample for sample in samples if sample.events >= end), samples[-1])
    if last.events <= first.events or last.at_s <= first.at_s:
        raise ValueError(
            f"nothing is left to measure of {samples[-1].events} events between the first {begin}"
            f" and {end}: use more events"
        )
    cpu_s = last.cpu_s - first.cpu_s
    elsewhere_s = last.machine_cpu_s - first.machine_cpu_s - cpu_s
    return Rate(last.events - first.events, last.at_s - first.at_s, cpu_s, elsewhere_s)
