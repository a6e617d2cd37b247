"""Background tasks of services: how they may end, and how long they wait before a new try."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, Final, TypeVar

from mode import Service

from schemas.errors import InvariantBroken

S = TypeVar("S", bound=Service)

BACKOFF_FIRST_MS: Final = 50
BACKOFF_MAX_MS: Final = 5_000


def crash_on_stray_cancel(task: Callable[[S], Awaitable[None]]) -> Callable[[S], Awaitable[None]]:
    """Crash the service if its task ends by a CancelledError that was not sent to the task.

    To be used below `@Service.task`. Clients raise such an error when they drop a request of their
    own. mode takes it for a task that was cancelled, and the service would live on without it.
    """

    @wraps(task)
    async def run(service: S) -> None:
        try:
            await task(service)
        except asyncio.CancelledError as error:
            current: asyncio.Task[Any] | None = asyncio.current_task()
            if service.should_stop or current is None or current.cancelling():
                raise
            name = f"{type(service).__name__}.{task.__name__}"
            raise InvariantBroken(
                f"{name} was cancelled by what it had called, not by its service"
            ) from error

    return run


class Backoff:
    """The waits between the tries of one thing: longer each time, never in step with others."""

    def __init__(self, first_ms: int = BACKOFF_FIRST_MS, longest_ms: int = BACKOFF_MAX_MS) -> None:
        """Start with no try made."""
        self.tries = 0
        self._first_ms = first_ms
        self._longest_ms = longest_ms

    def next_s(self) -> float:
        """Return the seconds to wait now, and count a try.

        The limit doubles with each try up to the longest; the wait is random, between half of the
        limit and the limit.
        """
        limit_ms = min(self._longest_ms, self._first_ms * 2 ** min(self.tries, 20))
        self.tries += 1
        wait_ms = random.uniform(limit_ms / 2, limit_ms)  # noqa: S311 - spreads load, no secret
        return wait_ms / 1000
