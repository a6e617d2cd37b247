"""A consumer group: it assigns partitions and rebalances when processes join, freeze or die."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Final

from lab.simulator.process import Process
from lab.simulator.workers import Partition, SimulatedWorker
from schemas.errors import Unavailable

_SESSION_S: Final = (0.1, 8.0)
"""How long the group needs to detect that a process has ended or is frozen."""
_RESTART_S: Final = (0.1, 3.0)


class ConsumerGroup:
    """Consumer group with eager rebalances, as in Kafka's classic protocol.

    Every member releases all of its partitions, then all are assigned again.
    """

    def __init__(
        self,
        partitions: Sequence[Partition],
        start: Callable[[], SimulatedWorker],
        rng: Random,
        trace: Callable[[str], None],
    ) -> None:
        self._partitions = list(partitions)
        self._start = start
        self._rng = rng
        self._trace = trace
        self._changed = asyncio.Event()
        self.members: list[SimulatedWorker] = []
        self.size = 0
        self.rebalances = 0
        self.unexpected_exits: list[str] = []

    def join(self) -> None:
        """Start one more process."""
        self.size += 1
        self._add()

    def leave(self) -> None:
        """Restart one process fewer from now on."""
        self.size = max(1, self.size - 1)

    def _add(self) -> None:
        worker = self._start()
        self.members.append(worker)
        worker.process.ended.add_done_callback(lambda _: self._on_end(worker))
        self._changed.set()

    def _on_end(self, worker: SimulatedWorker) -> None:
        error = worker.process.ended.result()
        if error is not None and getattr(error, "code", "") not in {"FENCED", "SEND_FAILED"}:
            self.unexpected_exits.append(
                f"{worker.process.name} ended: {type(error).__name__} {error}"
            )
        loop = asyncio.get_running_loop()
        loop.call_later(self._rng.uniform(*_SESSION_S), self._forget, worker)
        if sum(not member.process.is_dead for member in self.members) < self.size:
            loop.call_later(self._rng.uniform(*_RESTART_S), self._add)

    def _forget(self, worker: SimulatedWorker) -> None:
        self.members.remove(worker)
        self._changed.set()

    def notice_freeze(self, process: Process) -> None:
        """Give the partitions of a frozen process to others after a while.

        When the process continues, it joins the group again.
        """

        def check() -> None:
            self._changed.set()
            if process.is_frozen:
                asyncio.get_running_loop().call_later(1.0, check)

        asyncio.get_running_loop().call_later(self._rng.uniform(*_SESSION_S), check)

    def rebalance(self) -> None:
        """Rebalance without a change of members."""
        self._changed.set()

    async def run(self) -> None:
        """Rebalance whenever a member or its state has changed."""
        previous: tuple[Process, ...] = ()
        while True:
            await self._changed.wait()
            self._changed.clear()
            living = [
                member
                for member in self.members
                if not member.process.is_dead and not member.process.is_frozen
            ]
            frozen = any(member.process.is_frozen for member in self.members)
            if frozen and previous == tuple(member.process for member in living):
                continue  # still frozen, and the others already have its partitions
            await asyncio.gather(*[self._revoke(member) for member in living])
            living = [member for member in living if not member.process.is_dead]
            previous = tuple(member.process for member in living)
            self._assign(living)

    async def _revoke(self, member: SimulatedWorker) -> None:
        with suppress(asyncio.CancelledError, TimeoutError, Unavailable):
            async with asyncio.timeout(30):
                await member.revoke()

    def _assign(self, living: Sequence[SimulatedWorker]) -> None:
        if not living:
            return
        self.rebalances += 1
        partitions = self._partitions[:]
        self._rng.shuffle(partitions)
        for number, member in enumerate(living):
            mine = partitions[number :: len(living)]
            self._trace(f"{member.process.name} gets {len(mine)} partitions")
            if mine:
                member.assign(mine)
