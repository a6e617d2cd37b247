"""Queue of planned steps in simulated time: by time, then by the order of planning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush

from lab.conformance.intents import Intent

Step = Callable[[int], Iterable[Intent]]
"""Called with its due time in epoch ms; yields what it does then and may plan further steps."""


class Agenda:
    """Steps to come; of two due at the same millisecond, the one planned first comes first."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, int, Step]] = []
        self._planned = 0

    def plan(self, at_ms: int, step: Step) -> None:
        """Have `step` run at a time that is not before the current one."""
        heappush(self._steps, (at_ms, self._planned, step))
        self._planned += 1

    def run(self) -> Iterator[Intent]:
        """Yield all intents in the order of time; endless as long as steps plan steps."""
        while self._steps:
            at_ms, _, step = heappop(self._steps)
            yield from step(at_ms)
