"""`pitboss bench latency --base REV`: this code and another revision at the same steady rate.

In turns, each with its own workers, topics and tables, loaded by the same generator: the workers of
one side are started, warmed up, measured at every rate and stopped before the other side's are.
The clock of a bet runs from the generator's send to the arrival of its outcome. CPU is that of the
normalise and the ledger worker alone.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any, Final

from lab.bench.broker import BrokerView
from lab.bench.closed import LoopRun, LoopSide, ReadCpu, check_outcomes
from lab.bench.load_generator import RETURN_WITHIN_S, LoadGenerator
from lab.bench.machine import this_commit, this_machine
from lab.bench.observation import ReportCount
from lab.bench.processes import BenchFailed, MeasuredProcess
from lab.bench.progress import BenchProgress
from lab.bench.rates import Latencies, Spread
from lab.bench.report import BenchEnvironment, FigureRow, range_text, spread_as_json
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from runtime.security import BrokerAddress

RATIO_P50_MAX: Final = 0.5
RATIO_CPU_MAX: Final = 0.3
WARM_UP_S: Final = 4.0
BROKER_WARM_UP_S: Final = 15.0
_SIDE_OVERHEAD_S: Final = 120.0
"""For starting and stopping the workers of a side, and signing its bets."""


@dataclass(frozen=True)
class BaseLatencyPlan:
    """Settings of a measurement: this code, then the other revision."""

    broker: BrokerAddress
    sides: tuple[LoopSide, LoopSide]
    bets: tuple[Iterator[OutRecord], Iterator[OutRecord]]
    """Each side's own, without end: a repeated bet would not be booked again."""
    rates: Sequence[int]
    seconds: float
    pairs: int
    servers_origin: str
    budget_s: float = float("inf")
    """After so long no further pair is begun."""

    @property
    def side_max_s(self) -> float:
        """Longest that one side may take before it counts as stuck."""
        return _SIDE_OVERHEAD_S + len(self.rates) * (WARM_UP_S + self.seconds + 2 * RETURN_WITHIN_S)

    def has_time_for(self, number: int, passed_s: float) -> bool:
        """Return whether a pair may be begun; the first one always is."""
        return number == 1 or passed_s <= self.budget_s


@dataclass(frozen=True)
class BaseLatencyFigures:
    """Runs of both sides at each rate, in pairs."""

    plan: BaseLatencyPlan
    runs: Mapping[int, Sequence[tuple[LoopRun, LoopRun]]]
    environment: BenchEnvironment

    def ratios(self, rate: int) -> tuple[Spread, Spread]:
        """Return p50 and the workers' CPU, ours divided by the base's, pair by pair."""
        pairs = self.runs[rate]
        return (
            Spread.of([ours.latencies.p50_ms / base.latencies.p50_ms for ours, base in pairs]),
            Spread.of([ours.cpu_ms_a_call / base.cpu_ms_a_call for ours, base in pairs]),
        )

    def as_json(self) -> dict[str, Any]:
        """Return one JSON object."""
        rates = {}
        for rate in self.plan.rates:
            ours, base = zip(*self.runs[rate], strict=True)
            p50, cpu = self.ratios(rate)
            rates[str(rate)] = {
                **_side_as_json(ours),
                "base": _side_as_json(base),
                "ratio_p50": round(p50.median, 3),
                "ratio_p50_spread": spread_as_json(p50, 3),
                "ratio_cpu": round(cpu.median, 3),
                "ratio_cpu_spread": spread_as_json(cpu, 3),
                "holds": p50.median <= RATIO_P50_MAX and cpu.median <= RATIO_CPU_MAX,
            }
        return {
            "bench": "latency",
            "base": self.plan.sides[1].name,
            "rates": rates,
            "targets": {"ratio_p50_max": RATIO_P50_MAX, "ratio_cpu_max": RATIO_CPU_MAX},
            "pairs": len(self.runs[self.plan.rates[0]]),
            "seconds": self.plan.seconds,
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        rows = []
        for rate in self.plan.rates:
            sides = zip(*self.runs[rate], strict=True)
            for side, runs in zip(self.plan.sides, sides, strict=True):
                figures = _side_as_json(runs)
                parts = ", ".join(f"{part} {n:.2f}" for part, n in figures["cores"].items())
                rows.append(
                    FigureRow(
                        f"{rate:,} a second, {side.name}",
                        f"p50 {figures['p50_ms']:.1f} ms",
                        f"p99 {figures['p99_ms']:.1f} ms; cores: {parts}",
                    )
                )
            p50, cpu = self.ratios(rate)
            rows.append(
                FigureRow(
                    "  ratio",
                    f"{p50.median:.2f}",
                    f"p50, {range_text(p50, 2)}, at most {RATIO_P50_MAX:g}; workers' CPU"
                    f" {cpu.median:.2f}, {range_text(cpu, 2)}, at most {RATIO_CPU_MAX:g}",
                )
            )
        return rows


def _side_as_json(runs: Sequence[LoopRun]) -> dict[str, Any]:
    return {
        "p50_ms": round(median(run.latencies.p50_ms for run in runs), 2),
        "p99_ms": round(median(run.latencies.p99_ms for run in runs), 2),
        "cpu_ms_a_call": round(median(run.cpu_ms_a_call for run in runs), 3),
        "cores": {
            part: round(median(run.cpu_s[part] / run.took_s for run in runs), 3)
            for part in runs[0].cpu_s
        },
        "p50_ms_runs": [round(run.latencies.p50_ms, 2) for run in runs],
        "p99_ms_runs": [round(run.latencies.p99_ms, 2) for run in runs],
    }


async def run(plan: BaseLatencyPlan, progress: BenchProgress) -> BaseLatencyFigures:
    """Run both sides in turns; the first run warms the broker up.

    At least one pair is run, and none is begun once the plan's budget is used up. Raises
    BenchFailed.
    """
    machine, start_s = this_machine(), time.monotonic()
    runs: dict[int, list[tuple[LoopRun, LoopRun]]] = {rate: [] for rate in plan.rates}
    async with (
        BrokerView(plan.broker) as broker,
        BatchProducer(ProducerSettings(plan.broker, "pitboss-bench")) as producer,
    ):
        bench = _BaseLatencyBench(plan, producer, progress)
        progress.begin("opening wallets")
        for side, bets in zip(plan.sides, plan.bets, strict=True):
            async with limit_time(f"opening wallets, {side.name}", plan.side_max_s):
                await bench.open_wallets(side, bets)
        for number in range(1, plan.pairs + 1):
            if not plan.has_time_for(number, time.monotonic() - start_s):
                progress.end(f"the time is used up after {number - 1} of {plan.pairs} pairs")
                break
            found = []
            for side, bets in zip(plan.sides, plan.bets, strict=True):
                step = f"pair {number} of {plan.pairs}, {side.name}"
                progress.begin(step)
                async with limit_time(step, plan.side_max_s):
                    found.append(await bench.run_side(side, bets))
                progress.end(
                    ", ".join(
                        f"{rate}/s: p50 {run_.latencies.p50_ms:.1f} ms"
                        for rate, run_ in found[-1].items()
                    )
                )
            for rate in plan.rates:
                runs[rate].append((found[0][rate], found[1][rate]))
        servers = {"origin": plan.servers_origin, "kafka": await broker.settings()}
    return BaseLatencyFigures(plan, runs, BenchEnvironment(machine, this_commit(), servers))


class _BaseLatencyBench:
    def __init__(
        self, plan: BaseLatencyPlan, producer: BatchProducer, progress: BenchProgress
    ) -> None:
        self._plan = plan
        self._producer = producer
        self._progress = progress

    async def open_wallets(self, side: LoopSide, bets: Iterator[OutRecord]) -> None:
        """Give the players money, and send bets for as long as a new broker compiles itself."""
        with ExitStack() as running:
            generator, _ = self._start(running, side)
            async with generator:
                for topic, records in side.opening.items():
                    await generator.send_all(topic, records)
                rate = max(self._plan.rates)
                warm_up = list(islice(bets, round(rate * BROKER_WARM_UP_S)))
                await generator.send_at_rate(rate, warm_up)
                await generator.drain()
                check_outcomes(generator, side)

    async def run_side(self, side: LoopSide, bets: Iterator[OutRecord]) -> dict[int, LoopRun]:
        """Start the workers of a side, and measure each rate."""
        runs = {}
        with ExitStack() as running:
            generator, processes = self._start(running, side)

            def read_cpu_s() -> dict[str, float]:
                return {part: process.cpu_s() for part, process in processes.items()}

            async with generator:
                for rate in self._plan.rates:
                    runs[rate] = await time_rate(
                        generator, bets, rate, self._plan.seconds, read_cpu_s, self._progress.update
                    )
                check_outcomes(generator, side)
        return runs

    def _start(
        self, running: ExitStack, side: LoopSide
    ) -> tuple[LoadGenerator, Mapping[str, MeasuredProcess]]:
        processes = {
            part: running.enter_context(MeasuredProcess(command))
            for part, command in side.processes.items()
        }

        def check() -> None:
            for process in processes.values():
                process.check_alive()

        servers = self._plan.broker
        generator = LoadGenerator(servers, self._producer, side.raw, side.outcomes, check)
        return generator, processes


@asynccontextmanager
async def limit_time(step: str, seconds: float) -> AsyncIterator[None]:
    """Raise BenchFailed, which names the step, if it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise BenchFailed(f"{step}: still not done after {seconds:,.0f} s") from error


async def time_rate(
    generator: LoadGenerator,
    bets: Iterator[OutRecord],
    rate: float,
    seconds: float,
    read_cpu_s: ReadCpu,
    report: ReportCount,
) -> LoopRun:
    """Send at a steady rate, first for `WARM_UP_S`, and time what is sent after that."""
    loop = asyncio.get_running_loop()
    warm_up = list(islice(bets, round(rate * WARM_UP_S)))
    measured = list(islice(bets, round(rate * seconds)))
    gc.collect()
    gc.freeze()  # else a pass over all of them is timed as a bet's wait
    await generator.send_at_rate(rate, warm_up)
    await generator.drain()
    first, start_s, before = len(generator.calls), loop.time(), read_cpu_s()
    await generator.send_at_rate(rate, measured, lambda done: report(done, len(measured)))
    took_s, after = loop.time() - start_s, read_cpu_s()
    await generator.drain()
    took_ms = [call.took_ms for call in generator.calls[first:]]
    cpu_s = {part: after[part] - before[part] for part in after}
    return LoopRun(len(took_ms), took_s, Latencies.of(took_ms), cpu_s)
