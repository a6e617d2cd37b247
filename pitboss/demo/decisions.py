"""Decision times of a demo: before a worker is killed, during its absence, and after. Pure.

The decision time of an attempt is the time from when its raw record was due to be sent until a
consumer of the outcomes has its outcome. It begins with the due time of an open loop, so a record
that leaves late because something is slow has waited since then. Times are seconds of one monotonic
clock. What has no outcome (dead letters, events about players) is not counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from lab.bench.rates import Latencies

WARM_UP_S: Final = 5.0
"""Of the play before the kill: a broker that was just started still compiles itself."""

WARM_UP_SHARE_MAX: Final = 0.5
"""Of the time from the first bet to the kill, for a demo that is too short for `WARM_UP_S`."""

UNDER_WAY_S: Final = 1.0
"""What is under way at a kill may arrive for so long afterwards; a worker takes longer to start."""

FED_SHARE_MIN: Final = 0.97
"""Of the rate: with less, the feeder was a bottleneck."""

RECENT_S: Final = 1.0


class Decision(NamedTuple):
    """When a record was due, and when a consumer had the outcome of one attempt in it."""

    due_s: float
    decided_s: float


@dataclass
class TrafficLog:
    """What was observed of the traffic of a demo."""

    decisions: list[Decision] = field(default_factory=list)
    """Of the play, in the order of the outcomes."""
    play_records: int = 0
    play_s: float = 0.0
    """When the first record of the play was due."""
    fed_s: float = 0.0
    """When the last record was acknowledged."""
    killed_s: float = 0.0
    killed_at: int = 0
    """How many events were booked when the worker was killed; 0 if it was not killed."""


class DecisionTimes(msgspec.Struct, frozen=True):
    """Percentiles in milliseconds; None where nothing was decided."""

    p50: int | None
    p99: int | None


class DecisionTimesByPhase(msgspec.Struct, frozen=True):
    """Decision times by what the killed worker was doing.

    Before: decided before the kill, and due after the warm-up. During: decided after the kill, and
    due before its backlog was gone. After: due later than that.
    """

    before: DecisionTimes
    during: DecisionTimes
    after: DecisionTimes


class TrafficFigures(msgspec.Struct, frozen=True):
    """Figures of the traffic of a demo."""

    killed_at: int
    fed_per_s: int
    decision_ms: DecisionTimesByPhase
    kill_gap_ms: int


@dataclass(frozen=True)
class Outage:
    """A killed worker's absence."""

    killed_s: float
    gap_s: float
    """The longest time without any outcome around the kill."""
    recovered_s: float
    """When, after that gap, no more attempts waited than the most that waited before the kill."""


def traffic_figures(log: TrafficLog) -> TrafficFigures:
    """Compute the figures of a traffic whose worker was killed."""
    start_s = measured_from(log.play_s, log.killed_s)
    outage = find_outage(log.decisions, start_s, log.killed_s)
    return TrafficFigures(
        killed_at=log.killed_at,
        fed_per_s=round(log.play_records / max(0.001, log.fed_s - log.play_s)),
        decision_ms=times_by_phase(log.decisions, start_s, outage),
        kill_gap_ms=round(outage.gap_s * 1000),
    )


def find_outage(decisions: Sequence[Decision], measured_from_s: float, killed_s: float) -> Outage:
    """Return the absence of the worker that was killed at `killed_s`.

    Only the time since `measured_from_s` counts for how many attempts waited before the kill.
    """
    gap_start_s, gap_end_s = _gap_around(sorted(one.decided_s for one in decisions), killed_s)
    changes = [(one.due_s, 1) for one in decisions] + [(one.decided_s, -1) for one in decisions]
    waiting = peak = 0
    recovered_s = gap_end_s
    for at_s, change in sorted(changes):
        waiting += change
        if measured_from_s <= at_s < killed_s:
            peak = max(peak, waiting)
        if at_s >= gap_end_s:
            recovered_s = at_s
            if waiting <= peak:
                break
    return Outage(killed_s, gap_end_s - gap_start_s, recovered_s)


def _gap_around(decided_s: Sequence[float], killed_s: float) -> tuple[float, float]:
    gaps = [
        (start_s, end_s)
        for start_s, end_s in pairwise(decided_s)
        if end_s > killed_s and start_s < killed_s + UNDER_WAY_S
    ]
    return max(gaps, key=lambda gap: gap[1] - gap[0], default=(killed_s, killed_s))


def measured_from(play_s: float, killed_s: float) -> float:
    """Return when the warm-up ends, for play that begins at `play_s`."""
    return play_s + min(WARM_UP_S, (killed_s - play_s) * WARM_UP_SHARE_MAX)


def times_by_phase(
    decisions: Sequence[Decision], measured_from_s: float, outage: Outage
) -> DecisionTimesByPhase:
    """Return the percentiles before, during and after an outage."""
    before = [
        one for one in decisions if one.due_s >= measured_from_s and one.decided_s < outage.killed_s
    ]
    during = [
        one
        for one in decisions
        if one.decided_s >= outage.killed_s and one.due_s <= outage.recovered_s
    ]
    after = [one for one in decisions if one.due_s > outage.recovered_s]
    return DecisionTimesByPhase(*(_percentiles(phase) for phase in (before, during, after)))


def _percentiles(decisions: Sequence[Decision]) -> DecisionTimes:
    if not decisions:
        return DecisionTimes(None, None)
    took = Latencies.of([(one.decided_s - one.due_s) * 1000 for one in decisions])
    return DecisionTimes(round(took.p50_ms), round(took.p99_ms))


def feed_shortfall(fed_per_s: int, rate: float | None) -> str:
    """Return a warning if the feeder did not keep its rate, else an empty text."""
    if rate is None or fed_per_s >= rate * FED_SHARE_MIN:
        return ""
    return (
        f"fed {fed_per_s:,} records a second instead of {rate:,.0f}: this machine is too slow or"
        " too busy for the rate, and the decision times are those of a backlog; try a lower --rate"
    )


class RecentDecisions:
    """Decisions of the last second, for a display."""

    def __init__(self) -> None:
        self._decisions: deque[Decision] = deque()
        self._latest_s: float | None = None

    def add(self, decision: Decision) -> None:
        """Add a decision; they come in the order in which they were decided."""
        self._decisions.append(decision)
        self._latest_s = decision.decided_s

    def describe(self, now_s: float) -> str:
        """Return the median decision time of the last second, or for how long there was none."""
        while self._decisions and self._decisions[0].decided_s < now_s - RECENT_S:
            self._decisions.popleft()
        if self._decisions:
            return f"p50 {_percentiles(self._decisions).p50:,} ms"
        return "" if self._latest_s is None else f"no answer for {now_s - self._latest_s:.1f} s"
