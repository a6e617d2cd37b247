"""The fraud worker with all its detectors, against bet velocity alone in a Faust windowed table.

Both read the same kind of log from a cold start; progress is what their groups have committed.
Alerts are timed in a run of its own at a steady rate, as a catch-up has no delays to speak of.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import psycopg

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.ordered import GRACE_MS
from fraud_agents.detectors.shard import ShardDetectors
from lab.bench.broker import BrokerView
from lab.bench.machine import this_commit, this_machine
from lab.bench.observation import STALL_S, ReportCount, load
from lab.bench.processes import BenchFailed, MeasuredProcess, ProcessCommand, machine_cpu_s
from lab.bench.progress import BenchProgress
from lab.bench.rates import Latencies, Pair, Rate, RateSample, Spread, rate_of
from lab.bench.report import BenchEnvironment, FigureRow, pair_as_json, range_text, spread_as_json
from lab.fraud.story import PlayerStory, Stream
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from runtime.security import BrokerAddress
from schemas import codec
from schemas.events import FraudAlert, PlayerEvent, WalletTransaction
from schemas.heartbeats import player_heartbeat
from schemas.topics import PLAYER_EVENTS, TRANSACTIONS

TARGET_RATIO: Final = 15
TARGET_DELAY_MS: Final = 1_000
PEER_SHARE: Final = 20
"""The peer gets this part of our events, which takes it as long."""
EDGE_SHARE: Final = 0.1
_POLL_S: Final = 0.1
_PLAYERS: Final = 3_000
_START_MS: Final = 1_788_739_200_000
_STATE_EVENTS: Final = 40_000
_CHUNK: Final = 2_000
_DELAY_PER_S: Final = 1_000
_DELAY_FOR_S: Final = 20.0
_BURST: Final = 120


@dataclass(frozen=True)
class FraudSubject:
    """A command that reads the log `source` in `group` and writes alerts."""

    name: str
    command: ProcessCommand
    group: str
    source: str
    alerts: str
    player_events: str = ""
    database_url: str = ""
    """Where it keeps snapshots, which a cold start must not find."""


@dataclass(frozen=True)
class FraudBenchPlan:
    """What is run how often. `live` has a log of its own, which is fed while it runs."""

    broker: BrokerAddress
    ours: FraudSubject
    peer: FraudSubject
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
    state_bytes_per_player: float
    active_players: int
    delays: Latencies
    alerts: int
    merged_delays: Latencies
    """Of a detector over several partitions, D08."""
    merged_alerts: int
    environment: BenchEnvironment

    @property
    def ratio(self) -> Spread:
        """Our rate divided by the peer's, pair by pair."""
        return Spread.of([pair.ratio for pair in self.pairs])

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        ours = [pair.ours for pair in self.pairs]
        return {
            "events_per_s": spread_as_json(Spread.of([rate.per_s for rate in ours]), 0),
            "cpu_us_per_event": spread_as_json(Spread.of([r.cpu_s_per_million for r in ours])),
            "state_bytes_per_active_player": round(self.state_bytes_per_player),
            "active_players": self.active_players,
            "alert_delay_ms": {
                "p50": self.delays.p50_ms,
                "p99": self.delays.p99_ms,
                "max": self.delays.max_ms,
                "alerts": self.alerts,
                "target_p99": TARGET_DELAY_MS,
            },
            "merged_alert_delay_ms": {
                "p50": self.merged_delays.p50_ms,
                "p99": self.merged_delays.p99_ms,
                "max": self.merged_delays.max_ms,
                "alerts": self.merged_alerts,
                "target_p99": GRACE_MS + TARGET_DELAY_MS,
            },
            "ratio_to_faust_table": {**spread_as_json(self.ratio), "target": TARGET_RATIO},
            "pairs": [pair_as_json(pair, "faust_table") for pair in self.pairs],
            **self.environment.as_json(),
        }

    def rows(self) -> list[FigureRow]:
        """Return the figures as rows for a person."""
        per_s = Spread.of([pair.ours.per_s for pair in self.pairs])
        cpu = Spread.of([pair.ours.cpu_s_per_million for pair in self.pairs])
        peer = Spread.of([pair.peer.per_s for pair in self.pairs])
        verdict = "met" if self.ratio.median >= TARGET_RATIO else "MISSED"
        return [
            FigureRow("fraud worker", f"{per_s.median:,.0f}/s", range_text(per_s)),
            FigureRow("CPU an event", f"{cpu.median:.1f} µs", range_text(cpu, 1)),
            FigureRow("D01 alone, Faust table", f"{peer.median:,.0f}/s", range_text(peer)),
            FigureRow(
                "ratio",
                f"{self.ratio.median:.1f}",
                f"{range_text(self.ratio, 1)}; target {TARGET_RATIO}: {verdict}",
            ),
            FigureRow(
                "state of an active player",
                f"{self.state_bytes_per_player:,.0f} bytes",
                f"{self.active_players:,} players, as in a snapshot",
            ),
            FigureRow(
                "alert delay, p99",
                f"{self.delays.p99_ms:,.0f} ms",
                f"p50 {self.delays.p50_ms:,.0f} ms; {self.alerts} alerts; "
                f"target {TARGET_DELAY_MS} ms",
            ),
            FigureRow(
                "alert delay over several partitions, p99",
                f"{self.merged_delays.p99_ms:,.0f} ms",
                f"p50 {self.merged_delays.p50_ms:,.0f} ms; {self.merged_alerts} alerts; "
                f"target {GRACE_MS + TARGET_DELAY_MS} ms",
            ),
        ]


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
        for subject, events in ((plan.ours, plan.events), (plan.peer, plan.peer_events)):
            progress.begin(f"making a log for {subject.name}")
            await load(producer, subject.source, _encoded(make_log(7)), events, progress.update)
            progress.end(f"{events:,} events")
        pairs = []
        for number in range(1, plan.pairs + 1):
            rates = [
                await _measure(broker, subject, number, plan.pairs, progress)
                for subject in (plan.ours, plan.peer)
            ]
            pairs.append(Pair(*rates))
        progress.begin("delays of alerts")
        delays, merged_delays = await _time_alerts(broker, producer, plan.live)
        progress.end(f"{len(delays)} and {len(merged_delays)} alerts")
        servers = {"origin": plan.servers_origin, "kafka": await broker.settings()}
    state, players = measure_state()
    environment = BenchEnvironment(machine, this_commit(), servers)
    return FraudBenchFigures(
        plan,
        pairs,
        state,
        players,
        Latencies.of(delays),
        len(delays),
        Latencies.of(merged_delays),
        len(merged_delays),
        environment,
    )


async def _measure(
    broker: BrokerView, subject: FraudSubject, number: int, count: int, progress: BenchProgress
) -> Rate:
    progress.begin(f"pair {number} of {count}, {subject.name}")
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
                raise BenchFailed(
                    f"{subject.name} stopped at {done} of {expected}; {process.log_tail()}"
                )
    return samples


def _forget_snapshots(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("TRUNCATE fraud.snapshot, fraud.activation")


async def _time_alerts(
    broker: BrokerView, producer: BatchProducer, subject: FraudSubject
) -> tuple[list[float], list[float]]:
    """Feed bursts, and players who share a card, at a steady rate and with the clock's times.

    Returns from each alert's last record to the alert, in ms: of D01, and of D08, which sees all
    partitions in the order of event time.
    """
    topics = (subject.source, subject.player_events)
    starts = [await broker.end_offsets(topic) for topic in topics]
    alerts_from = await broker.end_offsets(subject.alerts)
    with MeasuredProcess(subject.command) as process:
        feed = _Feed(producer, subject)
        await feed.send()
        await _wait_for(broker, subject, 1, process)
        begin_s, sent = time.monotonic(), 0
        while time.monotonic() - begin_s < _DELAY_FOR_S:
            await feed.send()
            sent += 1
            await asyncio.sleep(max(0.0, begin_s + sent * _BURST / _DELAY_PER_S - time.monotonic()))
        await _wait_for(broker, subject, 2 * (1 + sent), process, feed.move_on)
    appended = {
        name: await broker.timestamps(topic, start)
        for name, topic, start in zip((TRANSACTIONS, PLAYER_EVENTS), topics, starts, strict=True)
    }
    decode = codec.decoder(FraudAlert)
    delays: defaultdict[str, list[float]] = defaultdict(list)
    for record in await broker.records(subject.alerts, alerts_from):
        alert = decode(record.value)
        raised_by = max(
            appended[one.topic][one.partition, one.last_offset] for one in alert.sources
        )
        delays[alert.rule_id].append(float(record.timestamp - raised_by))
    return delays["D01"][1:], delays["D08"][1:]


async def _wait_for(
    broker: BrokerView,
    subject: FraudSubject,
    alerts: int,
    process: MeasuredProcess,
    meanwhile: Callable[[], Awaitable[None]] | None = None,
) -> None:
    deadline_s = time.monotonic() + STALL_S
    while await broker.end_offset_sum(subject.alerts) < alerts:
        if time.monotonic() > deadline_s:
            raise BenchFailed(f"{subject.name} raises no alert; {process.log_tail()}")
        if meanwhile is not None:
            await meanwhile()
        await asyncio.sleep(_POLL_S)


class _Feed:
    """Bursts of bets of one player each, and two players with one card beside each of them."""

    def __init__(self, producer: BatchProducer, subject: FraudSubject) -> None:
        self._producer, self._subject = producer, subject
        self._stream = Stream(11)

    async def send(self) -> None:
        """Send a burst, of which the last bet raises an alert, and two players with one card."""
        now_ms = time.time_ns() // 1_000_000
        player = PlayerStory(self._stream)
        for number in range(_BURST):
            player.bet(now_ms - _BURST + number, 1)
        card = self._stream.next_name("card")
        for _ in range(2):
            PlayerStory(self._stream).report(now_ms, "INSTRUMENT_ADDED", instrument=card)
        await self._flush()

    async def move_on(self) -> None:
        """Send a bet, so that event time moves on."""
        PlayerStory(self._stream).bet(time.time_ns() // 1_000_000, 1)
        await self._flush()

    async def _flush(self) -> None:
        encoders: dict[str, tuple[str, Callable[[Any], bytes]]] = {
            TRANSACTIONS: (self._subject.source, codec.encoder(WalletTransaction)),
            PLAYER_EVENTS: (self._subject.player_events, codec.encoder(PlayerEvent)),
        }
        for topic, (name, encode) in encoders.items():
            own: list[OutRecord] = [
                (sent.key.encode(), encode(sent.record), (), None)
                for sent in self._stream.sent
                if sent.topic == topic
            ]
            if own:
                await self._producer.send_keyed(name, own)
        self._stream.sent.clear()
