"""The demo's traffic: fed in phases, watched from outside, with one worker killed half-way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from lab.sandbox.feeder import feed_records
from lab.sandbox.records import RawEvent
from pitboss.demo.display import DemoDisplay
from pitboss.demo.quiescence import DemoProgress, QuiescenceMonitor
from pitboss.settings import Runtime
from pitboss.workers.supervisor import WorkerProcess
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.errors import Stalled, Unavailable

STALL_S = 240.0
"""For so long nothing may be booked before the demo gives up; a killed worker is back in a fraction
of it.
"""

REPEATS_MAX = 10
"""A record holds few events.

Where so many times the records were booked, a worker repeats itself and will not end.
"""

_LOOK_EVERY_S = 0.05


class TrafficRun:
    """One performance: `run` feeds everything, kills once, and returns when all is settled."""

    def __init__(
        self,
        runtime: Runtime,
        records: Sequence[RawEvent],
        rate: float | None,
        victim: WorkerProcess,
        show: DemoDisplay,
    ) -> None:
        self._runtime = runtime
        self._records = records
        self._rate = rate
        self._victim = victim
        self._show = show
        self._fed = 0
        self.killed_at = 0
        """Events that were booked when the victim was killed; 0 if it was not."""

    async def run(self) -> None:
        """Raises Stalled where something does not settle."""
        producer = BatchProducer(
            ProducerSettings(self._runtime.bootstrap_servers, "pitboss.sandbox")
        )
        async with QuiescenceMonitor(self._runtime) as settling, producer:

            async def before_phase(_: int) -> None:
                await settling.wait_until_quiet(STALL_S, self._on_progress)

            watching = asyncio.create_task(self._watch(settling))
            try:
                await feed_records(
                    self._records,
                    producer,
                    namespace=self._runtime.namespace,
                    rate=self._rate,
                    before_phase=before_phase,
                    progress=self._on_fed,
                )
            finally:
                watching.cancel()
            await settling.wait_until_quiet(STALL_S, self._on_progress)

    async def _watch(self, settling: QuiescenceMonitor) -> None:
        while True:
            with suppress(Unavailable):
                self._on_progress(DemoProgress(await settling.read_booked_records(), "the feed"))
            await asyncio.sleep(_LOOK_EVERY_S)

    def _on_fed(self, done: int, total: int) -> None:
        self._fed = done
        self._show.update_bar("fed", done, total)

    def _on_progress(self, progress: DemoProgress) -> None:
        total = len(self._records)
        if progress.booked_records > REPEATS_MAX * total:
            raise Stalled(
                f"{progress.booked_records:,} events were booked of {total:,} records: a worker repeats itself; see its log"
            )
        is_all = self._fed == total and not progress.waits_for
        # Some records hold several events and some none, so the bar is full when nothing is under
        # way.
        booked = total if is_all else min(progress.booked_records, total - 1)
        self._show.update_bar(
            "booked",
            booked,
            total,
            f"waiting for {progress.waits_for}" if progress.waits_for else "settled",
        )
        if not self.killed_at and progress.booked_records >= total // 2 and self._victim.is_alive:
            self.killed_at = progress.booked_records
            pid = self._victim.pid
            self._victim.kill()
            line = f"SIGKILL to {self._victim.name}, pid {pid}, with {progress.booked_records:,} events booked"
            self._show.print_line(line, is_loud=True)
