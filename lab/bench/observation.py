"""Runs a process over the records of a topic, and times its output on another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lab.bench.broker import BrokerView
from lab.bench.processes import BenchFailed, MeasuredProcess, ProcessCommand, machine_cpu_s
from lab.bench.rates import Rate, RateSample, rate_of
from runtime.kafka.producer import BatchProducer, OutRecord

POLL_S: Final = 0.05
"""A poll costs the broker a fraction of a millisecond; it is also the error of a run's time, 0.5 %
of 10 s.
"""

SETTLE_S: Final = 0.5
"""Nothing may come out any more for so long after the last expected record: more would be
duplicates.
"""

STALL_S: Final = 60.0
"""A run that has not moved for so long is over; joining a group and the first output are within it.
"""

EDGE_SHARE: Final = 0.05
"""Of a run's outputs: so many at its start and at its end are not timed."""

LOAD_AT_ONCE: Final = 1_000
"""Records appended together, over all partitions: batches of the size that a busy connector makes,
not one of 1 MB.
"""

ReportCount = Callable[[int, int], None]
"""Called at each poll with the number of events that are out, and the number in all."""


@dataclass(frozen=True)
class MeasuredSubject:
    """A command that reads every record of `source` in `group` and writes as many to `sink`."""

    name: str
    command: ProcessCommand
    group: str
    source: str
    sink: str


async def load(
    producer: BatchProducer,
    topic: str,
    chunks: Iterator[Sequence[OutRecord]],
    events: int,
    report: ReportCount,
) -> None:
    """Append so many of the records, each under its key, and wait for all acknowledgements."""
    loaded = 0
    while loaded < events:
        chunk = next(chunks)[: events - loaded]
        for start in range(0, len(chunk), LOAD_AT_ONCE):
            await producer.send_keyed(topic, chunk[start : start + LOAD_AT_ONCE])
        loaded += len(chunk)
        report(loaded, events)


async def measure(broker: BrokerView, subject: MeasuredSubject, report: ReportCount) -> Rate:
    """Run the subject once over its whole source and return the rate between its edges.

    The run is from a cold start. The clock starts when the first EDGE_SHARE of the outputs is on
    the broker and stops before the last. Raises BenchFailed as `observe` does, and where the
    subject was through before it could be timed.
    """
    samples = await observe(broker, subject, report)
    try:
        return rate_of(samples, int(samples[-1].events * EDGE_SHARE))
    except ValueError as error:
        raise BenchFailed(f"{subject.name}: {error}") from error


async def observe(
    broker: BrokerView, subject: MeasuredSubject, report: ReportCount, *, at_most: int | None = None
) -> list[RateSample]:
    """Run the subject once over its whole source and return the samples of the run.

    They go from its start to its last output. With `at_most` the run is broken off after so many
    outputs: for warming up the broker. Raises BenchFailed where the run ends, stalls, or puts out
    more than went in.
    """
    expected = await broker.end_offset_sum(subject.source)
    before = await broker.end_offset_sum(subject.sink)
    await broker.rewind(subject.group, subject.source)
    with MeasuredProcess(subject.command) as process:
        samples = [RateSample(time.monotonic(), 0, 0.0)]
        progress_s = samples[0].at_s
        wanted = expected if at_most is None else min(at_most, expected)
        while samples[-1].events < wanted:
            await asyncio.sleep(POLL_S)
            out = await broker.end_offset_sum(subject.sink) - before
            samples.append(RateSample(time.monotonic(), out, process.cpu_s(), machine_cpu_s()))
            report(min(out, wanted), wanted)
            if out != samples[-2].events:
                progress_s = samples[-1].at_s
            elif samples[-1].at_s - progress_s > STALL_S:
                raise BenchFailed(
                    f"{subject.name} stopped at {out} of {expected}; {process.log_tail()}"
                )
        if wanted == expected:
            await asyncio.sleep(SETTLE_S)
            out = await broker.end_offset_sum(subject.sink) - before
            if out != expected:
                raise BenchFailed(
                    f"{subject.name} put out {out} records for {expected}: some were doubled"
                )
    return samples
