"""The run of `pitboss bench latency --hops`: traced workers under load, then their taps read."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from aiokafka.structs import ConsumerRecord

from lab.bench.broker import BrokerView
from lab.bench.closed import LoopSide, check_outcomes
from lab.bench.hop_traces import (
    BetTimes,
    TraceComparison,
    compare_shown,
    compare_spans,
    read_spans,
)
from lab.bench.hops import (
    HopBenchFigures,
    HopFigures,
    RecordPlace,
    TapNotes,
    hop_times_ns,
    match_places,
    to_decide_parts_ms,
    to_hops_ms,
)
from lab.bench.load_generator import Call, LoadGenerator
from lab.bench.machine import this_commit, this_machine
from lab.bench.processes import MeasuredProcess
from lab.bench.progress import BenchProgress
from lab.bench.report import BenchEnvironment
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from runtime.security import BrokerAddress
from schemas import codec
from schemas.events import WalletTransaction

WARM_UP_S = 4.0
BROKER_WARM_UP_S = 15.0
RAMP_S = 0.5
_CALLS_PER_S_FIRST = 500
"""Bets to sign for a second of warming up a closed loop; after that the rate is known."""
_STOCK_SHARE = 1.4
SHOWN_BETS: Final = 10
"""Bets of each load whose trace `pitboss trace` puts together."""

ShowTrace: TypeAlias = Callable[[str], Awaitable[Sequence[tuple[str, int]]]]
"""Returns the steps that `pitboss trace` shows of the only attempt of an event, with epoch ms."""


@dataclass(frozen=True)
class TracesOfBets:
    """The traces of bets, which the workers of a side export, every one of them."""

    bodies: Sequence[bytes]
    """What a collector gets, request by request; read when the workers have ended."""
    show: ShowTrace


@dataclass(frozen=True)
class HopBenchPlan:
    """Settings of a tracing: a side whose processes have open taps."""

    broker: BrokerAddress
    side: LoopSide
    bets: Iterator[OutRecord]
    log: str
    taps: Sequence[Path]
    in_flight: Sequence[int]
    rates: Sequence[int]
    seconds: float
    servers_origin: str
    topics: dict[str, int]
    traces: TracesOfBets | None = None
    """Traces to be held against the taps."""


@dataclass(frozen=True)
class TracedCalls:
    """All bets that came back, and which of them belong to each load."""

    calls: Sequence[Call]
    loads: Mapping[str, slice]


async def run(plan: HopBenchPlan, progress: BenchProgress) -> HopBenchFigures:
    """Load the workers, end them, and put the times of each bet together. Raises BenchFailed."""
    machine = this_machine()
    async with (
        BrokerView(plan.broker) as broker,
        BatchProducer(ProducerSettings(plan.broker, "pitboss-bench")) as producer,
    ):
        traced = await _run_loads(plan, producer, progress)
        progress.begin("reading the taps")
        starts = await broker.first_offsets(plan.side.raw)
        raw = await broker.records(plan.side.raw, starts)
        log = await broker.records(plan.log, await broker.first_offsets(plan.log))
        servers = {"origin": plan.servers_origin, "kafka": await broker.settings()}
    lines = [line for tap in plan.taps for line in tap.read_text(encoding="utf-8").splitlines()]
    notes = TapNotes(lines)
    bets = join_bets(plan, traced, raw, log)
    figures = [summarise_hops(plan, load, each, notes) for load, each in bets.items()]
    environment = BenchEnvironment(machine, this_commit(), servers)
    traces = await _compare_traces(plan, bets, notes, progress)
    return HopBenchFigures(figures, plan.seconds, plan.topics, environment, traces)


async def _run_loads(
    plan: HopBenchPlan, producer: BatchProducer, progress: BenchProgress
) -> TracedCalls:
    """Warm up, run each load for its seconds, and end the workers, which closes their taps."""
    side = plan.side
    with ExitStack() as running:
        processes = [
            running.enter_context(MeasuredProcess(command)) for command in side.processes.values()
        ]

        def check() -> None:
            for process in processes:
                process.check_alive()

        async with LoadGenerator(
            plan.broker,
            producer,
            side.raw,
            side.outcomes,
            check,
            stamps_receipt=plan.traces is not None,
        ) as generator:
            progress.begin("opening wallets")
            for topic, records in side.opening.items():
                await generator.send_all(topic, records)
            opened = len(generator.calls)
            loads = await _load(plan, generator, progress)
            check_outcomes(generator, side)
    return TracedCalls(
        generator.calls[opened:],
        {name: slice(found.start - opened, found.stop - opened) for name, found in loads.items()},
    )


async def _load(
    plan: HopBenchPlan, generator: LoadGenerator, progress: BenchProgress
) -> dict[str, slice]:
    found = {}
    warm_up_s = BROKER_WARM_UP_S
    for in_flight in plan.in_flight:
        name = f"{in_flight} in flight"
        progress.begin(f"signing bets to warm up with {name}")
        rate = float(_CALLS_PER_S_FIRST)
        for seconds, step in ((warm_up_s, f"warming up with {name}"), (plan.seconds, name)):
            bets = _sign(plan, round((RAMP_S + seconds) * rate * _STOCK_SHARE), progress)
            progress.begin(step)
            generator.start_loop(in_flight, iter(bets))
            await generator.run_for(RAMP_S)
            first, start_s = len(generator.calls), time.monotonic()
            await generator.run_for(seconds)
            found[name] = slice(first, len(generator.calls))
            rate = (found[name].stop - first) / (time.monotonic() - start_s)
            await generator.drain()
            progress.begin(f"signing bets for {name}")
        warm_up_s = WARM_UP_S
    for rate in plan.rates:
        name = f"{rate} a second"
        progress.begin(f"signing bets for {name}")
        warm = _sign(plan, round(rate * warm_up_s), progress)
        bets = _sign(plan, round(rate * plan.seconds), progress)
        progress.begin(name)
        await generator.send_at_rate(rate, warm)
        await generator.drain()
        first = len(generator.calls)
        await generator.send_at_rate(rate, bets)
        await generator.drain()
        found[name] = slice(first, len(generator.calls))
        warm_up_s = WARM_UP_S
    return found


def _sign(plan: HopBenchPlan, count: int, progress: BenchProgress) -> list[OutRecord]:
    bets = []
    for bet in islice(plan.bets, count):
        bets.append(bet)
        if len(bets) % 500 == 0:
            progress.update(len(bets), count)
    gc.collect()
    gc.freeze()  # else a pass over all of them is timed as a bet's wait
    return bets


class PlacedBet(NamedTuple):
    """A bet that came back, and where its records are."""

    call: Call
    event_id: str
    raw: RecordPlace
    log: RecordPlace


def join_bets(
    plan: HopBenchPlan,
    traced: TracedCalls,
    raw: Sequence[ConsumerRecord[bytes, bytes]],
    log: Sequence[ConsumerRecord[bytes, bytes]],
) -> dict[str, list[PlacedBet]]:
    """Find each bet's raw record and its event on the log; return the bets of each load."""
    places = match_places(
        traced.calls,
        [
            (record.key or b"", RecordPlace(record.partition, record.offset, record.timestamp))
            for record in raw
        ],
    )
    read = codec.decoder(WalletTransaction, ("attempt", "event_id"))
    events = {}
    for record in log:
        assert record.value is not None
        attempt, event_id = read(record.value)
        if attempt.topic == plan.side.raw:
            place = RecordPlace(record.partition, record.offset)
            events[attempt.partition, attempt.offset] = (str(event_id), place)
    return {
        name: [
            PlacedBet(call, event_id, place, event)
            for call, place in zip(traced.calls[bets], places[bets], strict=True)
            for event_id, event in (events[place.partition, place.offset],)
        ]
        for name, bets in traced.loads.items()
    }


def summarise_hops(
    plan: HopBenchPlan, load: str, bets: Sequence[PlacedBet], notes: TapNotes
) -> HopFigures:
    """Return the hops of the bets of a load."""
    topics = (plan.side.raw, plan.log)
    hops_ms, parts_ms = [], []
    for bet in bets:
        times_ns = hop_times_ns(bet.call, bet.raw, bet.log, topics, notes)
        hops_ms.append(to_hops_ms(times_ns))
        parts_ms.append(to_decide_parts_ms(times_ns, bet.log, plan.log, notes))
    return HopFigures.of(load, hops_ms, parts_ms)


async def _compare_traces(
    plan: HopBenchPlan,
    bets: Mapping[str, Sequence[PlacedBet]],
    notes: TapNotes,
    progress: BenchProgress,
) -> list[TraceComparison]:
    if plan.traces is None:
        return []
    progress.begin("reading the traces")
    spans = read_spans(plan.traces.bodies)
    topics = (plan.side.raw, plan.log, plan.side.outcomes)
    found = []
    for load, placed in bets.items():
        times = [_bet_times(plan, bet, notes) for bet in placed]
        found.append(compare_spans(load, times, spans, topics))
        # Each asks the broker anew, for a second or so.
        few = times[:: max(1, len(times) // SHOWN_BETS)][:SHOWN_BETS]
        shown = []
        for bet in few:
            shown.append(await plan.traces.show(bet.event_id))
            progress.update(len(shown), len(few))
        found.append(compare_shown(load, few, shown))
    return found


def _bet_times(plan: HopBenchPlan, bet: PlacedBet, notes: TapNotes) -> BetTimes:
    return BetTimes(
        bet.event_id,
        bet.call.sent_ns,
        bet.raw.appended_ms * 1_000_000,
        notes.of("normalised", plan.side.raw, bet.raw),
        notes.of("committed", plan.log, bet.log),
        notes.of("packed", plan.log, bet.log),
        notes.of("published", plan.log, bet.log),
    )
