"""`pitboss bench latency --secure`: the same code with TLS and logins, and without, in turns.

Two stacks of servers stay up for the whole run, one of each kind, and only one has work: the
workers of a side are started, loaded in a closed loop and then at a steady rate, and stopped before
the other side's are. Which side is first changes from pair to pair. The generator speaks as the
workers do, so its own encryption is in the figures, too.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any, Final

from lab.bench.base_latency import WARM_UP_S as RATE_WARM_UP_S
from lab.bench.base_latency import time_rate
from lab.bench.broker import BrokerView
from lab.bench.closed import (
    WARM_UP_S,
    BetStock,
    LoopRun,
    LoopSide,
    check_outcomes,
    run_as_json,
    time_loop,
)
from lab.bench.load_generator import LoadGenerator
from lab.bench.machine import this_commit, this_machine
from lab.bench.pipeline_figures import RATIO_SECURED_MIN
from lab.bench.processes import MeasuredProcess
from lab.bench.progress import BenchProgress
from lab.bench.rates import Latencies, Spread
from lab.bench.report import BenchEnvironment, FigureRow, range_text, spread_as_json
from lab.bench.server_cpu import ServerPids
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.security import BrokerAddress

IN_FLIGHT: Final = 16
RATE: Final = 200
BROKER_WARM_UP_S: Final = 30.0
"""Of each side in the closed loop, before anything is measured: both brokers compile themselves.

After 10 s, the compiler of the broker with TLS still took 14 % of a core in the first run, 0.8 ms a
call; that without TLS took 4 %.
"""

_CALLS_PER_S_FIRST: Final = 600
_STOCK_SHARE: Final = 1.4


@dataclass(frozen=True)
class SecuredSide:
    """One side: its workers and topics, and the servers they are on."""

    loop: LoopSide
    stock: BetStock
    broker: BrokerAddress
    servers: ServerPids


@dataclass(frozen=True)
class SecuredLatencyPlan:
    """Settings of a measurement."""

    secured: SecuredSide
    plain: SecuredSide
    pairs: int
    seconds: float
    servers_origin: str
    in_flight: int = IN_FLIGHT
    rate: int = RATE

    def order_sides(self, number: int) -> tuple[SecuredSide, SecuredSide]:
        """Return the sides in their order within a pair; pairs are numbered from 1."""
        both = (self.secured, self.plain)
        return both if number % 2 else both[::-1]


@dataclass(frozen=True)
class SecuredRun:
    """What one side did, once."""

    closed: LoopRun
    at_rate: LoopRun


@dataclass(frozen=True)
class SecuredLatencyFigures:
    """Runs of both sides, in pairs: secured and plain."""

    plan: SecuredLatencyPlan
    runs: Sequence[tuple[SecuredRun, SecuredRun]]
    environment: BenchEnvironment

    def ratios(self) -> dict[str, Spread]:
        """Return how the secured side compares with the plain one, pair by pair; more is better.

        `calls_per_s` is its rate in the closed loop divided by the plain one's. `p50` and `p99` are
        the plain side's times at the steady rate divided by its own.
        """
        return {
            "calls_per_s": Spread.of(
                [
                    secured.closed.calls_per_s / plain.closed.calls_per_s
                    for secured, plain in self.runs
                ]
            ),
            "p50": self._time_ratio(lambda times: times.p50_ms),
            "p99": self._time_ratio(lambda times: times.p99_ms),
        }

    def _time_ratio(self, time_ms: Callable[[Latencies], float]) -> Spread:
        return Spread.of(
            [
                time_ms(plain.at_rate.latencies) / time_ms(secured.at_rate.latencies)
                for secured, plain in self.runs
            ]
        )

    @property
    def holds(self) -> bool:
        """Whether all three ratios reach the target."""
        return all(spread.median >= RATIO_SECURED_MIN for spread in self.ratios().values())

    def as_json(self) -> dict[str, Any]:
        """Return one JSON object."""
        ratios = self.ratios()
        secured, plain = zip(*self.runs, strict=True)
        return {
            "bench": "latency",
            "ratio_secured": round(ratios["calls_per_s"].median, 3),
            "ratio_secured_spread": spread_as_json(ratios["calls_per_s"], 3),
            "ratio_secured_p50": round(ratios["p50"].median, 3),
            "ratio_secured_p50_spread": spread_as_json(ratios["p50"], 3),
            "ratio_secured_p99": round(ratios["p99"].median, 3),
            "ratio_secured_p99_spread": spread_as_json(ratios["p99"], 3),
            "holds": self.holds,
            "targets": {"ratio_secured_min": RATIO_SECURED_MIN},
            "secured": self._side_as_json(secured, self.plan.secured.servers),
            "plain": self._side_as_json(plain, self.plan.plain.servers),
            "in_flight": self.plan.in_flight,
            "rate": self.plan.rate,
            "pairs": len(self.runs),
            "seconds": self.plan.seconds,
            **self.environment.as_json(),
        }

    @staticmethod
    def _side_as_json(runs: Sequence[SecuredRun], servers: ServerPids) -> dict[str, Any]:
        return {
            "closed": run_as_json([run.closed for run in runs], servers.are_known),
            "at_rate": run_as_json([run.at_rate for run in runs], servers.are_known),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        rows = []
        for name, runs in zip(
            ("with TLS", "plain text"), zip(*self.runs, strict=True), strict=True
        ):
            closed = run_as_json([run.closed for run in runs], has_servers_cpu=True)
            at_rate = run_as_json([run.at_rate for run in runs], has_servers_cpu=True)
            rows.append(
                FigureRow(
                    name,
                    f"{closed['calls_per_s']:,.0f}/s",
                    f"{self.plan.in_flight} in flight, p50 {closed['p50_ms']:.1f} ms; at"
                    f" {self.plan.rate:,} a second p50 {at_rate['p50_ms']:.1f} ms,"
                    f" p99 {at_rate['p99_ms']:.1f} ms",
                )
            )
        names = {"calls_per_s": "rate", "p50": "p50, turned over", "p99": "p99, turned over"}
        rows += [
            FigureRow(
                f"  with TLS to plain text, {names[key]}",
                f"{spread.median:.2f}",
                f"{range_text(spread, 2)}; target: at least {RATIO_SECURED_MIN:g}",
            )
            for key, spread in self.ratios().items()
        ]
        return rows


async def run(plan: SecuredLatencyPlan, progress: BenchProgress) -> SecuredLatencyFigures:
    """Warm both sides up, then run them in turns. Raises BenchFailed."""
    machine = this_machine()
    runs = []
    async with AsyncExitStack() as opened:
        bench = _SecuredBench(plan, progress, opened)
        for side in (plan.secured, plan.plain):
            await bench.warm_up(side)
        for number in range(1, plan.pairs + 1):
            found = {}
            for side in plan.order_sides(number):
                name = side.loop.name
                progress.begin(f"pair {number} of {plan.pairs}, {name}")
                found[name] = await bench.run_side(side, plan.seconds)
                progress.end(
                    f"{found[name].closed.calls_per_s:,.0f}/s, p50 at {plan.rate}/s"
                    f" {found[name].at_rate.latencies.p50_ms:.1f} ms"
                )
            runs.append((found[plan.secured.loop.name], found[plan.plain.loop.name]))
        async with BrokerView(plan.plain.broker) as broker:
            settings = await broker.settings()
    secured = plan.secured.broker
    servers = {
        "origin": plan.servers_origin,
        "kafka": settings,
        "secured": {"kafka_security": str(secured.protocol), "sasl": secured.sasl_mechanism},
    }
    return SecuredLatencyFigures(plan, runs, BenchEnvironment(machine, this_commit(), servers))


class _SecuredBench:
    def __init__(
        self, plan: SecuredLatencyPlan, progress: BenchProgress, opened: AsyncExitStack
    ) -> None:
        self._plan = plan
        self._progress = progress
        self._opened = opened
        self._producers: dict[str, BatchProducer] = {}
        self._rates: dict[str, float] = {}

    async def warm_up(self, side: SecuredSide) -> None:
        """Give the players money, and let the side's broker compile itself."""
        name = side.loop.name
        self._progress.begin(f"warming the broker up, {name}")
        self._producers[name] = await self._opened.enter_async_context(
            BatchProducer(ProducerSettings(side.broker, "pitboss-bench"))
        )
        with ExitStack() as running:
            generator, processes = self._start(running, side)
            async with generator:
                for topic, records in side.loop.opening.items():
                    await generator.send_all(topic, records)
                await self._close_loop(generator, processes, side, BROKER_WARM_UP_S)
                check_outcomes(generator, side.loop)

    async def run_side(self, side: SecuredSide, seconds: float) -> SecuredRun:
        """Start a side's workers, load them both ways, and stop them."""
        with ExitStack() as running:
            generator, processes = self._start(running, side)
            async with generator:
                closed = await self._close_loop(generator, processes, side, seconds)
                rate = self._plan.rate
                await side.stock.fill(
                    round(rate * (seconds + RATE_WARM_UP_S)) + 1, self._progress.update
                )
                at_rate = await time_rate(
                    generator,
                    iter(side.stock),
                    rate,
                    seconds,
                    lambda: _cpu_s(side, processes),
                    self._progress.update,
                )
                check_outcomes(generator, side.loop)
        return SecuredRun(closed, at_rate)

    async def _close_loop(
        self,
        generator: LoadGenerator,
        processes: Mapping[str, MeasuredProcess],
        side: SecuredSide,
        seconds: float,
    ) -> LoopRun:
        name, in_flight = side.loop.name, self._plan.in_flight
        rate = self._rates.get(name, float(_CALLS_PER_S_FIRST))
        needed = round(rate * (WARM_UP_S + seconds) * _STOCK_SHARE) + in_flight
        await side.stock.fill(needed, self._progress.update)
        gc.collect()
        gc.freeze()  # else a pass over all of them is timed as a bet's wait
        generator.start_loop(in_flight, iter(side.stock))
        await generator.await_first()
        await generator.run_for(WARM_UP_S)
        found = await time_loop(generator, lambda: _cpu_s(side, processes), seconds)
        await generator.drain()
        self._rates[name] = found.calls_per_s
        return found

    def _start(
        self, running: ExitStack, side: SecuredSide
    ) -> tuple[LoadGenerator, Mapping[str, MeasuredProcess]]:
        processes = {
            part: running.enter_context(MeasuredProcess(command))
            for part, command in side.loop.processes.items()
        }

        def check() -> None:
            for process in processes.values():
                process.check_alive()

        producer, loop = self._producers[side.loop.name], side.loop
        return LoadGenerator(side.broker, producer, loop.raw, loop.outcomes, check), processes


def _cpu_s(side: SecuredSide, processes: Mapping[str, MeasuredProcess]) -> dict[str, float]:
    return {part: process.cpu_s() for part, process in processes.items()} | side.servers.cpu_s()
