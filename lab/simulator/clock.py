"""An event loop whose time is simulated: it never waits, it jumps to what is due next."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class Deadlock(RuntimeError):
    """Nothing is ready and nothing is due: whatever is waited for will never come."""


class _Selector(selectors.SelectSelector):
    """Lets time pass instead of waiting for sockets, of which there are none."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Jump to the next timer. Raises Deadlock where there is none."""
        if timeout is None:
            message = "nothing is ready and nothing is due"
            raise Deadlock(message)
        self.now_s += max(timeout, 0.0)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop: tasks run in the order in which they became ready, which chance has no
    part in.
    """

    def __init__(self) -> None:
        self._simulated = _Selector()
        super().__init__(self._simulated)

    def time(self) -> float:
        """Simulated seconds since the loop was made."""
        return self._simulated.now_s
