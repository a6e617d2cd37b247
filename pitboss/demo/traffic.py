"""The demo's traffic: fed in phases and monitored, with one worker killed half-way."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from aiokafka import TopicPartition

from lab.load.outcomes import OutcomeListener
from lab.sandbox.feeder import feed_records
from lab.sandbox.records import PHASE_PLAY, RawEvent
from pitboss.demo.decisions import Decision, RecentDecisions, TrafficLog
from pitboss.demo.display import DemoDisplay, TrafficView
from pitboss.demo.quiescence import DemoProgress, QuiescenceMonitor
from pitboss.settings import Runtime
from pitboss.workers.supervisor import WorkerProcess
from runtime.kafka.partitioner import partition_for
from runtime.kafka.producer import BatchProducer, ProducerSettings
from schemas.errors import Stalled, Unavailable
from schemas.events import Attempt
from schemas.topics import OUTCOMES, raw_topic

STALL_S = 240.0
"""How long nothing may be booked before the demo gives up; a killed worker restarts much faster."""

REPEATS_MAX = 10
"""A record has few events: if this many times the records were booked, a worker repeats itself
endlessly.
"""

_POLL_S = 0.05
_SHOW_EVERY_S = 0.1

RecordPosition = tuple[str, int, int]
"""Topic, partition and offset of a raw record."""


def planned_positions(
    records: Sequence[RawEvent], runtime: Runtime, partitions: int
) -> list[RecordPosition]:
    """Return where each record will be, if nothing else writes to the raw topics.

    The feeder keeps the order of each partition, so a record's offset is the number of records
    before it.
    """
    ends: dict[tuple[str, int], int] = {}
    positions = []
    for record in records:
        topic = runtime.topic(raw_topic(record.provider))
        partition = partition_for(record.key, partitions)
        offset = ends.get((topic, partition), 0)
        ends[topic, partition] = offset + 1
        positions.append((topic, partition, offset))
    return positions


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
        self._shown_s = 0.0
        self._progress = DemoProgress(0, "the feed")
        self._positions: list[RecordPosition] = []
        self._due_s: dict[RecordPosition, float] = {}
        self._recent = RecentDecisions()
        self.log = TrafficLog()

    async def run(self) -> None:
        """Feed, kill and wait. Raises Stalled if something does not settle."""
        producer = BatchProducer(ProducerSettings(self._runtime.broker, "pitboss.sandbox"))
        async with QuiescenceMonitor(self._runtime) as monitor, producer:
            partitions = await producer.partition_count(self._runtime.topic(OUTCOMES))
            self._positions = planned_positions(self._records, self._runtime, partitions)

            async def before_phase(_: int) -> None:
                await monitor.wait_until_quiet(STALL_S, self._on_progress)

            async with self._listening(partitions):
                watching = asyncio.create_task(self._watch(monitor))
                try:
                    await feed_records(
                        self._records,
                        producer,
                        namespace=self._runtime.namespace,
                        rate=self._rate,
                        before_phase=before_phase,
                        progress=self._on_fed,
                        on_due=self._on_due,
                    )
                finally:
                    watching.cancel()
                await monitor.wait_until_quiet(STALL_S, self._on_progress)

    @asynccontextmanager
    async def _listening(self, partitions: int) -> AsyncIterator[None]:
        listener = OutcomeListener(self._runtime.broker, time.monotonic, self._on_outcome)
        topic = self._runtime.topic(OUTCOMES)
        task = asyncio.create_task(
            listener.listen([TopicPartition(topic, number) for number in range(partitions)])
        )
        # The records stay to the end: looking through them again and again delays the feed.
        gc.freeze()
        try:
            yield
        finally:
            gc.unfreeze()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self, monitor: QuiescenceMonitor) -> None:
        while True:
            with suppress(Unavailable):
                self._on_progress(DemoProgress(await monitor.read_booked_records(), "the feed"))
            await asyncio.sleep(_POLL_S)

    def _on_due(self, index: int, due_s: float) -> None:
        # The deposits before the play warm the workers up.
        if self._records[index].phase == PHASE_PLAY:
            self.log.play_s = self.log.play_s or due_s
            self.log.play_records += 1
            self._due_s[self._positions[index]] = due_s

    def _on_outcome(self, attempt: Attempt, now_s: float) -> None:
        due_s = self._due_s.get((attempt.topic, attempt.partition, attempt.offset))
        if due_s is not None:
            decision = Decision(due_s, now_s)
            self.log.decisions.append(decision)
            self._recent.add(decision)

    def _on_fed(self, done: int, total: int) -> None:
        self._fed = done
        if done == total:
            self.log.fed_s = time.monotonic()
        self._show()

    def _on_progress(self, progress: DemoProgress) -> None:
        total = len(self._records)
        if progress.booked_records > REPEATS_MAX * total:
            raise Stalled(
                f"{progress.booked_records:,} events were booked of {total:,} records: a worker "
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
        total, progress = len(self._records), self._progress
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
