"""Appends generated records to the raw topics: in order, at a rate or as fast as possible."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import groupby
from typing import Final, Protocol

from lab.sandbox.records import RawEvent
from lab.sandbox.writing import ReportProgress
from runtime.kafka.producer import OutRecord
from schemas.errors import UsageError
from schemas.topics import qualified_name, raw_topic

CHUNK_MAX: Final = 500
"""Records that are appended side by side: enough to hide the broker's answer, few enough to keep
topics in step.
"""
CHUNKS_PER_S: Final = 20

BeforePhase = Callable[[int], Awaitable[None]]
"""Awaited with a phase's number once everything before it is acknowledged."""


class Sender(Protocol):
    """The part of `runtime.kafka.producer.BatchProducer` that feeding needs."""

    async def send_keyed(self, topic: str, records: Sequence[OutRecord]) -> None:
        """Append each record to its key's partition and wait for all acknowledgements."""
        ...


async def feed_records(
    records: Sequence[RawEvent],
    sender: Sender,
    *,
    namespace: str = "",
    rate: float | None = None,
    before_phase: BeforePhase | None = None,
    progress: ReportProgress | None = None,
) -> None:
    """Append all records; those of one partition keep their order.

    Topics stay in step to `CHUNK_MAX` records. `rate` is in records a second, on average over
    each phase; a broker that is slower than that is never outrun. The sender's errors pass through,
    and what was acknowledged before stays. Raises UsageError for a rate that is not above zero.
    """
    if rate is not None and not rate > 0:
        raise UsageError("the rate must be above zero; leave it out to feed as fast as possible")
    fed = 0
    for phase, members in groupby(records, key=lambda record: record.phase):
        if phase and before_phase is not None:
            await before_phase(phase)
        pace = _Pace(rate)
        for chunk in _chunks(list(members), rate):
            await pace.wait_for(len(chunk))
            await _append(chunk, sender, namespace)
            fed += len(chunk)
            if progress is not None:
                progress(fed, len(records))


class _Pace:
    """Releases records when they are due, and catches up after a slow broker."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._released = 0
        self._start_s = asyncio.get_running_loop().time()

    async def wait_for(self, count: int) -> None:
        if self._rate is None:
            return
        due_s = self._start_s + self._released / self._rate
        self._released += count
        await asyncio.sleep(max(0.0, due_s - asyncio.get_running_loop().time()))


def _chunks(records: Sequence[RawEvent], rate: float | None) -> Iterator[Sequence[RawEvent]]:
    size = CHUNK_MAX if rate is None else max(1, min(CHUNK_MAX, round(rate / CHUNKS_PER_S)))
    return (records[start : start + size] for start in range(0, len(records), size))


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
