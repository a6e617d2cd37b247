"""A consumer group: who has which partition, and how that changes when processes come, freeze, die
and come again.
"""

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
"""How long the group needs to notice that a process is gone, or stands still."""
_RESTART_S: Final = (0.1, 3.0)


class ConsumerGroup:
    """Eager rebalances, as in Kafka's classic protocol: everybody lets go of everything, then all
    is dealt out anew.
    """

    def __init__(
        self,
        partitions: Sequence[Partition],
        start: Callable[[], SimulatedWorker],
        chance: Random,
        trace: Callable[[str], None],
    ) -> None:
        self._partitions = list(partitions)
        self._start = start
        self._chance = chance
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
        """From now on one process less is started again."""
        self.size = max(1, self.size - 1)

    def _add(self) -> None:
        worker = self._start()
        self.members.append(worker)
        worker.process.ended.add_done_callback(lambda _: self._lost(worker))
        self._changed.set()

    def _lost(self, worker: SimulatedWorker) -> None:
        error = worker.process.ended.result()
        if error is not None and getattr(error, "code", "") not in {"FENCED", "SEND_FAILED"}:
            self.unexpected_exits.append(
                f"{worker.process.name} ended: {type(error).__name__} {error}"
            )
        loop = asyncio.get_running_loop()
        loop.call_later(self._chance.uniform(*_SESSION_S), self._forget, worker)
        if sum(not member.process.is_dead for member in self.members) < self.size:
            loop.call_later(self._chance.uniform(*_RESTART_S), self._add)

    def _forget(self, worker: SimulatedWorker) -> None:
        self.members.remove(worker)
        self._changed.set()

    def notice_freeze(self, process: Process) -> None:
        """A process stands still: after a while others get its partitions, and when it moves again
        it joins anew.
        """

        def later() -> None:
            self._changed.set()
            if process.is_frozen:
                asyncio.get_running_loop().call_later(1.0, later)

        asyncio.get_running_loop().call_later(self._chance.uniform(*_SESSION_S), later)

    def rebalance(self) -> None:
        """Rebalance for no reason."""
        self._changed.set()

    async def run(self) -> None:
        """Rebalance whenever something has changed."""
        had: tuple[Process, ...] = ()
        while True:
            await self._changed.wait()
            self._changed.clear()
            living = [
                member
                for member in self.members
                if not member.process.is_dead and not member.process.is_frozen
            ]
            frozen = any(member.process.is_frozen for member in self.members)
            if frozen and had == tuple(member.process for member in living):
                continue  # it still stands still, and the others have its partitions
            await asyncio.gather(*[self._revoke(member) for member in living])
            living = [member for member in living if not member.process.is_dead]
            had = tuple(member.process for member in living)
            self._deal(living)

    async def _revoke(self, member: SimulatedWorker) -> None:
        with suppress(asyncio.CancelledError, TimeoutError, Unavailable):
            async with asyncio.timeout(30):
                await member.revoke()

    def _deal(self, living: Sequence[SimulatedWorker]) -> None:
        if not living:
            return
        self.rebalances += 1
        partitions = self._partitions[:]
        self._chance.shuffle(partitions)
        for number, member in enumerate(living):
            mine = partitions[number :: len(living)]
            self._trace(f"{member.process.name} gets {len(mine)} partitions")
            if mine:
                member.assign(mine)
