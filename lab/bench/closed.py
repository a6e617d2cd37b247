"""`pitboss bench latency --closed`: so many bets in flight, each followed by the next one.

In turns with a peer, in rounds: the workers of one side are started, loaded at every number in
flight, and stopped before the other side's are. All run on the same broker and database, over
topics with the same partitions, and the same generator loads them. A call begins when its record is
given to the producer and ends when a consumer has its outcome. CPU is that of the side's processes,
of the broker and of PostgreSQL, without the generator's.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from threading import Event
from typing import Any, Final

from lab.bench.broker import BrokerView
from lab.bench.load_generator import LoadGenerator
from lab.bench.machine import this_commit, this_machine
from lab.bench.processes import BenchFailed, MeasuredProcess, ProcessCommand
from lab.bench.progress import BenchProgress
from lab.bench.rates import Latencies
from lab.bench.report import BenchEnvironment, FigureRow
from lab.bench.server_cpu import ServerPids
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from runtime.security import BrokerAddress
from schemas import codec
from schemas.events import WalletOutcome

ROUNDS: Final = 3
SECONDS: Final = 5
WARM_UP_S: Final = 2.0
BROKER_WARM_UP_S: Final = 8.0
"""Of each side at the largest number in flight, before anything is measured: a JVM compiles itself,
and each side asks it for other things.
"""

RATE_RATIO_MIN: Final = {16: 0.7, 64: 0.7}
P50_RATIO_MAX: Final = {16: 1.4}
CPU_RATIO_MAX: Final = {16: 1.5}

_CALLS_PER_S_FIRST: Final = 2_000
"""So many bets are signed for a second of the first round; later ones know the rate."""
_STOCK_SHARE: Final = 1.3


ReadCpu = Callable[[], Mapping[str, float]]
"""Returns the CPU time that each part of a side has spent so far, in seconds."""


class BetStock:
    """Bets that were signed ahead: signing costs 0.3 ms, which a generator must not spend."""

    def __init__(self, bets: Iterator[OutRecord]) -> None:
        """Sign nothing yet."""
        self._bets = bets
        self._ready: deque[OutRecord] = deque()

    async def fill(self, count: int, report: Callable[[int, int], None]) -> None:
        """Sign in a thread until so many bets are ready; a cancel ends it with the present one."""
        is_cancelled = Event()
        try:
            await asyncio.to_thread(self._sign, count, report, is_cancelled)
        finally:
            # A thread is not cancelled, and the process would wait for its end.
            is_cancelled.set()

    def _sign(self, count: int, report: Callable[[int, int], None], is_cancelled: Event) -> None:
        while len(self._ready) < count and not is_cancelled.is_set():
            self._ready.append(next(self._bets))
            if len(self._ready) % 500 == 0:
                report(len(self._ready), count)

    def __iter__(self) -> Iterator[OutRecord]:
        """Take what is ready, until nothing is."""
        while self._ready:
            yield self._ready.popleft()


@dataclass(frozen=True)
class LoopSide:
    """One side of a measurement: its processes, and the topics that they read and answer on."""

    name: str
    processes: Mapping[str, ProcessCommand]
    raw: str
    outcomes: str
    records: BetStock | Iterator[OutRecord]
    """A stock is filled before each measurement; an iterator never ends."""
    opening: Mapping[str, Sequence[OutRecord]] = field(default_factory=dict)
    """Sent before anything else, to give the players money; each has an outcome."""
    are_outcomes_ours: bool = False
    """Whether its outcomes are events of ours, which must all say that the bet was booked."""


@dataclass(frozen=True)
class ClosedBenchPlan:
    """Settings of a measurement."""

    broker: BrokerAddress
    sides: Sequence[LoopSide]
    """Ours, then the bare hops."""
    in_flight: Sequence[int]
    rounds: int
    seconds: float
    servers: ServerPids
    servers_origin: str
    topics: Mapping[str, int]
    """Number of partitions of what both sides read: the raw topics and the log."""


@dataclass(frozen=True)
class LoopRun:
    """What one side did with one number in flight, once."""

    calls: int
    took_s: float
    latencies: Latencies
    cpu_s: Mapping[str, float]
    """By part: the side's processes, `broker` and `postgres`."""

    @property
    def calls_per_s(self) -> float:
        """Calls that came back a second."""
        return self.calls / self.took_s

    @property
    def cpu_ms_a_call(self) -> float:
        """CPU time of all parts for a call."""
        return sum(self.cpu_s.values()) * 1000 / self.calls


def run_as_json(runs: Sequence[LoopRun], has_servers_cpu: bool) -> dict[str, Any]:
    """Return the medians of a side's runs with one number in flight.

    The CPU time is null where that of the servers is not known.
    """
    parts = runs[0].cpu_s
    return {
        "calls_per_s": round(median(run.calls_per_s for run in runs), 1),
        "p50_ms": round(median(run.latencies.p50_ms for run in runs), 2),
        "p99_ms": round(median(run.latencies.p99_ms for run in runs), 2),
        "cpu_ms_a_call": round(median(run.cpu_ms_a_call for run in runs), 3)
        if has_servers_cpu
        else None,
        "cpu_ms_a_call_by_part": {
            part: round(median(run.cpu_s[part] * 1000 / run.calls for run in runs), 3)
            for part in parts
        },
        "calls": [run.calls for run in runs],
        "calls_per_s_runs": [round(run.calls_per_s, 1) for run in runs],
        "p50_ms_runs": [round(run.latencies.p50_ms, 2) for run in runs],
    }


@dataclass(frozen=True)
class ClosedBenchFigures:
    """Figures of all numbers in flight: the runs of each side, in the order of the sides."""

    plan: ClosedBenchPlan
    runs: Mapping[int, Sequence[Sequence[LoopRun]]]
    environment: BenchEnvironment

    def of(self, in_flight: int) -> dict[str, Any]:
        """Return the figures with so many in flight, the peer's inside."""
        ours, peer = (
            run_as_json(runs, self.plan.servers.are_known) for runs in self.runs[in_flight]
        )
        ratios = {
            key: round(ours[key] / peer[key], 3)
            for key in ("calls_per_s", "p50_ms", "cpu_ms_a_call")
            if ours[key] is not None
        }
        return {
            **ours,
            "bare_hops": peer,
            "ratios": ratios,
            "holds": holds(in_flight, ratios),
        }

    def as_json(self) -> dict[str, Any]:
        """Return one JSON object."""
        return {
            "bench": "latency",
            "closed": {str(number): self.of(number) for number in self.plan.in_flight},
            "targets": {
                "calls_per_s_ratio_min": RATE_RATIO_MIN,
                "p50_ms_ratio_max": P50_RATIO_MAX,
                "cpu_ms_a_call_ratio_max": CPU_RATIO_MAX,
            },
            "rounds": self.plan.rounds,
            "seconds": self.plan.seconds,
            "partitions": dict(self.plan.topics),
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        rows = []
        for number in self.plan.in_flight:
            figures = self.of(number)
            verdict = {True: "; targets reached", False: "; targets NOT reached", None: ""}
            rows.append(_row(f"{number} in flight", figures, verdict[figures["holds"]]))
            rows.append(_row("  bare hops", figures["bare_hops"], ""))
        return rows


def holds(in_flight: int, ratios: Mapping[str, float]) -> bool | None:
    """Return whether ours is near enough to the bare hops; None where nothing is demanded."""
    checks = [
        (RATE_RATIO_MIN.get(in_flight), ratios.get("calls_per_s"), -1),
        (P50_RATIO_MAX.get(in_flight), ratios.get("p50_ms"), 1),
        (CPU_RATIO_MAX.get(in_flight), ratios.get("cpu_ms_a_call"), 1),
    ]
    demanded = [(target, ratio, sign) for target, ratio, sign in checks if target is not None]
    if not demanded or any(ratio is None for _, ratio, _ in demanded):
        return None
    return all(ratio * sign <= target * sign for target, ratio, sign in demanded if ratio)


def _row(name: str, figures: Mapping[str, Any], verdict: str) -> FigureRow:
    parts = figures["cpu_ms_a_call_by_part"]
    cpu = figures["cpu_ms_a_call"]
    return FigureRow(
        name,
        f"{figures['calls_per_s']:,.0f}/s",
        f"p50 {figures['p50_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms, CPU"
        f" {'unknown' if cpu is None else f'{cpu:.2f} ms'} a call"
        f" ({', '.join(f'{part} {ms:.2f}' for part, ms in parts.items())}){verdict}",
    )


async def run(plan: ClosedBenchPlan, progress: BenchProgress) -> ClosedBenchFigures:
    """Warm the broker up with each side, then run both in turns. Raises BenchFailed."""
    machine = this_machine()
    bench = _ClosedBench(plan, progress)
    ours, peer = plan.sides
    async with (
        BrokerView(plan.broker) as broker,
        BatchProducer(ProducerSettings(plan.broker, "pitboss-bench")) as producer,
    ):
        largest = max(plan.in_flight)
        for side in (peer, ours):
            progress.begin(f"warming the broker up with {side.name}")
            await bench.run_side(producer, side, [largest], BROKER_WARM_UP_S)
        runs: dict[int, list[list[LoopRun]]] = {number: [[], []] for number in plan.in_flight}
        for number in range(1, plan.rounds + 1):
            for index, side in enumerate((ours, peer)):
                progress.begin(f"round {number} of {plan.rounds}, {side.name}")
                found = await bench.run_side(producer, side, plan.in_flight, plan.seconds)
                for in_flight, run_ in found.items():
                    runs[in_flight][index].append(run_)
                progress.end(
                    ", ".join(
                        f"{in_flight}: {run_.calls_per_s:,.0f}/s p50 {run_.latencies.p50_ms:.1f} ms"
                        for in_flight, run_ in found.items()
                    )
                )
        servers = {"origin": plan.servers_origin, "kafka": await broker.settings()}
    return ClosedBenchFigures(plan, runs, BenchEnvironment(machine, this_commit(), servers))


class _ClosedBench:
    def __init__(self, plan: ClosedBenchPlan, progress: BenchProgress) -> None:
        self._plan = plan
        self._progress = progress
        self._has_money: set[str] = set()
        self._rates: dict[tuple[str, int], float] = {}

    async def run_side(
        self, producer: BatchProducer, side: LoopSide, in_flight: Sequence[int], seconds: float
    ) -> dict[int, LoopRun]:
        """Start a side, load it with each number in flight, and stop it."""
        with ExitStack() as running:
            processes = {
                part: running.enter_context(MeasuredProcess(command))
                for part, command in side.processes.items()
            }

            def check() -> None:
                for process in processes.values():
                    process.check_alive()

            async with LoadGenerator(
                self._plan.broker, producer, side.raw, side.outcomes, check
            ) as generator:
                if side.name not in self._has_money:
                    for topic, records in side.opening.items():
                        await generator.send_all(topic, records)
                    self._has_money.add(side.name)
                runs = {
                    number: await self._measure(generator, processes, side, number, seconds)
                    for number in in_flight
                }
                check_outcomes(generator, side)
        return runs

    async def _measure(
        self,
        generator: LoadGenerator,
        processes: Mapping[str, MeasuredProcess],
        side: LoopSide,
        in_flight: int,
        seconds: float,
    ) -> LoopRun:
        rate = self._rates.get((side.name, in_flight), float(_CALLS_PER_S_FIRST))
        if isinstance(side.records, BetStock):
            needed = round(rate * (WARM_UP_S + seconds) * _STOCK_SHARE) + in_flight
            await side.records.fill(needed, self._progress.update)
        gc.collect()
        gc.disable()  # a pass over a hundred thousand waiting records would be timed as a call's
        try:
            generator.start_loop(in_flight, iter(side.records))
            await generator.await_first()
            await generator.run_for(WARM_UP_S)
            found = await time_loop(generator, lambda: self._cpu_s(processes), seconds)
            await generator.drain()
        finally:
            gc.enable()
        self._rates[side.name, in_flight] = found.calls_per_s
        return found

    def _cpu_s(self, processes: Mapping[str, MeasuredProcess]) -> dict[str, float]:
        parts = {part: process.cpu_s() for part, process in processes.items()}
        return parts | self._plan.servers.cpu_s()


async def time_loop(generator: LoadGenerator, read_cpu_s: ReadCpu, seconds: float) -> LoopRun:
    """Time a loop that runs already. Raises BenchFailed if nothing comes back."""
    loop = asyncio.get_running_loop()
    first, start_s, before = len(generator.calls), loop.time(), read_cpu_s()
    await generator.run_for(seconds)
    took_s, after = loop.time() - start_s, read_cpu_s()
    calls = generator.calls[first:]
    if not calls:
        raise BenchFailed(f"nothing came back in {took_s:.1f} s")
    return LoopRun(
        len(calls),
        took_s,
        Latencies.of([call.took_ms for call in calls]),
        {part: after[part] - before[part] for part in after},
    )


def check_outcomes(generator: LoadGenerator, side: LoopSide) -> None:
    """Raise BenchFailed unless every bet was booked, once."""
    if generator.unexpected:
        raise BenchFailed(f"{generator.unexpected} outcomes of {side.name} answer no bet in flight")
    if side.are_outcomes_ours:
        read = codec.decoder(WalletOutcome, ("attempt", "outcome"))
        outcomes = Counter(read(value)[1] for value in generator.values)
        if outcomes.keys() != {"POSTED"}:
            raise BenchFailed(f"not every bet was booked: {dict(outcomes)}")
