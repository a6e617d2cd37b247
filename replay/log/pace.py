"""How fast a replay may go, so that the live system beside it does not notice."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_NICENESS: Final = 10

_BLOCKS_PER_S: Final = 20
"""Pieces of a second that a quota is spread over. Each costs the columns' decoder 3 ms whatever is
in it; a second's records at once would keep a core for longer than a decision may take."""
BLOCK_RECORDS_MAX: Final = 8_192

_CPU_SHARE: Final = 0.25
"""Share of a core that writing takes beside a quota."""
_CPU_STEP_S: Final = 0.001


def yield_processor() -> None:
    """Let everything else on this machine have the processor first, from now on.

    Threads that are started later inherit it. Where the kernel groups tasks by session it counts
    within this session only (sched(7)), so a pace spreads the work as well.
    """
    os.nice(_NICENESS)


class ReplayPace:
    """Bounds records a second, and with them the share of a core that writing them takes.

    A reader that is ahead sleeps; after each small step of writing there is a rest. What comes in
    bursts makes every decision beside it wait, however little it is in the mean.
    """

    def __init__(
        self,
        records_per_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        """Allow so many records a second; 0 sets no bound on anything."""
        self.records_per_s = records_per_s
        self._clock = clock
        self._sleep = sleep
        self._cpu_clock = cpu_clock
        self._free_at_s = 0.0
        self._rested_at_cpu_s = cpu_clock()

    @property
    def block_records(self) -> int:
        """How many records to read at a time, at most."""
        if not self.records_per_s:
            return BLOCK_RECORDS_MAX
        return max(1, min(BLOCK_RECORDS_MAX, int(self.records_per_s / _BLOCKS_PER_S)))

    def spend(self, records: int) -> None:
        """Count records that were read, and wait until the next ones may be."""
        if not self.records_per_s:
            return
        now_s = self._clock()
        # What was not used is not saved up: a stretch without records allows no burst.
        self._free_at_s = max(self._free_at_s, now_s) + records / self.records_per_s
        self._sleep(max(0.0, self._free_at_s - now_s))
        self._rested_at_cpu_s = self._cpu_clock()

    def rest(self) -> None:
        """Sleep for as long as the work since the last sleep makes necessary."""
        if not self.records_per_s:
            return
        worked_s = self._cpu_clock() - self._rested_at_cpu_s
        if worked_s >= _CPU_STEP_S:
            self._sleep(worked_s * (1 / _CPU_SHARE - 1))
            self._rested_at_cpu_s = self._cpu_clock()


NO_BOUND: Final = ReplayPace(0)


class PacedWriter(io.BufferedWriter):
    """A new file; before each write there is a rest for the work that made its bytes.

    A writer of columns gives each column's bytes away as soon as it has encoded them.
    """

    def __init__(self, file: Path, pace: ReplayPace) -> None:
        super().__init__(io.FileIO(file, "w"))
        self._pace = pace

    def write(self, data: ReadableBuffer, /) -> int:
        """Rest, and write."""
        self._pace.rest()
        return super().write(data)


class PacedReader(io.BufferedReader):
    """A file; before each read there is a rest for the work on what was read before."""

    def __init__(self, file: Path, pace: ReplayPace) -> None:
        super().__init__(io.FileIO(file))
        self._pace = pace

    def read(self, size: int | None = -1, /) -> bytes:
        """Rest, and read."""
        self._pace.rest()
        return super().read(size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Rest, and read."""
        self._pace.rest()
        return super().readinto(buffer)
