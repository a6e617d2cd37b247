"""The times from records to the alerts that they raise, in a run of its own at a steady rate.

Of detectors that answer at a record, and of those that see several partitions merged by event time.
The log goes on in each of its partitions, as a cashier's does: where nothing comes after a case,
a merged detector waits for the next record, and that wait would be the traffic's.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
from fraud_agents.detectors.ordered import GRACE_MS
from lab.bench.broker import BrokerView
from lab.bench.observation import STALL_S
from lab.bench.processes import BenchFailed, MeasuredProcess, ProcessCommand
from lab.bench.rates import Latencies
from lab.bench.report import FigureRow
from lab.fraud.story import PlayerStory, Stream
from runtime.kafka.partitioner import partition_for
from runtime.kafka.producer import BatchProducer, OutRecord
from schemas import codec
from schemas.events import FraudAlert, PlayerEvent, WalletTransaction
from schemas.topics import PLAYER_EVENTS, TRANSACTIONS

TARGET_DELAY_MS: Final = 1_000
VERDICTS: Final = {True: "met", False: "MISSED"}
CASE_RULES: Final = ("D01", "D02", "D08", "D12", "D15", "D18")
"""Rules that can be met within a moment: four with the player as their key, one that merges a
player's two topics, one that merges all partitions."""
_POLL_S: Final = 0.1
_PER_S: Final = 1_000
_FOR_S: Final = 20.0
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
            f"target {self.target_p99_ms:,} ms: {VERDICTS[self.holds]}",
        )


def split_delays(by_rule: Mapping[str, Sequence[float]]) -> tuple[AlertDelays, AlertDelays]:
    """Return the delays of the rules with the player as their key, and of those that are merged."""
    of_player = {name: own for name, own in by_rule.items() if name not in SIGNAL_DETECTORS}
    of_merged = {name: own for name, own in by_rule.items() if name in SIGNAL_DETECTORS}
    return (
        AlertDelays.of(of_player, TARGET_DELAY_MS),
        AlertDelays.of(of_merged, GRACE_MS + TARGET_DELAY_MS),
    )


async def time_alerts(
    broker: BrokerView, producer: BatchProducer, subject: FraudSubject
) -> Mapping[str, Sequence[float]]:
    """Feed cases at a steady rate and with the clock's times, over a log that goes on.

    Returns by rule the times from each alert's last record to the alert, in ms. The first of each
    rule is left out: it meets a worker that has just started.
    """
    topics = (subject.source, subject.player_events)
    starts = [await broker.end_offsets(topic) for topic in topics]
    alerts_from = await broker.end_offsets(subject.alerts)
    with MeasuredProcess(subject.command) as process:
        feed = _Feed(producer, subject, len(starts[0]))
        await feed.send()
        await _wait_for(broker, subject, 1, process, feed.move_on)
        begin_s, sent = time.monotonic(), 0
        while time.monotonic() - begin_s < _FOR_S:
            await feed.send()
            sent += 1
            await asyncio.sleep(max(0.0, begin_s + sent * _BURST / _PER_S - time.monotonic()))
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
    progress_s, before, expected = time.monotonic(), 0, len(CASE_RULES) * rounds
    while (raised := await broker.end_offset_sum(subject.alerts)) < expected:
        process.check_alive()
        if raised != before:
            progress_s, before = time.monotonic(), raised
        if time.monotonic() > progress_s + STALL_S:
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


def send_bystanders(stream: Stream, now_ms: int, partitions: int) -> None:
    """Send a bet of a new player in each partition of the log."""
    missing = set(range(partitions))
    while missing:
        player = PlayerStory(stream)
        partition = partition_for(player.player_id.encode(), partitions)
        if partition in missing:
            player.bet(now_ms, 1)
            missing.remove(partition)


class _Feed:
    """The cases of one stream, sent as they come."""

    def __init__(self, producer: BatchProducer, subject: FraudSubject, partitions: int) -> None:
        self._producer, self._subject, self._partitions = producer, subject, partitions
        self._stream = Stream(11)

    async def send(self) -> None:
        """Send a case of each rule, and bets that are part of none."""
        send_cases(self._stream, time.time_ns() // 1_000_000)
        await self.move_on()

    async def move_on(self) -> None:
        """Send bets, so that event time moves on in each partition of the log."""
        send_bystanders(self._stream, time.time_ns() // 1_000_000, self._partitions)
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
