"""Detection of stalls, which are lag without progress for too long, and of what no member holds.

Pure: the caller brings the samples and a clock that only goes forward.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from aiokafka.structs import TopicPartition


@dataclass(frozen=True, slots=True)
class LagSample:
    """The lag of one partition at one moment."""

    end_offset: int | None
    """End of the log; None if the broker did not answer in time, which counts as lag."""
    reached_offset: int | None
    """Up to where work is done; None if that is not known yet, which counts as lag too."""
    is_held: bool
    """Whether this worker has the partition; if not, `reached_offset` is the committed offset."""
    waiting: str | None = None
    """A reason for which no progress is expected: a database that is down, a pause."""
    liveness: str = ""
    """Last liveness note of another holder of the partition; a new one counts as progress."""

    @property
    def has_lag(self) -> bool:
        """Whether there is work to do, as far as is known."""
        if self.end_offset is None or self.reached_offset is None:
            return True
        return self.reached_offset < self.end_offset

    @property
    def progress_mark(self) -> tuple[int | None, bool, str]:
        """Values that are equal in two samples if nothing has moved between them."""
        return self.reached_offset, self.is_held, self.liveness


@dataclass(frozen=True, slots=True)
class Stall:
    """A partition that has lag and has not moved for too long."""

    tp: TopicPartition
    sample: LagSample
    still_ms: int

    def __str__(self) -> str:
        """Return the partition's position, and for how long it has not moved."""
        sample = self.sample
        holder = "held by this worker" if sample.is_held else "not held by this worker"
        at = "an unknown position" if sample.reached_offset is None else str(sample.reached_offset)
        end = "unknown: the broker does not answer"
        if sample.end_offset is not None:
            end = str(sample.end_offset)
        return (
            f"{self.tp.topic}-{self.tp.partition} ({holder}) is at {at}, the log's end is "
            f"{end}, nothing has moved for {self.still_ms} ms"
        )


class StallDetector:
    """Measures for how long each partition has not moved."""

    def __init__(self, stall_ms: int, unheld_stall_ms: int) -> None:
        """Take the limits for partitions that this worker holds, and for those that it does not."""
        self._limits_ms = {True: stall_ms, False: unheld_stall_ms}
        self._still: dict[TopicPartition, tuple[LagSample, int]] = {}

    def observe(self, now_ms: int, samples: Mapping[TopicPartition, LagSample]) -> list[Stall]:
        """Return the stalls, by comparison with earlier samples.

        A partition without a sample is forgotten.
        """
        still, stalls = {}, []
        for tp, sample in samples.items():
            before, since_ms = self._still.get(tp, (sample, now_ms))
            has_moved = before.progress_mark != sample.progress_mark
            if has_moved or sample.waiting or not sample.has_lag:
                since_ms = now_ms
            still[tp] = (sample, since_ms)
            if now_ms - since_ms >= self._limits_ms[sample.is_held]:
                stalls.append(Stall(tp, sample, now_ms - since_ms))
        self._still = still
        return stalls


class OrphanDetector:
    """Detects partitions of a group that no member holds, although its members hold others.

    A group assigns what its leader knows of when it rebalances. Static members that come back
    within their session cause no rebalance: each has what it had, and a topic that was made
    meanwhile belongs to none of them.
    """

    def __init__(self, rejoin_every_ms: int) -> None:
        """Ask for a new assignment at most every `rejoin_every_ms`."""
        self._rejoin_every_ms = rejoin_every_ms
        self._orphans: frozenset[TopicPartition] = frozenset()
        self._rejoined_ms: int | None = None

    def observe(self, now_ms: int, orphans: Collection[TopicPartition]) -> list[TopicPartition]:
        """Return the partitions for which to join the group anew; mostly none.

        They are those that had no holder when it was asked before, either: one that has just been
        created is assigned by the next rebalance.
        """
        lasting = self._orphans.intersection(orphans)
        self._orphans = frozenset(orphans)
        last_ms = self._rejoined_ms
        if not lasting or (last_ms is not None and now_ms - last_ms < self._rejoin_every_ms):
            return []
        self._orphans, self._rejoined_ms = frozenset(), now_ms
        return sorted(lasting)
