"""The demo's traffic: providers call the gateway in phases, and one worker is killed half-way."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from lab.load.http_pool import HttpPool
from lab.sandbox.calling import PlannedCall, ScenarioCaller
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.records import PHASE_DEPOSITS, PHASE_PLAY
from pitboss.demo.decisions import Decision, RecentDecisions, TrafficLog
from pitboss.demo.display import DemoDisplay, TrafficView
from pitboss.demo.quiescence import DemoProgress, QuiescenceMonitor
from pitboss.settings import Runtime
from pitboss.workers.supervisor import WorkerProcess
from schemas.errors import Stalled, Unavailable

STALL_S = 240.0
"""How long nothing may be booked before the demo gives up; a killed worker restarts much faster."""

PROVIDER_TIMEOUT_S = 10.0
"""How long a provider waits for an answer: longer than the gateway's patience with any of them."""

CONNECTIONS_MAX = 400
"""Of all providers together. What is due and finds none free waits for one, as at the HTTP client
of a provider; its decision time counts from when it was due. So an absence of the ledger fills
them, and not the gateway."""

LISTEN_TIMEOUT_S = 60.0
"""How long the gateway may take to start."""

REPEATS_MAX = 10
"""A call has few events: if this many times the calls were booked, a worker repeats itself
endlessly.
"""

_POLL_S = 0.05
_SHOW_EVERY_S = 0.1


class TrafficRun:
    """Sends all calls, kills a worker half-way, and waits until all is settled."""

    def __init__(
        self,
        runtime: Runtime,
        calls: Sequence[PlannedCall],
        keys: SandboxKeys,
        rate: float | None,
        port: int,
        victim: WorkerProcess,
        display: DemoDisplay,
    ) -> None:
        """Send nothing yet; the gateway will listen on `port`."""
        self._runtime = runtime
        self._calls = calls
        self._rate = rate
        self._port = port
        self._victim = victim
        self._display = display
        self._fed = 0
        self._shown_s = 0.0
        self._progress = DemoProgress(0, "the gateway")
        self._recent = RecentDecisions()
        self._pool = HttpPool(port, PROVIDER_TIMEOUT_S, CONNECTIONS_MAX)
        self.providers = ScenarioCaller(calls, keys, self._pool, self._on_due, self._on_settled)
        self.log = TrafficLog()

    async def run(self) -> None:
        """Call, kill and wait. Raises Stalled if something does not settle."""
        await self._wait_for_gateway()
        async with QuiescenceMonitor(self._runtime) as monitor:
            with _without_collections():
                watching = asyncio.create_task(self._watch(monitor))
                try:
                    await self._play(PHASE_DEPOSITS)
                    await monitor.wait_until_quiet(STALL_S, self._on_progress)
                    await self._play(PHASE_PLAY)
                finally:
                    watching.cancel()
                await monitor.wait_until_quiet(STALL_S, self._on_progress)
        self._pool.close()

    async def _play(self, phase: int) -> None:
        before = self._fed
        await self.providers.play(phase, self._rate, lambda sent: self._on_fed(before + sent))

    async def _wait_for_gateway(self) -> None:
        give_up_s = time.monotonic() + LISTEN_TIMEOUT_S
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                if time.monotonic() > give_up_s:
                    raise Stalled(
                        f"nothing listens on port {self._port} after {LISTEN_TIMEOUT_S:.0f} s: see "
                        "the gateway's log"
                    ) from None
                await asyncio.sleep(_POLL_S)
            else:
                writer.close()
                return

    async def _watch(self, monitor: QuiescenceMonitor) -> None:
        while True:
            with suppress(Unavailable):
                booked = await monitor.read_booked_records()
                self._on_progress(DemoProgress(booked, "the providers"))
            await asyncio.sleep(_POLL_S)

    def _on_due(self, index: int, due_s: float) -> None:
        # The deposits before the play warm the workers up.
        if self._calls[index].phase == PHASE_PLAY:
            self.log.play_s = self.log.play_s or due_s
            self.log.play_records += 1

    def _on_settled(self, due_s: float, now_s: float) -> None:
        if self.log.play_s and due_s >= self.log.play_s:
            decision = Decision(due_s, now_s)
            self.log.decisions.append(decision)
            self._recent.add(decision)

    def _on_fed(self, done: int) -> None:
        self._fed = done
        if done == len(self._calls):
            self.log.fed_s = time.monotonic()
        self._show()

    def _on_progress(self, progress: DemoProgress) -> None:
        total = len(self._calls)
        if progress.booked_records > REPEATS_MAX * total:
            raise Stalled(
                f"{progress.booked_records:,} events were booked of {total:,} calls: a worker "
                "repeats itself; see its log"
            )
        self._progress = progress
        self._show()
        is_half_way = progress.booked_records >= total // 2
        if is_half_way and not self.log.killed_at and self._victim.is_alive:
            self._kill(progress.booked_records)

    def _kill(self, booked: int) -> None:
        self.log.killed_at, self.log.killed_s = booked, time.monotonic()
        pid = self._victim.pid
        self._victim.kill()
        line = f"SIGKILL to {self._victim.name}, pid {pid}, with {booked:,} events booked"
        self._display.print_line(line, is_loud=True)

    def _show(self) -> None:
        total, progress = len(self._calls), self._progress
        is_fed = self._fed == total
        is_all = is_fed and not progress.waits_for
        now_s = time.monotonic()
        if now_s < self._shown_s + _SHOW_EVERY_S and not is_all:
            return
        self._shown_s = now_s
        # Some records hold several events and some none, so the bar is full only when nothing is
        # in progress.
        booked = total if is_all else min(progress.booked_records, total - 1)
        if not is_fed:
            note = self._recent.describe(now_s)
        else:
            note = f"waiting for {progress.waits_for}" if progress.waits_for else "settled"
        self._display.update_traffic(TrafficView(self._fed, booked, total, note))


@contextmanager
def _without_collections() -> Iterator[None]:
    """Leave what is there out of collections: looking through all calls delays those on their way.

    The calls stay to the end.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
