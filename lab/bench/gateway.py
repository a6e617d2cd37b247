"""`pitboss bench gateway`: bets over HTTP, answered by our gateway and by the wallet of today.

All sides get the same signed bets from the same generator, in turns and in rounds, on the same
servers: ours, the peers, and the floor, which is an empty handler before bare hops. Closed loop: so
many calls in flight, each followed by the next one. Open loop: calls fall due at a steady rate, and
each is timed from when it was due (coordinated omission corrected). CPU is that of the side's
processes, of the broker and of PostgreSQL, without the generator's.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import msgspec

from lab.bench.closed import LoopRun
from lab.bench.gateway_figures import GatewayBenchFigures, OpenRun, SideRuns
from lab.bench.http_load import HttpLoad, book_first, close_loop, connected, offer
from lab.bench.machine import this_commit, this_machine
from lab.bench.processes import BenchFailed, MeasuredProcess, ProcessCommand
from lab.bench.progress import BenchProgress
from lab.bench.rates import Latencies
from lab.bench.report import BenchEnvironment
from lab.bench.server_cpu import ServerPids, read_stats, tree_cpu_ticks

IN_FLIGHT: Final = (16, 64, 200)
RATES: Final = (200, 1_000, 2_000)
ROUNDS: Final = 3
SECONDS: Final = 4
WARM_UP_S: Final = 2.0
BROKER_WARM_UP_S: Final = 8.0
"""Of each side at the largest number in flight, before anything is measured: a JVM compiles itself,
and each side asks it for other things.
"""
START_TIMEOUT_S: Final = 60.0
FIRST_BETS: Final = 3
"""So many are sent until one is booked: workers that have just started may let one time out."""

PEER_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS wallet (
    player text NOT NULL, currency text NOT NULL, units bigint NOT NULL,
    PRIMARY KEY (player, currency)
);
CREATE TABLE IF NOT EXISTS bet (
    id text PRIMARY KEY, player text NOT NULL, units bigint NOT NULL, status text NOT NULL,
    balance bigint NOT NULL, at timestamptz NOT NULL DEFAULT now()
)
"""

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_CALLS_PER_S_FIRST: Final = 600
"""So many bets are signed for a second of the first load of a side; later ones know its rate."""
_STOCK_SHARE: Final = 1.5


class GatewayPeerSettings(msgspec.Struct, frozen=True):
    """The one argument of the peer, as JSON."""

    port: int
    processes: int
    database_url: str
    public_key_pem: str
    pool_size: int


@dataclass(frozen=True)
class DoorSide:
    """One side: its processes, where they listen, and the requests that it gets."""

    name: str
    processes: Mapping[str, ProcessCommand]
    port: int
    requests: Iterator[bytes]
    prepare: Callable[[], Awaitable[None]] | None = None
    """Called once, when its processes listen: gives the players money."""


@dataclass(frozen=True)
class GatewayBenchPlan:
    """Settings of a measurement."""

    ours: DoorSide
    peers: Sequence[DoorSide]
    floor: DoorSide | None
    in_flight: Sequence[int]
    rates: Sequence[int]
    rounds: int
    seconds: float
    servers: ServerPids
    servers_origin: str
    warm_up_s: float = BROKER_WARM_UP_S

    @property
    def sides(self) -> list[DoorSide]:
        """All sides, in the order of their turns."""
        return [self.ours, *self.peers, *([] if self.floor is None else [self.floor])]

    @property
    def loaded_s(self) -> float:
        """How long all loads take together, without starts and the signing of bets."""
        closed = len(self.in_flight) * (WARM_UP_S + self.seconds)
        a_side = closed + len(self.rates) * self.seconds
        return len(self.sides) * (self.warm_up_s + self.rounds * a_side)


async def run(plan: GatewayBenchPlan, progress: BenchProgress) -> GatewayBenchFigures:
    """Run the sides in turns. Raises BenchFailed where one does not answer as it should."""
    machine, bench = this_machine(), _GatewayBench(plan, progress)
    if plan.warm_up_s:
        for side in plan.sides:
            progress.begin(
                f"warming up {side.name} (all loads together: {plan.loaded_s / 60:.0f} min)"
            )
            await bench.warm_up(side)
    for number in range(1, plan.rounds + 1):
        for side in plan.sides:
            progress.begin(f"round {number} of {plan.rounds}, {side.name}")
            runs = await bench.run_side(side)
            progress.end(
                ", ".join(f"{key}: {run_.calls_per_s:,.0f}/s" for key, run_ in runs.items())
            )
    runs_of = bench.runs_of
    return GatewayBenchFigures(
        runs_of(plan.ours),
        {side.name: runs_of(side) for side in plan.peers},
        None if plan.floor is None else runs_of(plan.floor),
        plan.servers.are_known,
        {"rounds": plan.rounds, "seconds": plan.seconds},
        BenchEnvironment(machine, this_commit(), {"origin": plan.servers_origin}),
    )


@dataclass
class _SideRuns:
    closed: dict[int, list[LoopRun]] = field(default_factory=dict)
    opened: dict[int, list[OpenRun]] = field(default_factory=dict)


class _GatewayBench:
    def __init__(self, plan: GatewayBenchPlan, progress: BenchProgress) -> None:
        self._plan = plan
        self._progress = progress
        self._runs = {side.name: _SideRuns() for side in plan.sides}
        self._has_money: set[str] = set()
        self._rates: dict[str, float] = {}
        """The highest rate of each side so far."""

    def runs_of(self, side: DoorSide) -> SideRuns:
        """Return what was measured of a side."""
        runs = self._runs[side.name]
        return SideRuns(runs.closed, runs.opened)

    async def warm_up(self, side: DoorSide) -> None:
        """Load a side with as much as it will get, and keep nothing of that."""
        plan = self._plan
        async with self._started(side) as processes:
            if plan.in_flight:
                await self._close_loop(side, processes, max(plan.in_flight), plan.warm_up_s, 0.0)

    async def run_side(self, side: DoorSide) -> dict[str, LoopRun]:
        """Start a side, load it in every way, and stop it."""
        plan, runs = self._plan, self._runs[side.name]
        found: dict[str, LoopRun] = {}
        async with self._started(side) as processes:
            for number in plan.in_flight:
                run_ = await self._close_loop(side, processes, number, plan.seconds, WARM_UP_S)
                runs.closed.setdefault(number, []).append(run_)
                found[f"{number} in flight"] = run_
            for rate in plan.rates:
                offered = await self._offer(side, processes, rate)
                runs.opened.setdefault(rate, []).append(offered)
                found[f"{rate} offered"] = offered
        return found

    @asynccontextmanager
    async def _started(self, side: DoorSide) -> AsyncIterator[Mapping[str, MeasuredProcess]]:
        """Run the processes of a side, from the moment at which they book bets."""
        with ExitStack() as running:
            processes = {
                part: running.enter_context(MeasuredProcess(command))
                for part, command in side.processes.items()
            }
            try:
                await _wait_for_port(side.port, processes)
                if side.prepare is not None and side.name not in self._has_money:
                    await side.prepare()
                    self._has_money.add(side.name)
                # The port is there before the workers behind it are.
                async with asyncio.timeout(START_TIMEOUT_S * FIRST_BETS):
                    await book_first(side.port, [*islice(side.requests, FIRST_BETS)])
                yield processes
            except (BenchFailed, OSError, TimeoutError) as error:
                for process in processes.values():
                    process.check_alive()
                raise BenchFailed(f"{side.name}: {error!r}") from error

    async def _close_loop(
        self,
        side: DoorSide,
        processes: Mapping[str, MeasuredProcess],
        in_flight: int,
        seconds: float,
        warm_up_s: float,
    ) -> LoopRun:
        rate = self._rates.get(side.name, float(_CALLS_PER_S_FIRST))
        load = self._load(side, round(rate * (warm_up_s + seconds) * _STOCK_SHARE) + in_flight)
        async with connected(side.port, in_flight) as connections:
            start_s = time.perf_counter() + warm_up_s
            loops = asyncio.ensure_future(close_loop(load, connections, start_s + seconds))
            await asyncio.wait([loops], timeout=warm_up_s)
            before = self._cpu_s(processes)
            await loops
            took_s, after = time.perf_counter() - start_s, self._cpu_s(processes)
        calls = [took_ms for at_s, took_ms in load.calls if at_s >= start_s]
        if not calls:
            raise BenchFailed(f"{side.name} answered nothing in {took_s:.1f} s")
        found = LoopRun(len(calls), took_s, Latencies.of(calls), _difference(before, after))
        self._rates[side.name] = max(found.calls_per_s, self._rates.get(side.name, 0.0))
        return found

    async def _offer(
        self, side: DoorSide, processes: Mapping[str, MeasuredProcess], rate: int
    ) -> OpenRun:
        load = self._load(side, round(rate * self._plan.seconds))
        before, start_s = self._cpu_s(processes), time.perf_counter()
        await offer(load, rate)
        took_s, after = time.perf_counter() - start_s, self._cpu_s(processes)
        took_ms = [took_ms for _, took_ms in load.calls]
        latencies = Latencies.of([*took_ms, *load.unsent_ms])
        cpu_s = _difference(before, after)
        return OpenRun(len(took_ms), took_s, latencies, cpu_s, len(load.unsent_ms))

    def _load(self, side: DoorSide, count: int) -> HttpLoad:
        stock = deque(islice(side.requests, count))
        gc.collect()
        return HttpLoad(side.port, stock, side.requests)

    def _cpu_s(self, processes: Mapping[str, MeasuredProcess]) -> dict[str, float]:
        stats = read_stats()
        parts = {
            part: tree_cpu_ticks(process.pid, stats) / _TICKS_PER_S
            for part, process in processes.items()
        }
        return parts | self._plan.servers.cpu_s()


def _difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {part: after[part] - before[part] for part in after}


async def _wait_for_port(port: int, processes: Mapping[str, MeasuredProcess]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        for process in processes.values():
            process.check_alive()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise BenchFailed(f"nothing listens on port {port} after {START_TIMEOUT_S:.0f} s")
        await asyncio.sleep(0.1)
