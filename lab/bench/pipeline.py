"""`pitboss bench pipeline`: raw topics filled, then all workers until every balance is published.

Each run has topics and a database of its own. First the players get money, which also shows that
the workers work; then they are stopped, the raw topics are filled, and they are started again. The
clock starts with the first outcome that is there: start-up, joining groups and cold caches are
apart. It stops with the last balance; the CPU time is taken when the workers that publish nothing
have caught up, too. Ours and a peer run in turns, and are compared pair by pair.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from lab.bench.broker import BrokerView
from lab.bench.machine import this_commit, this_machine
from lab.bench.observation import STALL_S
from lab.bench.pipeline_figures import IdleWorkers, PipelineBenchFigures, PipelineRun
from lab.bench.pipeline_traffic import PipelineTraffic, TrafficRecord, by_provider
from lab.bench.processes import BenchFailed, MeasuredProcess, ProcessCommand
from lab.bench.progress import BenchProgress
from lab.bench.report import BenchEnvironment
from lab.bench.server_cpu import ServerPids, resident_mb
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.security import BrokerAddress

RECORDS: Final = 1_000_000
SECURED_RECORDS: Final = 100_000
"""Of a run beside a stack without TLS: some ten seconds of each side."""
RECORDS_MIN: Final = 500
PAIRS: Final = 5
IDLE_S: Final = 60.0
POLL_S: Final = 0.25
_SETTLE_S: Final = 0.5


@dataclass(frozen=True)
class PipelineSide:
    """One side, with topics and tables of its own that nothing has used yet."""

    processes: Mapping[str, ProcessCommand]
    raw: Mapping[str, str]
    """The raw topic of each provider."""
    outcomes: str
    """Gets one record for each event."""
    balances: str
    broker: BrokerAddress
    servers: ServerPids
    groups: Sequence[str] = ()
    """Groups that must have read their topics to the end before the CPU time is taken."""


OpenSide = Callable[[str], AbstractContextManager[PipelineSide]]
"""Makes the topics and tables of a side in a namespace with this suffix; leaving drops them."""


@dataclass(frozen=True)
class PipelineSubject:
    """A side by its name, as often as it is needed, and how much it gets."""

    name: str
    open: OpenSide
    records: int


@dataclass(frozen=True)
class PipelineBenchPlan:
    """Settings of a measurement: ours first, then those that it is compared with."""

    broker: BrokerAddress
    """The one whose settings the figures name."""
    subjects: Sequence[PipelineSubject]
    traffic: PipelineTraffic
    pairs: int
    idle_s: float
    servers_origin: str


class _PipelineSample(NamedTuple):
    at_s: float
    outcomes: int
    balances: int
    cpu_s: dict[str, float]


async def run(plan: PipelineBenchPlan, progress: BenchProgress) -> PipelineBenchFigures:
    """Run all sides in turns, ours first. Raises BenchFailed."""
    machine = this_machine()
    runs: dict[str, list[PipelineRun]] = {subject.name: [] for subject in plan.subjects}
    idle: IdleWorkers | None = None
    async with BrokerView(plan.broker) as broker:
        bench = _PipelineBench(plan, progress)
        for number in range(1, plan.pairs + 1):
            for subject in plan.subjects:
                is_ours = subject is plan.subjects[0]
                is_last = is_ours and number == plan.pairs
                step = f"pair {number} of {plan.pairs}, {subject.name}"
                progress.begin(f"{step}: making topics")
                opened = subject.open(f"_{number}")
                # Making topics and tables runs an event loop of its own.
                side = await asyncio.to_thread(opened.__enter__)
                try:
                    found, left_idle = await bench.run_side(
                        subject, side, step, plan.idle_s if is_last else 0.0
                    )
                finally:
                    await asyncio.to_thread(opened.__exit__, None, None, None)
                runs[subject.name].append(found)
                idle = left_idle or idle
        servers = {"origin": plan.servers_origin, "kafka": await broker.settings()}
    return PipelineBenchFigures(
        [subject.name for subject in plan.subjects],
        runs,
        idle,
        plan.subjects[0].records,
        BenchEnvironment(machine, this_commit(), servers),
    )


class _PipelineBench:
    def __init__(self, plan: PipelineBenchPlan, progress: BenchProgress) -> None:
        self._plan = plan
        self._progress = progress

    async def run_side(
        self, subject: PipelineSubject, side: PipelineSide, step: str, idle_s: float
    ) -> tuple[PipelineRun, IdleWorkers | None]:
        """Open the wallets, fill the topics, and time the workers; then let them idle."""
        async with (
            BrokerView(side.broker) as broker,
            BatchProducer(ProducerSettings(side.broker, "pitboss-bench")) as producer,
        ):
            self._progress.begin(f"{step}: opening wallets")
            opening = self._plan.traffic.opening(subject.records)
            await self._open_wallets(broker, producer, side, opening)
            self._progress.begin(f"{step}: filling the raw topics")
            filled = 0
            for records in self._plan.traffic.play(subject.records):
                await _append(producer, side, records)
                filled += len(records)
                self._progress.update(filled, subject.records)
            self._progress.begin(step)
            with _Running(side) as workers:
                found = await self._time(broker, side, workers, len(opening), subject.records)
                left_idle = await self._watch_idle(side, workers, idle_s) if idle_s else None
        self._progress.end(
            f"{found.per_s:,.0f}/s, {found.total_cpu_s_per_million:.1f} CPU s a million"
        )
        return found, left_idle

    async def _open_wallets(
        self,
        broker: BrokerView,
        producer: BatchProducer,
        side: PipelineSide,
        opening: Sequence[TrafficRecord],
    ) -> None:
        await _append(producer, side, opening)
        with _Running(side) as workers:
            await self._await_outcomes(broker, side, workers, 0, len(opening))

    async def _time(
        self,
        broker: BrokerView,
        side: PipelineSide,
        workers: _Running,
        before: int,
        records: int,
    ) -> PipelineRun:
        samples = await self._await_outcomes(broker, side, workers, before, records)
        first = next(sample for sample in samples if sample.outcomes)
        last_balance = next(s for s in samples if s.balances == samples[-1].balances)
        last = max(last_balance, next(s for s in samples if s.outcomes >= records))
        if last.outcomes <= first.outcomes:
            raise BenchFailed(f"{records} records are through before they can be timed: use more")
        await self._catch_up(side, workers)
        cpu_s = _cpu_s(side, workers)
        return PipelineRun(
            last.outcomes - first.outcomes,
            last.at_s - first.at_s,
            {part: cpu_s[part] - first.cpu_s[part] for part in cpu_s},
            side.servers.are_known,
        )

    async def _await_outcomes(
        self,
        broker: BrokerView,
        side: PipelineSide,
        workers: _Running,
        before: int,
        expected: int,
    ) -> list[_PipelineSample]:
        """Sample until all outcomes are there and no balance follows. Raises BenchFailed."""
        samples: list[_PipelineSample] = []
        moved_s = time.monotonic()
        while True:
            outcomes = await broker.end_offset_sum(side.outcomes) - before
            balances = await broker.end_offset_sum(side.balances)
            now_s = time.monotonic()
            if not samples or (outcomes, balances) != samples[-1][1:3]:
                moved_s = now_s
            samples.append(_PipelineSample(now_s, outcomes, balances, _cpu_s(side, workers)))
            self._progress.update(min(outcomes, expected), expected)
            if outcomes > expected:
                raise BenchFailed(f"{outcomes} outcomes for {expected} records: some were doubled")
            if outcomes == expected and now_s - moved_s >= _SETTLE_S:
                return samples
            if now_s - moved_s > STALL_S:
                raise BenchFailed(f"stopped at {outcomes} of {expected}; {workers.log_tails()}")
            await asyncio.sleep(POLL_S)

    async def _catch_up(self, side: PipelineSide, workers: _Running) -> None:
        """Wait until every group has committed the end of whatever it reads."""
        admin = AIOKafkaAdminClient(**side.broker.aiokafka_options())
        await admin.start()
        deadline_s = time.monotonic() + STALL_S
        try:
            async with BrokerView(side.broker) as broker:
                for group in side.groups:
                    while behind := await _lag(admin, broker, group):
                        workers.check_alive()
                        if time.monotonic() > deadline_s:
                            raise BenchFailed(f"{group} is still {behind:,} records behind")
                        await asyncio.sleep(POLL_S)
        finally:
            await admin.close()

    async def _watch_idle(
        self, side: PipelineSide, workers: _Running, idle_s: float
    ) -> IdleWorkers:
        self._progress.begin(f"{idle_s:g} s with nothing to do")
        before, start_s = _cpu_s(side, workers), time.monotonic()
        while (passed_s := time.monotonic() - start_s) < idle_s:
            workers.check_alive()
            await asyncio.sleep(min(1.0, idle_s - passed_s))
        took_s, after = time.monotonic() - start_s, _cpu_s(side, workers)
        shares = {part: (after[part] - before[part]) / took_s for part in after}
        return IdleWorkers(shares, {name: resident_mb([pid]) for name, pid in workers.pids.items()})


class _Running:
    """The processes of a side, while they run."""

    def __init__(self, side: PipelineSide) -> None:
        self._commands = side.processes
        self._stack = ExitStack()
        self._processes: dict[str, MeasuredProcess] = {}

    def __enter__(self) -> Self:
        for part, command in self._commands.items():
            self._processes[part] = self._stack.enter_context(MeasuredProcess(command))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def pids(self) -> dict[str, int]:
        return {part: process.pid for part, process in self._processes.items()}

    def cpu_s(self) -> dict[str, float]:
        return {part: process.cpu_s() for part, process in self._processes.items()}

    def check_alive(self) -> None:
        for process in self._processes.values():
            process.check_alive()

    def log_tails(self) -> str:
        return "\n".join(process.log_tail() for process in self._processes.values())


def _cpu_s(side: PipelineSide, workers: _Running) -> dict[str, float]:
    return workers.cpu_s() | side.servers.cpu_s()


async def _lag(admin: AIOKafkaAdminClient, broker: BrokerView, group: str) -> int:
    """Return how many records a group has not committed, of the partitions it ever committed."""
    committed = await admin.list_consumer_group_offsets(group)
    ends: dict[TopicPartition, int] = {}
    for topic in {tp.topic for tp in committed}:
        ends |= await broker.end_offsets(topic)
    return sum(max(0, ends[tp] - offset.offset) for tp, offset in committed.items())


async def _append(
    producer: BatchProducer, side: PipelineSide, records: Sequence[TrafficRecord]
) -> None:
    for provider, out in by_provider(records).items():
        await producer.send_keyed(side.raw[provider], out)
