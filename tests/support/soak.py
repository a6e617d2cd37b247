"""Faults of a soak, drawn from one seed: which worker is killed, frozen or joined by a second one, when, for how long.

A kill is SIGKILL, and the supervisor starts the worker again. A freeze is SIGSTOP and, later, SIGCONT: the longest
outlive the group's session, so the worker wakes up as one whose partitions are another's. A second worker that joins,
and leaves again, makes the group share its partitions out anew, twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from pitboss.embedded.processes import poll
from pitboss.workers.supervisor import WorkerProcess

FIRST_AFTER_S = 5.0
GAP_S = 6.0
"""Mean between two faults: a worker of five is hit every half minute, and works in between."""

FREEZE_S = (0.2, 25.0)
JOIN_S = (3.0, 20.0)
ALIVE_WITHIN_S = 120.0

FaultKind = Literal["kill", "freeze", "join"]
KINDS: Sequence[FaultKind] = ("kill", "freeze", "join")


class SoakFault(NamedTuple):
    """One fault; `for_s` is how long a freeze lasts or a second worker stays."""

    at_s: float
    kind: FaultKind
    role: str
    for_s: float


def draw_faults(seed: int, seconds: float, roles: Sequence[str]) -> list[SoakFault]:
    """Return the faults of a soak of so many seconds; a longer one begins with the same."""
    rng = random.Random(seed)
    faults = []
    at_s = FIRST_AFTER_S
    while at_s < seconds:
        kind = rng.choice(KINDS)
        shortest, longest = JOIN_S if kind == "join" else FREEZE_S
        # As many short ones as long ones, on a scale of ratios.
        for_s = shortest * (longest / shortest) ** rng.random()
        faults.append(SoakFault(at_s, kind, rng.choice(roles), for_s))
        at_s += rng.expovariate(1 / GAP_S)
    return faults


class FaultInjector:
    """Does faults to supervised workers as they fall due."""

    def __init__(
        self, workers: Mapping[str, WorkerProcess], second: Callable[[str], WorkerProcess]
    ) -> None:
        """Take the worker of each role, and what makes a second one of a role."""
        self._workers = workers
        self._second = second
        self._busy: set[tuple[FaultKind, str]] = set()
        self.done: Counter[FaultKind] = Counter()
        self.left: Counter[int | None] = Counter()
        """How second workers have ended."""

    async def run(self, faults: Sequence[SoakFault]) -> None:
        """Do the faults; returns when all are over, with every worker awake and no second one left."""
        start_s = time.monotonic()
        async with asyncio.TaskGroup() as running:
            for fault in faults:
                await asyncio.sleep(max(0.0, start_s + fault.at_s - time.monotonic()))
                if (fault.kind, fault.role) not in self._busy:
                    self._busy.add((fault.kind, fault.role))
                    running.create_task(self._do(fault))

    async def _do(self, fault: SoakFault) -> None:
        try:
            act = {"kill": self._kill, "freeze": self._freeze, "join": self._join}[fault.kind]
            await act(fault)
            self.done[fault.kind] += 1
        finally:
            self._busy.discard((fault.kind, fault.role))

    async def _alive(self, role: str) -> WorkerProcess:
        """Return the worker of a role once it runs: its supervisor may be about to start it."""
        worker = self._workers[role]
        assert await asyncio.to_thread(poll, lambda: worker.is_alive, ALIVE_WITHIN_S), (
            f"{worker.name} was not started again"
        )
        return worker

    async def _kill(self, fault: SoakFault) -> None:
        worker = await self._alive(fault.role)
        await asyncio.to_thread(worker.kill)

    async def _freeze(self, fault: SoakFault) -> None:
        worker = await self._alive(fault.role)
        pid = worker.pid
        assert pid is not None
        try:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(fault.for_s)
        finally:
            # It may have been killed meanwhile, frozen as it was; then its successor was never frozen.
            if worker.pid == pid and worker.is_alive:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    async def _join(self, fault: SoakFault) -> None:
        worker = self._second(fault.role)
        await asyncio.to_thread(worker.start)
        try:
            await asyncio.sleep(fault.for_s)
        finally:
            await asyncio.to_thread(worker.stop)
            self.left[worker.exit_code] += 1
