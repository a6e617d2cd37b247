"""When lag without progress is a stall.

Pure: the caller brings the sights and a clock that only goes forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka.structs import TopicPartition


@dataclass(frozen=True, slots=True)
class LagSample:
    """One partition at one moment."""

    end_offset: int | None
    """The end of the log; None if the broker did not say in time, which counts as lag."""
    reached_offset: int | None
    """Up to where work is done; None if that is not known yet, which counts as lag too."""
    is_held: bool
    """Whether this worker has the partition; if not, `reached` is what the group has committed."""
    waiting: str | None = None
    """A reason for which standing still is all right: a database that is down, a pause."""
    liveness: str = ""
    """What the holder of a partition that is not ours said last; each new sign of life is as good
    as a movement.
    """

    @property
    def has_lag(self) -> bool:
        """Whether there is something to do, for all we know."""
        return (
            self.end_offset is None
            or self.reached_offset is None
            or self.reached_offset < self.end_offset
        )


@dataclass(frozen=True, slots=True)
class Stall:
    """A partition that has lag and has not moved for too long."""

    tp: TopicPartition
    sample: LagSample
    still_ms: int

    def __str__(self) -> str:
        where = f"{self.tp.topic}-{self.tp.partition}"
        whose = "held by this worker" if self.sample.is_held else "not held by this worker"
        at = (
            "an unknown position"
            if self.sample.reached_offset is None
            else str(self.sample.reached_offset)
        )
        end = (
            "unknown: the broker does not answer"
            if self.sample.end_offset is None
            else str(self.sample.end_offset)
        )
        return f"{where} ({whose}) stands at {at}, the log's end is {end}, nothing has moved for {self.still_ms} ms"


class StallDetector:
    """Remembers since when each partition has not moved."""

    def __init__(self, stall_ms: int, unheld_stall_ms: int) -> None:
        self._limits_ms = {True: stall_ms, False: unheld_stall_ms}
        self._still: dict[TopicPartition, tuple[LagSample, int]] = {}

    def observe(self, now_ms: int, samples: Mapping[TopicPartition, LagSample]) -> list[Stall]:
        """Compare with earlier looks; partitions that are no longer seen are forgotten."""
        still, stalls = {}, []
        for tp, sight in samples.items():
            before, since_ms = self._still.get(tp, (sight, now_ms))
            has_moved = (before.reached_offset, before.is_held, before.liveness) != (
                sight.reached_offset,
                sight.is_held,
                sight.liveness,
            )
            if has_moved or sight.waiting or not sight.has_lag:
                since_ms = now_ms
            still[tp] = (sight, since_ms)
            if now_ms - since_ms >= self._limits_ms[sight.is_held]:
                stalls.append(Stall(tp, sight, now_ms - since_ms))
        self._still = still
        return stalls
