"""`pitboss bench latency`: from the append of a raw record to its outcome, at a steady rate.

The workers are those that `pitboss run` starts, each a process of its own, with signatures checked.
The clock starts with the broker's own timestamp of the raw record and stops when a consumer of the
outcomes has it. All processes share the machine: broker, database, workers, feeder and reader.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from lab.bench.broker import BrokerView
from lab.bench.machine import this_commit, this_machine
from lab.bench.processes import BenchFailed, MeasuredProcess, ProcessCommand, machine_cpu_s
from lab.bench.progress import BenchProgress
from lab.bench.rates import Latencies
from lab.bench.report import BenchEnvironment, FigureRow
from lab.load.outcomes import OutcomeListener
from lab.load.pacing import Timetable, send_on_time
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from runtime.security import BrokerAddress
from schemas.events import Attempt

TARGET_P99_MS: Final = 100.0
RATES: Final = (200, 2_000)
SECONDS: Final = 20
WARM_UP_S: Final = 4.0
BROKER_WARM_UP_S: Final = 20.0
"""At the highest rate, before anything else: a broker that was just started compiles itself for
about so long.
"""

_OUTCOMES_WITHIN_S: Final = 60.0
_GRACE_S: Final = 0.05


@dataclass(frozen=True)
class LatencyBenchPlan:
    """Settings of a measurement.

    `opening` gives the players money; `bets` never end and can all be booked.
    """

    broker: BrokerAddress
    workers: Mapping[str, ProcessCommand]
    opening: Mapping[str, Sequence[OutRecord]]
    bets: Iterator[OutRecord]
    raw: str
    outcomes: str
    rates: Sequence[int]
    seconds: int
    servers_origin: str
    beside: Mapping[int, ProcessCommand] = field(default_factory=dict)
    """Processes that run during some of the measurements, by the number of the measurement."""


@dataclass(frozen=True)
class LatencyAtRate:
    """Figures of one rate."""

    rate: int
    sent: int
    took_s: float
    latencies: Latencies
    busy_cores: float
    """Of the whole machine, everything included."""
    worker_cores: Mapping[str, float]


@dataclass(frozen=True)
class LatencyBenchFigures:
    """Figures of all rates."""

    plan: LatencyBenchPlan
    results: list[LatencyAtRate]
    environment: BenchEnvironment

    def as_json(self) -> list[dict[str, Any]]:
        """Return one JSON object a rate; milliseconds."""
        return [
            {
                "rate": one.rate,
                "p50_ms": round(one.latencies.p50_ms, 1),
                "p99_ms": round(one.latencies.p99_ms, 1),
                "max_ms": round(one.latencies.max_ms, 1),
                "target_p99_ms": TARGET_P99_MS,
                "holds": one.latencies.p99_ms <= TARGET_P99_MS,
                "sent": one.sent,
                "sent_per_s": round(one.sent / one.took_s, 1),
                "busy_cores": round(one.busy_cores, 2),
                "worker_cores": {role: round(cores, 2) for role, cores in one.worker_cores.items()},
                **self.environment.as_json(),
            }
            for one in self.results
        ]

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        return [
            FigureRow(
                f"{one.rate:,} a second",
                f"p99 {one.latencies.p99_ms:.0f} ms",
                f"p50 {one.latencies.p50_ms:.0f} ms, longest {one.latencies.max_ms:.0f} ms,"
                f" {one.sent:,} sent at {one.sent / one.took_s:,.0f}/s,"
                f" {one.busy_cores:.1f} cores busy"
                f" ({_cores_text(one.worker_cores)});"
                f" target {TARGET_P99_MS:g} ms:"
                f" {'reached' if one.latencies.p99_ms <= TARGET_P99_MS else 'NOT reached'}",
            )
            for one in self.results
        ]


def _cores_text(worker_cores: Mapping[str, float]) -> str:
    return ", ".join(f"{role} {cores:.2f}" for role, cores in worker_cores.items())


async def _wait_for_outcomes(
    listener: OutcomeListener, count: int, processes: Mapping[str, MeasuredProcess]
) -> None:
    """Wait for so many outcomes in all; raises BenchFailed if they do not come."""
    deadline = time.monotonic() + _OUTCOMES_WITHIN_S
    while listener.total < count:
        for process in processes.values():
            process.check_alive()
        if time.monotonic() > deadline:
            raise BenchFailed(
                f"{listener.total} of {count} outcomes came; {processes['ledger'].log_tail()}"
            )
        await asyncio.sleep(_GRACE_S)


async def run(plan: LatencyBenchPlan, progress: BenchProgress) -> LatencyBenchFigures:
    """Start the workers, open the players' wallets, and send at each rate.

    Raises BenchFailed.
    """
    machine = this_machine()
    async with BrokerView(plan.broker) as broker:
        listener = OutcomeListener(plan.broker, lambda: time.time_ns() / 1e6)
        listening = asyncio.create_task(listener.listen(await broker.partitions(plan.outcomes)))
        producer = BatchProducer(ProducerSettings(plan.broker, "pitboss-bench"))
        try:
            with ExitStack() as running:
                processes = {
                    role: running.enter_context(MeasuredProcess(command))
                    for role, command in plan.workers.items()
                }
                async with producer:
                    at = await _measure_rates(plan, broker, producer, listener, processes, progress)
        finally:
            listening.cancel()
        servers = {"origin": plan.servers_origin, "kafka": await broker.settings()}
    return LatencyBenchFigures(plan, at, BenchEnvironment(machine, this_commit(), servers))


async def _measure_rates(
    plan: LatencyBenchPlan,
    broker: BrokerView,
    producer: BatchProducer,
    listener: OutcomeListener,
    processes: Mapping[str, MeasuredProcess],
    progress: BenchProgress,
) -> list[LatencyAtRate]:
    progress.begin("opening wallets")
    for topic, records in plan.opening.items():
        await producer.send_keyed(topic, records)
    expected = sum(len(records) for records in plan.opening.values())
    await _wait_for_outcomes(listener, expected, processes)
    at = []
    progress.begin(f"warming the broker up at {max(plan.rates):,} a second")
    expected += (await _send(plan, producer, max(plan.rates), BROKER_WARM_UP_S, progress))[0]
    await _wait_for_outcomes(listener, expected, processes)
    for number, rate in enumerate(plan.rates):
        with ExitStack() as beside:
            if (command := plan.beside.get(number)) is not None:
                processes = {**processes, "beside": beside.enter_context(MeasuredProcess(command))}
            one = await _measure(
                plan, rate, broker, producer, listener, processes, expected, progress
            )
        processes = {role: each for role, each in processes.items() if role != "beside"}
        expected = listener.total
        at.append(one)
        latencies = one.latencies
        progress.end(f"p50 {latencies.p50_ms:.0f} ms, p99 {latencies.p99_ms:.0f} ms")
    if listener.outcomes.keys() != {"POSTED"}:
        raise BenchFailed(f"not every event was booked: {listener.outcomes}")
    return at


async def _measure(
    plan: LatencyBenchPlan,
    rate: int,
    broker: BrokerView,
    producer: BatchProducer,
    listener: OutcomeListener,
    processes: Mapping[str, MeasuredProcess],
    expected: int,
    progress: BenchProgress,
) -> LatencyAtRate:
    """Measure at one rate; `expected` outcomes have come before."""
    progress.begin(f"warming up at {rate:,} a second")
    expected += (await _send(plan, producer, rate, WARM_UP_S, progress))[0]
    await _wait_for_outcomes(listener, expected, processes)
    progress.begin(f"{rate:,} a second")
    before = await broker.end_offsets(plan.raw)
    worker_s = {role: process.cpu_s() for role, process in processes.items()}
    machine_s = machine_cpu_s()
    sent, took_s = await _send(plan, producer, rate, plan.seconds, progress)
    busy = (machine_cpu_s() - machine_s) / took_s
    workers = {
        role: (process.cpu_s() - worker_s[role]) / took_s for role, process in processes.items()
    }
    await _wait_for_outcomes(listener, expected + sent, processes)
    appended = await broker.timestamps(plan.raw, before)
    if len(appended) != sent:
        raise BenchFailed(f"{sent} records were sent and {len(appended)} lie on {plan.raw}")
    arrived = {place: listener.arrived[Attempt(plan.raw, *place)] for place in appended}
    latencies = Latencies.of([arrived[place] - at_ms for place, at_ms in appended.items()])
    return LatencyAtRate(rate, sent, took_s, latencies, busy, workers)


async def _send(
    plan: LatencyBenchPlan,
    producer: BatchProducer,
    rate: int,
    seconds: float,
    progress: BenchProgress,
) -> tuple[int, float]:
    """Send what falls due, and return how many records, and the seconds that it took."""
    total = round(rate * seconds)
    bets = list(islice(plan.bets, total))

    async def send(first: int, after: int) -> None:
        await producer.send_keyed(plan.raw, bets[first:after])

    start_s = time.monotonic()
    await send_on_time(
        Timetable(rate, start_s), total, send, lambda done: progress.update(done, total)
    )
    return total, time.monotonic() - start_s
