"""Keeps the embedded servers running while `pitboss run` does: a broker halts on a full disk.

Neither server is started again by its own: Kafka ends when its only log directory fails, and
PostgreSQL may end when it cannot write its WAL. `pitboss up` starts them and returns, so what keeps
them is the process that stays. It starts what has ended, after longer and longer waits, and not
before the disk has space: a start would fail, or fill it again. `pitboss down` is never undone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

from pitboss.embedded.errors import StackError
from pitboss.embedded.free_space import free_bytes
from pitboss.embedded.stack import Stack

LOOK_EVERY_S: Final = 2.0
FREE_MIN_BYTES: Final = 100 * 1024 * 1024
"""Space without which no server is started: a start writes indexes and a WAL segment or two."""

DELAY_FIRST_S: Final = 2.0
DELAY_MAX_S: Final = 60.0
HEALTHY_S: Final = 60.0
"""Servers that have run this long have overcome what ended them."""

REPORT_EVERY_S: Final = 60.0


@dataclass
class KeeperPolicy:
    """Decides when to start servers that have ended. Pure."""

    free_min_bytes: int = FREE_MIN_BYTES
    _failures: int = 0
    _tried_s: float = field(default=float("-inf"))

    def may_start(self, now_s: float, free: int) -> bool:
        """Return whether to start what has ended, which counts as a try."""
        delay_s = min(DELAY_MAX_S, DELAY_FIRST_S * 2.0 ** max(0, self._failures - 1))
        if free < self.free_min_bytes or (self._failures and now_s - self._tried_s < delay_s):
            return False
        self._failures = 1 if now_s - self._tried_s >= HEALTHY_S + delay_s else self._failures + 1
        self._tried_s = now_s
        return True


class StackKeeper:
    """A thread that starts servers of the stack that have ended. Use it in `with`."""

    def __init__(
        self, stack: Stack, report: Callable[[str], None], policy: KeeperPolicy | None = None
    ) -> None:
        """Prepare without starting; `report` takes a line for each end and each start."""
        self._stack = stack
        self._report = report
        self._policy = policy or KeeperPolicy()
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stack-keeper", daemon=True)
        self._reported_s = float("-inf")

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking; a start in progress is waited for."""
        self._is_stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_stopping.wait(LOOK_EVERY_S):
            try:
                self._look(time.monotonic())
            except (StackError, OSError) as error:
                self._report(f"the servers were not started again: {error}")

    def _look(self, now_s: float) -> None:
        if not (ended := self._stack.ended_servers()):
            self._reported_s = float("-inf")
            return
        names = ", ".join(ended)
        free = free_bytes(self._stack.settings.home)
        if self._policy.may_start(now_s, free):
            self._report(f"ended: {names}; starting again")
            if self._stack.revive(self._report):
                self._report(f"started again: {names}")
        elif free < self._policy.free_min_bytes and now_s - self._reported_s >= REPORT_EVERY_S:
            self._reported_s = now_s
            self._report(
                f"ended: {names}; {self._stack.settings.home} has {free // 1024**2} MB free,"
                f" and a start needs {self._policy.free_min_bytes // 1024**2}"
            )
