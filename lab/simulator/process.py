"""A simulated operating-system process that faults can kill, freeze or disconnect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from enum import StrEnum
from random import Random
from typing import Any

from schemas.errors import SendFailed, Unavailable


class FaultKind(StrEnum):
    """Fault that happens to a process at the point that it has reached."""

    KILL = "KILL"
    FREEZE = "FREEZE"
    # The connection is lost: before COMMIT nothing is written, after it the reply is lost.
    CUT = "CUT"
    FAIL = "FAIL"  # the producer gives up on a send


class Process:
    """Runs tasks that live and die together.

    Before each effect outside the process, its tasks call `reach`.
    """

    def __init__(self, name: str, rng: Random, trace: Callable[[str], None]) -> None:
        self.name = name
        self.is_dead = False
        self.freezes = 0
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._rng = rng
        self._trace = trace
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._armed: dict[str, tuple[FaultKind, float]] = {}
        self.faults: list[str] = []
        self.on_freeze: Callable[[Process], None] = lambda _: None

    @property
    def is_frozen(self) -> bool:
        """Whether it is frozen, with its connections and locks."""
        return not self._thawed.is_set()

    def arm(self, point: str, fault: FaultKind, seconds: float = 0.0) -> None:
        """Inject a fault when the process reaches a point for the next time."""
        self._armed[point] = (fault, seconds)

    def disarm(self) -> None:
        """Drop the faults that have not happened yet."""
        self._armed.clear()

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a task; an error in it ends the process, as in a worker."""
        task = asyncio.get_running_loop().create_task(self._run(work))
        if self.is_dead:
            task.cancel()
        self._tasks.add(task)

        def clean_up(_: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            work.close()  # a task that is cancelled before its first step does not start it

        task.add_done_callback(clean_up)
        return task

    async def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - a bug ends it as it would end a real process
            self._trace(f"{self.name} ends: {getattr(error, 'code', type(error).__name__)} {error}")
            self._end(error)

    async def reach(self, point: str) -> None:
        """Pass a named point, at which time may pass or a fault may happen.

        Raises Unavailable, SendFailed.
        """
        if self.is_dead:
            raise asyncio.CancelledError
        if self._rng.random() < 0.1:
            await asyncio.sleep(self._rng.random() * 0.02)
        if self._armed and point in self._armed:
            await self._inject(point)
        while not self._thawed.is_set():
            await self._thawed.wait()
        if self.is_dead:
            raise asyncio.CancelledError

    async def _inject(self, point: str) -> None:
        fault, seconds = self._armed.pop(point)
        self._trace(f"{self.name}: {fault} at {point!r}")
        self.faults.append(f"{fault} at {point}")
        if fault is FaultKind.KILL:
            self.kill()
        elif fault is FaultKind.FREEZE:
            self.freeze(seconds)
        elif fault is FaultKind.CUT:
            message = f"the simulated connection was cut at {point!r}"
            raise Unavailable(message)
        else:
            message = f"the simulated producer gave up at {point!r}"
            raise SendFailed(message)

    def freeze(self, seconds: float) -> None:
        """Stop all tasks for some time."""
        self.freezes += 1
        self._thawed.clear()
        asyncio.get_running_loop().call_later(seconds, self._thawed.set)
        self.on_freeze(self)

    def kill(self) -> None:
        """End the process as SIGKILL does: what it holds in memory has no further effect."""
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self.is_dead:
            return
        self.is_dead = True
        for task in sorted(self._tasks, key=asyncio.Task.get_name):
            task.cancel()
        self.ended.set_result(error)
