"""Background tasks of services, and how they may end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

from mode import Service

from schemas.errors import InvariantBroken

S = TypeVar("S", bound=Service)


def crash_on_stray_cancel(task: Callable[[S], Awaitable[None]]) -> Callable[[S], Awaitable[None]]:
    """Goes below `@Service.task`: a task that ends by a CancelledError which nobody sent to it
    crashes its service.

    Clients raise one when they give up a request of their own. To mode it is a task that was told
    to end, and the service would live on without it.
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
                f"{name} was ended by what it had called, and nobody had asked for it"
            ) from error

    return run
