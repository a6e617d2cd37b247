"""The demo's traffic: fed in phases and monitored, with one worker killed half-way."""

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
"""How long nothing may be booked before the demo gives up; a killed worker restarts much faster."""

REPEATS_MAX = 10
"""A record has few events: if this many times the records were booked, a worker repeats itself
endlessly.
"""

_POLL_S = 0.05


class TrafficRun:
    """Feeds all records, kills a worker half-way, and waits until all is settled."""

    def __init__(
        self,
        runtime: Runtime,
        records: Sequence[RawEvent],
        rate: float | None,
        victim: WorkerProcess,
        display: DemoDisplay,
    ) -> None:
        self._runtime = runtime
        self._records = records
        self._rate = rate
        self._victim = victim
        self._display = display
        self._fed = 0
        self.killed_at = 0
        """How many events were booked when the victim was killed; 0 if it was not killed."""

    async def run(self) -> None:
        """Feed, kill and wait. Raises Stalled if something does not settle."""
        producer = BatchProducer(
            ProducerSettings(self._runtime.bootstrap_servers, "pitboss.sandbox")
        )
        async with QuiescenceMonitor(self._runtime) as monitor, producer:

            async def before_phase(_: int) -> None:
                await monitor.wait_until_quiet(STALL_S, self._on_progress)

            watching = asyncio.create_task(self._watch(monitor))
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
            await monitor.wait_until_quiet(STALL_S, self._on_progress)

    async def _watch(self, monitor: QuiescenceMonitor) -> None:
        while True:
            with suppress(Unavailable):
                self._on_progress(DemoProgress(await monitor.read_booked_records(), "the feed"))
            await asyncio.sleep(_POLL_S)

    def _on_fed(self, done: int, total: int) -> None:
        self._fed = done
        self._display.update_bar("fed", done, total)

    def _on_progress(self, progress: DemoProgress) -> None:
        total = len(self._records)
        if progress.booked_records > REPEATS_MAX * total:
            raise Stalled(
                f"{progress.booked_records:,} events were booked of {total:,} records: a worker "
                "repeats itself; see its log"
            )
        is_all = self._fed == total and not progress.waits_for
        # Some records hold several events and some none, so the bar is full only when nothing is
        # in progress.
        booked = total if is_all else min(progress.booked_records, total - 1)
        self._display.update_bar(
            "booked",
            booked,
            total,
            f"waiting for {progress.waits_for}" if progress.waits_for else "settled",
        )
        if not self.killed_at and progress.booked_records >= total // 2 and self._victim.is_alive:
            self.killed_at = progress.booked_records
            pid = self._victim.pid
            self._victim.kill()
            line = (
                f"SIGKILL to {self._victim.name}, pid {pid}, with {self.killed_at:,} events booked"
            )
            self._display.print_line(line, is_loud=True)
