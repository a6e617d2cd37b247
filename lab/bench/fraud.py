"""The fraud worker with all its detectors, against bet velocity alone in a Faust windowed table.

Both read the same kind of log from a cold start; progress is what their groups have committed.
Alerts are timed in a run of its own at a steady rate, as a catch-up has no delays to speak of: of
detectors that answer at a record, and of those that see several partitions merged by event time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import psycopg

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.shard import ShardDetectors
from lab.bench.alert_delays import VERDICTS, AlertDelays, FraudSubject, split_delays, time_alerts
from lab.bench.broker import BrokerView
from lab.bench.machine import this_commit, this_machine
from lab.bench.observation import STALL_S, ReportCount, load
from lab.bench.processes import BenchFailed, MeasuredProcess, machine_cpu_s
from lab.bench.progress import BenchProgress
from lab.bench.rates import Pair, Rate, RateSample, Spread, rate_of
from lab.bench.report import BenchEnvironment, FigureRow, pair_as_json, range_text, spread_as_json
from lab.fraud.story import PlayerStory, Stream
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from runtime.security import BrokerAddress
from schemas import codec
from schemas.events import WalletTransaction
from schemas.heartbeats import player_heartbeat
from schemas.topics import PLAYER_EVENTS, TRANSACTIONS

TARGET_RATIO: Final = 15
PEER_SHARE: Final = 20
"""The peer gets this part of our events, which takes it as long."""
EDGE_SHARE: Final = 0.1
_POLL_S: Final = 0.1
_PLAYERS: Final = 3_000
_START_MS: Final = 1_788_739_200_000
_STATE_EVENTS: Final = 40_000
_CHUNK: Final = 2_000
PEER_TRIES: Final = 3
"""A plain Faust app may stand still for good, after a rebalance or behind an event that it never
acknowledges. Such a run has no rate; it is repeated, and counted."""


@dataclass(frozen=True)
class FraudBenchPlan:
    """What is run how often. `live` has a log of its own, which is fed while it runs."""

    broker: BrokerAddress
    ours: FraudSubject
    peer: Callable[[str], FraudSubject]
    """Makes the subject of a run, by the run's name: a Faust app that goes on from another's group
    and tables recovers these first, and waits until the other's members have timed out."""
    live: FraudSubject
    pairs: int
    events: int
    servers_origin: str

    @property
    def peer_events(self) -> int:
        """Events of each of the peer's runs."""
        return self.events // PEER_SHARE


@dataclass(frozen=True)
class FraudBenchFigures:
    """Figures of a run."""

    plan: FraudBenchPlan
    pairs: list[Pair]
    peer_stalls: int
    """Runs of the peer that stood still and were repeated."""
    state_bytes_per_player: float
    active_players: int
    delays: AlertDelays
    merged_delays: AlertDelays
    """Of the detectors that see several partitions."""
    environment: BenchEnvironment

    @property
    def ratio(self) -> Spread:
        """Our rate divided by the peer's, pair by pair."""
        return Spread.of([pair.ratio for pair in self.pairs])

    @property
    def is_ratio_met(self) -> bool:
        """Whether the median of the pairs is what is asked for."""
        return self.ratio.median >= TARGET_RATIO

    @property
    def holds(self) -> bool:
        """Whether the ratio and both delays are what is asked for."""
        return self.is_ratio_met and self.delays.holds and self.merged_delays.holds

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        ours = [pair.ours for pair in self.pairs]
        return {
            "events_per_s": spread_as_json(Spread.of([rate.per_s for rate in ours]), 0),
            "cpu_us_per_event": spread_as_json(Spread.of([r.cpu_s_per_million for r in ours])),
            "state_bytes_per_active_player": round(self.state_bytes_per_player),
            "active_players": self.active_players,
            "alert_delay_ms": self.delays.as_json(),
            "merged_alert_delay_ms": self.merged_delays.as_json(),
            "ratio_to_faust_table": {
                **spread_as_json(self.ratio),
                "target": TARGET_RATIO,
                "holds": self.is_ratio_met,
            },
            "holds": self.holds,
            "faust_table_stalls": self.peer_stalls,
            "pairs": [pair_as_json(pair, "faust_table") for pair in self.pairs],
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        per_s = Spread.of([pair.ours.per_s for pair in self.pairs])
        cpu = Spread.of([pair.ours.cpu_s_per_million for pair in self.pairs])
        peer = Spread.of([pair.peer.per_s for pair in self.pairs])
        return [
            FigureRow("fraud worker", f"{per_s.median:,.0f}/s", range_text(per_s)),
            FigureRow("CPU an event", f"{cpu.median:.1f} µs", range_text(cpu, 1)),
            FigureRow("D01 alone, Faust table", f"{peer.median:,.0f}/s", self._peer_remark(peer)),
            FigureRow(
                "ratio",
                f"{self.ratio.median:.1f}",
                f"{range_text(self.ratio, 1)}; target {TARGET_RATIO}: "
                f"{VERDICTS[self.is_ratio_met]}",
            ),
            FigureRow(
                "state of an active player",
                f"{self.state_bytes_per_player:,.0f} bytes",
                f"{self.active_players:,} players, as in a snapshot",
            ),
            self.delays.row("alert delay"),
            self.merged_delays.row("alert delay over several partitions"),
        ]

    def _peer_remark(self, per_s: Spread) -> str:
        repeated = f"; {self.peer_stalls} runs stood still and were repeated"
        return range_text(per_s) + (repeated if self.peer_stalls else "")


def make_log(seed: int) -> Iterator[WalletTransaction]:
    """Yield bets and wins of many players without end, fifty records a second of event time."""
    rng, stream = Random(seed), Stream(seed)
    players = [PlayerStory(stream) for _ in range(_PLAYERS)]
    at_ms = _START_MS
    while True:
        at_ms += rng.randrange(40)
        player = rng.choice(players)
        bet = player.bet(at_ms, 100)
        assert bet.round_id is not None
        player.win(at_ms + 500, 90, bet.round_id)
        for sent in stream.sent:
            yield sent.record
        stream.sent.clear()


def _encoded(events: Iterator[WalletTransaction]) -> Iterator[list[OutRecord]]:
    encode = codec.encoder(WalletTransaction)
    while True:
        chunk = [next(events) for _ in range(_CHUNK)]
        yield [((event.player_id or "").encode(), encode(event), (), None) for event in chunk]


def measure_state() -> tuple[float, int]:
    """Return the bytes of a snapshot for each active player, and the number of these."""
    detectors, players = ShardDetectors(DEFAULT_RULES, 0), set()
    log = make_log(1)
    for offset in range(_STATE_EVENTS):
        event = next(log)
        detectors.observe(TRANSACTIONS, event, offset)
        beat = player_heartbeat(event, str(offset))
        detectors.observe(PLAYER_EVENTS, beat, offset)
        detectors.take_signals(TRANSACTIONS, offset + 1)
        players.add(event.player_id)
    states = detectors.states().values()
    return sum(map(len, states)) / len(players), len(players)


async def run(plan: FraudBenchPlan, progress: BenchProgress) -> FraudBenchFigures:
    """Load the logs, run the pairs, then time alerts. Raises BenchFailed where a run fails."""
    machine = this_machine()
    producer = BatchProducer(ProducerSettings(plan.broker, "pitboss-bench"))
    async with producer, BrokerView(plan.broker) as broker:
        for subject, events in ((plan.ours, plan.events), (plan.peer("log"), plan.peer_events)):
            progress.begin(f"making a log for {subject.name}")
            await load(producer, subject.source, _encoded(make_log(7)), events, progress.update)
            progress.end(f"{events:,} events")
        pairs, stalls = [], 0
        for number in range(1, plan.pairs + 1):
            step = f"pair {number} of {plan.pairs}"
            ours = await _measure(broker, plan.ours, step, progress)
            peer, stood_still = await measure_peer(broker, plan.peer, number, step, progress)
            pairs.append(Pair(ours, peer))
            stalls += stood_still
        progress.begin("delays of alerts")
        delays, merged_delays = split_delays(await time_alerts(broker, producer, plan.live))
        progress.end(f"{delays.alerts} and {merged_delays.alerts} alerts")
        servers = {"origin": plan.servers_origin, "kafka": await broker.settings()}
    state, players = measure_state()
    environment = BenchEnvironment(machine, this_commit(), servers)
    return FraudBenchFigures(
        plan, pairs, stalls, state, players, delays, merged_delays, environment
    )


class RunStalled(BenchFailed):
    """A run in which nothing has moved for `STALL_S`."""


async def measure_peer(
    broker: BrokerView,
    make_subject: Callable[[str], FraudSubject],
    number: int,
    step: str,
    progress: BenchProgress,
) -> tuple[Rate, int]:
    """Return the peer's rate, and how many of its runs stood still before.

    Raises BenchFailed where `PEER_TRIES` runs did, or where one fails otherwise.
    """
    stalls = 0
    while True:
        subject = make_subject(f"{number}-{stalls + 1}")
        try:
            return await _measure(broker, subject, step, progress), stalls
        except RunStalled as error:
            stalls += 1
            if stalls == PEER_TRIES:
                raise
            progress.end(f"run again: {str(error).partition(';')[0]}")


async def _measure(
    broker: BrokerView, subject: FraudSubject, step: str, progress: BenchProgress
) -> Rate:
    progress.begin(f"{step}, {subject.name}")
    samples = await _observe(broker, subject, progress.update)
    try:
        rate = rate_of(samples, int(samples[-1].events * EDGE_SHARE))
    except ValueError as error:
        raise BenchFailed(f"{subject.name}: {error}") from error
    progress.end(f"{rate.per_s:,.0f}/s, {rate.cpu_s_per_million:.1f} CPU s a million")
    return rate


async def _observe(
    broker: BrokerView, subject: FraudSubject, report: ReportCount
) -> list[RateSample]:
    """Run a subject over its whole log and return how far its group had committed by when."""
    expected = await broker.end_offset_sum(subject.source)
    await broker.rewind(subject.group, subject.source)
    if subject.database_url:
        await asyncio.to_thread(_forget_snapshots, subject.database_url)
    with MeasuredProcess(subject.command) as process:
        samples = [RateSample(time.monotonic(), 0, 0.0)]
        progress_s = samples[0].at_s
        while samples[-1].events < expected:
            await asyncio.sleep(_POLL_S)
            done = await broker.committed_sum(subject.group, subject.source)
            samples.append(RateSample(time.monotonic(), done, process.cpu_s(), machine_cpu_s()))
            report(min(done, expected), expected)
            if done != samples[-2].events:
                progress_s = samples[-1].at_s
            elif samples[-1].at_s - progress_s > STALL_S:
                raise RunStalled(
                    f"{subject.name} stood still for {STALL_S:g} s at {done:,} of {expected:,};"
                    f" {process.log_tail()}"
                )
    return samples


def _forget_snapshots(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("TRUNCATE fraud.snapshot, fraud.activation")
