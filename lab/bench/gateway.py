"""`pitboss bench gateway`: bets over HTTP, answered by our gateway and by the wallet of today.

Both sides get the same signed bets from the same generator, in turns and in rounds, on the same
servers. Closed loop: so many calls in flight, each followed by the next one. Open loop: calls fall
due at a steady rate, and each is timed from when it was due (coordinated omission corrected). CPU
is that of the side's processes, of the broker and of PostgreSQL, without the generator's.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

import msgspec

from lab.bench.closed import LoopRun, run_as_json
from lab.bench.machine import this_commit, this_machine
from lab.bench.processes import BenchFailed, MeasuredProcess, ProcessCommand
from lab.bench.progress import BenchProgress
from lab.bench.rates import Latencies
from lab.bench.report import BenchEnvironment, FigureRow
from lab.bench.server_cpu import ServerPids, read_stats, tree_cpu_ticks

IN_FLIGHT: Final = (16, 64, 200)
RATES: Final = (200, 1_000, 2_000)
ROUNDS: Final = 3
SECONDS: Final = 4
WARM_UP_S: Final = 2.0
START_TIMEOUT_S: Final = 60.0
OPEN_CONNECTIONS: Final = 200

P50_RATIO_MAX: Final = 1.4
RATE_RATIO_MIN: Final = 0.8
CPU_RATIO_MAX: Final = 1.4
BEST_RATE_RATIO_MIN: Final = 2.0
BEST_CPU_RATIO_MAX: Final = 0.7

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
_CALLS_PER_S_FIRST: Final = 1_500
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
    prepare: Callable[[], Awaitable[None]]
    """Called once, when its processes listen: gives the players money."""


@dataclass(frozen=True)
class GatewayBenchPlan:
    """Settings of a measurement; `sides` are ours, then the peers, whose better one counts."""

    sides: Sequence[DoorSide]
    in_flight: Sequence[int]
    rates: Sequence[int]
    rounds: int
    seconds: float
    servers: ServerPids
    servers_origin: str


@dataclass(frozen=True)
class GatewayBenchFigures:
    """The runs of each side, by calls in flight, and the latencies of the open loop by rate."""

    plan: GatewayBenchPlan
    closed: Mapping[str, Mapping[int, Sequence[LoopRun]]]
    opened: Mapping[str, Mapping[int, Sequence[Latencies]]]
    environment: BenchEnvironment

    def of_side(self, name: str) -> dict[str, Any]:
        """Return the figures of one side."""
        known = self.plan.servers.are_known
        return {
            "closed": {
                str(number): run_as_json(runs, known) for number, runs in self.closed[name].items()
            },
            "open_p99_ms": {
                str(rate): round(median(found.p99_ms for found in runs), 2)
                for rate, runs in self.opened[name].items()
            },
        }

    def as_json(self) -> dict[str, Any]:
        """Return one JSON object."""
        ours, *peers = [self.of_side(side.name) for side in self.plan.sides]
        peer = max(peers, key=_highest_rate, default=None)
        return {
            "bench": "gateway",
            "ours": ours,
            "peer": peer,
            "peers": {
                side.name: figures for side, figures in zip(self.plan.sides[1:], peers, strict=True)
            },
            **compare(ours, peer),
            "floor": None,
            "rounds": self.plan.rounds,
            "seconds": self.plan.seconds,
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        rows = []
        for side in self.plan.sides:
            figures = self.of_side(side.name)
            for number, run_ in figures["closed"].items():
                cpu = run_["cpu_ms_a_call"]
                cpu_text = "unknown" if cpu is None else f"{cpu:.2f} ms"
                remark = f"p50 {run_['p50_ms']:.1f}, p99 {run_['p99_ms']:.1f} ms, CPU {cpu_text}"
                name = f"{side.name}, {number} in flight"
                rows.append(FigureRow(name, f"{run_['calls_per_s']:,.0f}/s", remark))
            for rate, p99_ms in figures["open_p99_ms"].items():
                rows.append(FigureRow(f"{side.name}, {rate}/s offered", f"p99 {p99_ms:.1f} ms"))
        return rows


def compare(ours: Mapping[str, Any], peer: Mapping[str, Any] | None) -> dict[str, float | None]:
    """Return our figures divided by the peer's; null without a peer, or without that figure."""
    first = "16"
    if peer is None or first not in ours["closed"]:
        names = ("ratio_p50_at_16", "ratio_rate_at_16", "ratio_cpu_at_16")
        return dict.fromkeys((*names, "ratio_max_rate", "ratio_cpu"))
    mine, theirs = ours["closed"][first], peer["closed"][first]
    best, best_peer = (
        max(side["closed"].values(), key=lambda run_: run_["calls_per_s"]) for side in (ours, peer)
    )
    return {
        "ratio_p50_at_16": _ratio(mine, theirs, "p50_ms"),
        "ratio_rate_at_16": _ratio(mine, theirs, "calls_per_s"),
        "ratio_cpu_at_16": _ratio(mine, theirs, "cpu_ms_a_call"),
        "ratio_max_rate": _ratio(best, best_peer, "calls_per_s"),
        "ratio_cpu": _ratio(best, best_peer, "cpu_ms_a_call"),
    }


def _ratio(ours: Mapping[str, Any], theirs: Mapping[str, Any], name: str) -> float | None:
    if ours[name] is None or not theirs[name]:
        return None
    return round(float(ours[name]) / float(theirs[name]), 3)


def _highest_rate(figures: Mapping[str, Any]) -> float:
    return max((run_["calls_per_s"] for run_ in figures["closed"].values()), default=0.0)


async def run(plan: GatewayBenchPlan, progress: BenchProgress) -> GatewayBenchFigures:
    """Run the sides in turns. Raises BenchFailed where one does not answer as it should."""
    machine, bench = this_machine(), _GatewayBench(plan, progress)
    closed: dict[str, dict[int, list[LoopRun]]] = {
        side.name: {number: [] for number in plan.in_flight} for side in plan.sides
    }
    opened: dict[str, dict[int, list[Latencies]]] = {
        side.name: {rate: [] for rate in plan.rates} for side in plan.sides
    }
    for number in range(1, plan.rounds + 1):
        for side in plan.sides:
            progress.begin(f"round {number} of {plan.rounds}, {side.name}")
            runs, latencies = await bench.run_side(side)
            for in_flight, run_ in runs.items():
                closed[side.name][in_flight].append(run_)
            for rate, found in latencies.items():
                opened[side.name][rate].append(found)
            progress.end(
                ", ".join(f"{key}: {run_.calls_per_s:,.0f}/s" for key, run_ in runs.items())
            )
    servers = {"origin": plan.servers_origin}
    return GatewayBenchFigures(
        plan, closed, opened, BenchEnvironment(machine, this_commit(), servers)
    )


@dataclass
class _Load:
    """What is loaded, and what came back: when a call ended, and the ms that it took."""

    port: int
    stock: deque[bytes]
    calls: list[tuple[float, float]] = field(default_factory=list)


class _GatewayBench:
    def __init__(self, plan: GatewayBenchPlan, progress: BenchProgress) -> None:
        self._plan = plan
        self._progress = progress
        self._has_money: set[str] = set()
        self._rates: dict[tuple[str, int], float] = {}

    async def run_side(self, side: DoorSide) -> tuple[dict[int, LoopRun], dict[int, Latencies]]:
        """Start a side, load it in every way, and stop it."""
        plan = self._plan
        with ExitStack() as running:
            processes = {
                part: running.enter_context(MeasuredProcess(command))
                for part, command in side.processes.items()
            }
            await _wait_for_port(side.port, processes)
            if side.name not in self._has_money:
                await side.prepare()
                self._has_money.add(side.name)
            closed = {}
            for number in plan.in_flight:
                closed[number] = await self._close_loop(side, processes, number)
            opened = {rate: await self._offer(side, rate) for rate in plan.rates}
        return closed, opened

    async def _close_loop(
        self, side: DoorSide, processes: Mapping[str, MeasuredProcess], in_flight: int
    ) -> LoopRun:
        seconds = self._plan.seconds
        rate = self._rates.get((side.name, in_flight), float(_CALLS_PER_S_FIRST))
        load = self._load(side, round(rate * (WARM_UP_S + seconds) * _STOCK_SHARE) + in_flight)
        start_s = time.perf_counter() + WARM_UP_S
        loops = [asyncio.ensure_future(_call_on(load, start_s + seconds)) for _ in range(in_flight)]
        await asyncio.sleep(WARM_UP_S)
        before = self._cpu_s(processes)
        await asyncio.gather(*loops)
        took_s, after = time.perf_counter() - start_s, self._cpu_s(processes)
        calls = [took_ms for at_s, took_ms in load.calls if at_s >= start_s]
        if not calls:
            raise BenchFailed(f"{side.name} answered nothing in {took_s:.1f} s")
        found = LoopRun(
            len(calls),
            took_s,
            Latencies.of(calls),
            {part: after[part] - before[part] for part in after},
        )
        self._rates[side.name, in_flight] = found.calls_per_s
        return found

    async def _offer(self, side: DoorSide, rate: int) -> Latencies:
        count = round(rate * self._plan.seconds)
        load = self._load(side, count)
        due = deque(time.perf_counter() + 0.2 + number / rate for number in range(count))
        connections = min(OPEN_CONNECTIONS, count)
        await asyncio.gather(*[_call_when_due(load, due) for _ in range(connections)])
        return Latencies.of([took_ms for _, took_ms in load.calls])

    def _load(self, side: DoorSide, count: int) -> _Load:
        gc.collect()
        return _Load(side.port, deque(next(side.requests) for _ in range(count)))

    def _cpu_s(self, processes: Mapping[str, MeasuredProcess]) -> dict[str, float]:
        stats = read_stats()
        parts = {
            part: tree_cpu_ticks(process.pid, stats) / _TICKS_PER_S
            for part, process in processes.items()
        }
        return parts | self._plan.servers.cpu_s()


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


class _KeptConnection:
    """A connection that is kept, with one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> _KeptConnection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def call(self, request: bytes) -> None:
        """Send a request; raise BenchFailed unless the bet was booked."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        _, _, rest = head.lower().partition(b"content-length: ")
        body = await self._reader.readexactly(int(rest.partition(b"\r")[0]))
        if b'"RS_OK"' not in body:
            raise BenchFailed(f"a bet was not booked: {body[:200]!r}")

    def close(self) -> None:
        self._writer.close()


async def _call_on(load: _Load, end_s: float) -> None:
    """Call again and again until the end, or until no signed bets are left."""
    connection = await _KeptConnection.open(load.port)
    while load.stock:
        began_s = time.perf_counter()
        if began_s >= end_s:
            break
        await connection.call(load.stock.popleft())
        now_s = time.perf_counter()
        load.calls.append((now_s, (now_s - began_s) * 1_000))
    connection.close()


async def _call_when_due(load: _Load, due: deque[float]) -> None:
    """Take the next due time whenever the connection is free; the wait counts from then."""
    connection = await _KeptConnection.open(load.port)
    while due:
        due_s, request = due.popleft(), load.stock.popleft()
        wait_s = due_s - time.perf_counter()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        await connection.call(request)
        now_s = time.perf_counter()
        load.calls.append((now_s, (now_s - due_s) * 1_000))
    connection.close()
