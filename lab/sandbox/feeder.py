"""Appends generated records to the raw topics: in order, at a rate or as fast as possible.

Results of games go to their own topic meanwhile, in step with the records of the same times.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, Protocol

from lab.load.pacing import SPAN_MAX, Timetable, send_on_time
from lab.sandbox.records import RawEvent
from lab.sandbox.writing import ReportProgress
from runtime.kafka.producer import OutRecord
from schemas import codec
from schemas.errors import UsageError
from schemas.events import GameResult
from schemas.topics import GAME_RESULTS, qualified_name, raw_topic

CHUNK_MAX: Final = SPAN_MAX
"""Records that are appended side by side: enough to hide the broker's answer, few enough to keep
topics in step.
"""

BeforePhase = Callable[[int], Awaitable[None]]
"""Awaited with a phase's number once everything before it is acknowledged."""

ReportDue = Callable[[int, float], None]
"""Called with a record's index and the time at which it is due (seconds of `time.monotonic`),
before it is sent. Without a rate a record is due when it is sent.
"""


class Sender(Protocol):
    """The part of `runtime.kafka.producer.BatchProducer` that feeding needs."""

    async def send_keyed(self, topic: str, records: Sequence[OutRecord]) -> None:
        """Append each record to its key's partition and wait for all acknowledgements."""
        ...


async def feed_records(
    records: Sequence[RawEvent],
    sender: Sender,
    *,
    results: Sequence[GameResult] = (),
    namespace: str = "",
    rate: float | None = None,
    before_phase: BeforePhase | None = None,
    progress: ReportProgress | None = None,
    on_due: ReportDue | None = None,
) -> None:
    """Append all records; those of one partition keep their order.

    Topics stay in step to `CHUNK_MAX` records. `rate` is in records a second: each phase has its
    own timetable, and after a slow broker what is due leaves at once. The sender's errors pass
    through, and what was acknowledged before stays. Raises UsageError for a rate that is not above
    zero.
    """
    if rate is not None and not rate > 0:
        raise UsageError("the rate must be above zero; leave it out to feed as fast as possible")
    fed, beside = 0, _ResultFeed(results, sender, namespace)
    for phase, group in groupby(records, key=lambda record: record.phase):
        if phase and before_phase is not None:
            await before_phase(phase)
        members = list(group)
        feed = _PhaseFeed(members, sender, namespace, fed, len(records), progress, on_due, beside)
        if rate is None:
            await feed.send_in_chunks()
        else:
            await feed.send_at(rate)
        fed += len(members)
    await beside.send_rest()


@dataclass
class _ResultFeed:
    """Results in the order of their times, and how many of them are sent."""

    results: Sequence[GameResult]
    sender: Sender
    namespace: str
    sent: int = 0

    async def send_until(self, at_ms: int) -> None:
        """Send the results up to a time."""
        first, results = self.sent, self.results
        while self.sent < len(results) and results[self.sent].occurred_at <= at_ms:
            self.sent += 1
        await self._send(results[first : self.sent])

    async def send_rest(self) -> None:
        """Send what is left."""
        first, self.sent = self.sent, len(self.results)
        await self._send(self.results[first:])

    async def _send(self, results: Sequence[GameResult]) -> None:
        if results:
            encode = codec.encoder(GameResult)
            records: list[OutRecord] = [
                (one.game_id.encode(), encode(one), (), None) for one in results
            ]
            await self.sender.send_keyed(qualified_name(GAME_RESULTS, self.namespace), records)


@dataclass(frozen=True)
class _PhaseFeed:
    records: Sequence[RawEvent]
    sender: Sender
    namespace: str
    before: int
    """Number of records of earlier phases."""
    total: int
    progress: ReportProgress | None
    on_due: ReportDue | None
    beside: _ResultFeed

    async def send_in_chunks(self) -> None:
        for first in range(0, len(self.records), CHUNK_MAX):
            after = min(first + CHUNK_MAX, len(self.records))
            now_s = time.monotonic()
            for index in range(first, after):
                self._report_due(index, now_s)
            await self._append(first, after)
            self._report(after)

    async def send_at(self, rate: float) -> None:
        timetable = Timetable(rate, time.monotonic())

        for index in range(len(self.records)):
            self._report_due(index, timetable.due_s(index))
        await send_on_time(timetable, len(self.records), self._append, self._report)

    async def _append(self, first: int, after: int) -> None:
        chunk = self.records[first:after]
        await _append(chunk, self.sender, self.namespace)
        await self.beside.send_until(max(record.event_time_ms for record in chunk))

    def _report(self, done: int) -> None:
        if self.progress is not None:
            self.progress(self.before + done, self.total)

    def _report_due(self, index: int, due_s: float) -> None:
        if self.on_due is not None:
            self.on_due(self.before + index, due_s)


async def _append(chunk: Sequence[RawEvent], sender: Sender, namespace: str) -> None:
    by_topic: dict[str, list[OutRecord]] = {}
    for record in chunk:
        # No timestamp: raw topics stamp what is appended themselves. aiokafka takes headers as a
        # list only.
        out: OutRecord = (record.key, record.value, list(record.headers), None)
        by_topic.setdefault(qualified_name(raw_topic(record.provider), namespace), []).append(out)
    try:
        async with asyncio.TaskGroup() as appends:
            for topic, out_records in by_topic.items():
                appends.create_task(sender.send_keyed(topic, out_records))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
