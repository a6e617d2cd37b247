"""A simulated operating-system process: it can be killed, frozen and thawed, and be struck at any
point it reaches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from enum import StrEnum
from random import Random
from typing import Any

from schemas.errors import SendFailed, Unavailable


class FaultKind(StrEnum):
    """What happens to a process at the point it has reached."""

    KILL = "KILL"
    FREEZE = "FREEZE"
    CUT = "CUT"  # the connection is lost: before COMMIT nothing is written, after it the reply is swallowed
    FAIL = "FAIL"  # the producer gives a send up for good


class Process:
    """Runs tasks that share one fate.

    Everything they do to the world outside goes through `reach`.
    """

    def __init__(self, name: str, chance: Random, trace: Callable[[str], None]) -> None:
        self.name = name
        self.is_dead = False
        self.freezes = 0
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._chance = chance
        self._trace = trace
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._armed: dict[str, tuple[FaultKind, float]] = {}
        self.faults: list[str] = []
        self.on_freeze: Callable[[Process], None] = lambda _: None

    @property
    def is_frozen(self) -> bool:
        """Whether it stands still, with all that it holds."""
        return not self._thawed.is_set()

    def arm(self, point: str, blow: FaultKind, seconds: float = 0.0) -> None:
        """Strike when the process reaches a point for the next time."""
        self._armed[point] = (blow, seconds)

    def disarm(self) -> None:
        """No more blows."""
        self._armed.clear()

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a task; an error of ours in it ends the process, as in a worker."""
        task = asyncio.get_running_loop().create_task(self._run(work))
        if self.is_dead:
            task.cancel()
        self._tasks.add(task)

        def done(_: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            work.close()  # a task that was cancelled before its first step has not begun it

        task.add_done_callback(done)
        return task

    async def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        try:
            await work
        except Exception as error:  # a bug ends a simulated process as it would a real one
            self._trace(f"{self.name} ends: {getattr(error, 'code', type(error).__name__)} {error}")
            self._end(error)

    async def reach(self, point: str) -> None:
        """Come to a named point: time may pass here, or a fault strike.

        Raises Unavailable, SendFailed.
        """
        if self.is_dead:
            raise asyncio.CancelledError
        if self._chance.random() < 0.1:
            await asyncio.sleep(self._chance.random() * 0.02)
        if self._armed and point in self._armed:
            await self._strike(point)
        while not self._thawed.is_set():
            await self._thawed.wait()
        if self.is_dead:
            raise asyncio.CancelledError

    async def _strike(self, point: str) -> None:
        blow, seconds = self._armed.pop(point)
        self._trace(f"{self.name}: {blow} at {point!r}")
        self.faults.append(f"{blow} at {point}")
        if blow is FaultKind.KILL:
            self.kill()
        elif blow is FaultKind.FREEZE:
            self.freeze(seconds)
        elif blow is FaultKind.CUT:
            message = f"the simulated connection was cut at {point!r}"
            raise Unavailable(message)
        else:
            message = f"the simulated producer gave up at {point!r}"
            raise SendFailed(message)

    def freeze(self, seconds: float) -> None:
        """Stand still for some time."""
        self.freezes += 1
        self._thawed.clear()
        asyncio.get_running_loop().call_later(seconds, self._thawed.set)
        self.on_freeze(self)

    def kill(self) -> None:
        """SIGKILL: nothing that it holds in memory has an effect any more."""
        self._end(None)

    def _end(self, error: Exception | None) -> None:
        if self.is_dead:
            return
        self.is_dead = True
        for task in sorted(self._tasks, key=asyncio.Task.get_name):
            task.cancel()
        self.ended.set_result(error)
