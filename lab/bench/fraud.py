"""The fraud worker with all its detectors, against bet velocity alone in a Faust windowed table.

Both read the same kind of log from a cold start; progress is what their groups have committed.
Alerts are timed in a run of its own at a steady rate, as a catch-up has no delays to speak of: of
detectors that answer at a record, and of those that see several partitions merged by event time.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import psycopg

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
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
CASE_RULES: Final = ("D01", "D02", "D08", "D12", "D15", "D18")
"""Rules that can be met within a moment: four with the player as their key, one that merges a
player's two topics, one that merges all partitions."""
_VERDICTS: Final = {True: "met", False: "MISSED"}


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
class AlertDelays:
    """Times from the last record of an alert to the alert, of several rules together."""

    rules: tuple[str, ...]
    """Those that raised alerts."""
    alerts: int
    took: Latencies
    target_p99_ms: int

    @classmethod
    def of(cls, by_rule: Mapping[str, Sequence[float]], target_p99_ms: int) -> AlertDelays:
        """Return the delays of rules, in ms. Raises BenchFailed where there is none."""
        all_ms = [ms for own in by_rule.values() for ms in own]
        if not all_ms:
            raise BenchFailed("no alert was raised whose delay could be measured")
        rules = tuple(sorted(name for name, own in by_rule.items() if own))
        return cls(rules, len(all_ms), Latencies.of(all_ms), target_p99_ms)

    @property
    def holds(self) -> bool:
        """Whether the p99 is within its target."""
        return self.took.p99_ms <= self.target_p99_ms

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints of them."""
        return {
            "p50": self.took.p50_ms,
            "p99": self.took.p99_ms,
            "max": self.took.max_ms,
            "alerts": self.alerts,
            "rules": self.rules,
            "target_p99": self.target_p99_ms,
            "holds": self.holds,
        }

    def row(self, name: str) -> FigureRow:
        """Return the p99 as a row for a person."""
        return FigureRow(
            f"{name}, p99",
            f"{self.took.p99_ms:,.0f} ms",
            f"p50 {self.took.p50_ms:,.0f} ms; {self.alerts} alerts of {', '.join(self.rules)}; "
            f"target {self.target_p99_ms:,} ms: {_VERDICTS[self.holds]}",
        )


def split_delays(by_rule: Mapping[str, Sequence[float]]) -> tuple[AlertDelays, AlertDelays]:
    """Return the delays of the rules with the player as their key, and of those that are merged."""
    of_player = {name: own for name, own in by_rule.items() if name not in SIGNAL_DETECTORS}
    of_merged = {name: own for name, own in by_rule.items() if name in SIGNAL_DETECTORS}
    return (
        AlertDelays.of(of_player, TARGET_DELAY_MS),
        AlertDelays.of(of_merged, GRACE_MS + TARGET_DELAY_MS),
    )


@dataclass(frozen=True)
class FraudBenchFigures:
    """Figures of a run."""

    plan: FraudBenchPlan
    pairs: list[Pair]
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
            FigureRow("D01 alone, Faust table", f"{peer.median:,.0f}/s", range_text(peer)),
            FigureRow(
                "ratio",
                f"{self.ratio.median:.1f}",
                f"{range_text(self.ratio, 1)}; target {TARGET_RATIO}: "
                f"{_VERDICTS[self.is_ratio_met]}",
            ),
            FigureRow(
                "state of an active player",
                f"{self.state_bytes_per_player:,.0f} bytes",
                f"{self.active_players:,} players, as in a snapshot",
            ),
            self.delays.row("alert delay"),
            self.merged_delays.row("alert delay over several partitions"),
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
        delays, merged_delays = split_delays(await _time_alerts(broker, producer, plan.live))
        progress.end(f"{delays.alerts} and {merged_delays.alerts} alerts")
        servers = {"origin": plan.servers_origin, "kafka": await broker.settings()}
    state, players = measure_state()
    environment = BenchEnvironment(machine, this_commit(), servers)
    return FraudBenchFigures(plan, pairs, state, players, delays, merged_delays, environment)


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
) -> Mapping[str, Sequence[float]]:
    """Feed cases at a steady rate and with the clock's times.

    Returns by rule the times from each alert's last record to the alert, in ms. The first of each
    rule is left out: it meets a worker that has just started.
    """
    topics = (subject.source, subject.player_events)
    starts = [await broker.end_offsets(topic) for topic in topics]
    alerts_from = await broker.end_offsets(subject.alerts)
    with MeasuredProcess(subject.command) as process:
        feed = _Feed(producer, subject)

        await feed.send()
        await _wait_for(broker, subject, 1, process, feed.move_on)
        begin_s, sent = time.monotonic(), 0
        while time.monotonic() - begin_s < _DELAY_FOR_S:
            await feed.send()
            sent += 1
            await asyncio.sleep(max(0.0, begin_s + sent * _BURST / _DELAY_PER_S - time.monotonic()))
        await _wait_for(broker, subject, 1 + sent, process, feed.move_on)
    records = await broker.records(subject.alerts, alerts_from)
    appended = {
        name: await broker.timestamps(topic, start)
        for name, topic, start in zip((TRANSACTIONS, PLAYER_EVENTS), topics, starts, strict=True)
    }
    decode = codec.decoder(FraudAlert)
    delays: defaultdict[str, list[float]] = defaultdict(list)
    for record in records:
        alert = decode(record.value)
        raised_by = max(
            appended[one.topic][one.partition, one.last_offset] for one in alert.sources
        )
        delays[alert.rule_id].append(float(record.timestamp - raised_by))
    return {rule_id: own[1:] for rule_id, own in delays.items()}


async def _wait_for(
    broker: BrokerView,
    subject: FraudSubject,
    rounds: int,
    process: MeasuredProcess,
    meanwhile: Callable[[], Awaitable[None]],
) -> None:
    """Wait for the alerts of so many rounds: each raises one of each rule."""
    deadline_s, expected = time.monotonic() + STALL_S, len(CASE_RULES) * rounds
    while (raised := await broker.end_offset_sum(subject.alerts)) < expected:
        if time.monotonic() > deadline_s:
            raise BenchFailed(
                f"{subject.name} has raised {raised} of {expected} alerts; {process.log_tail()}"
            )
        await meanwhile()
        await asyncio.sleep(_POLL_S)


def send_cases(stream: Stream, now_ms: int) -> None:
    """Send one case of each rule of `CASE_RULES`, all of them at one time."""
    player = PlayerStory(stream)
    for number in range(_BURST):
        player.bet(now_ms - _BURST + number, 1)  # D01, at the last of them
    depositor = PlayerStory(stream)
    reference = depositor.open_deposit(now_ms - 1, 1_000)
    depositor.confirm(now_ms, 1_000, reference, signature="NOT_CHECKED")  # D02
    card = stream.next_name("card")
    for _ in range(2):
        PlayerStory(stream).report(now_ms, "INSTRUMENT_ADDED", instrument=card)  # D08
    PlayerStory(stream, "US-NJ").bet(now_ms, 1)  # D12: it says nowhere where the player is
    repeater = PlayerStory(stream)
    first = repeater.bet(now_ms - 1, 1)
    repeater.bet(now_ms, 2, round_id=first.round_id or "", tx_id=first.provider_tx_id)  # D15
    excluded = PlayerStory(stream)
    excluded.set_state(now_ms - 1, "player.blocked", "exclusion")
    excluded.bet(now_ms, 1)  # D18


class _Feed:
    """The cases of one stream, sent as they come."""

    def __init__(self, producer: BatchProducer, subject: FraudSubject) -> None:
        self._producer, self._subject = producer, subject
        self._stream = Stream(11)

    async def send(self) -> None:
        """Send a case of each rule."""
        send_cases(self._stream, time.time_ns() // 1_000_000)
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
