"""Labelled traffic of every detector among the bets of many players, on real topics, and its alerts by the replay.

The bets are spread over the days of the traffic, so that a worker which is killed among them is in the middle of cases of
every detector: of one partition, of a player's two topics, and of `risk.signals.v1`.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import attrgetter
from typing import Any, TypeAlias

from aiokafka.structs import TopicPartition

from fraud_agents.detectors.shard import WATCHED
from fraud_agents.owned import RECORD_TYPES
from lab.fraud.story import Sent
from lab.fraud.traffic import SPAN_MS, START_MS, Traffic, make_traffic
from ledger_sink.rules.book import LogEvent
from pitboss.settings import Runtime
from replay.audit.rerun import rerun_detectors
from replay.log.blocks import LogSource
from runtime.kafka.producer import BatchProducer, OutRecord, ProducerSettings
from schemas import codec
from schemas.events import FraudAlert, Position
from schemas.topics import SIGNALS, TRANSACTIONS
from tests.support import fraud_log
from tests.support.fraud_log import PARTITIONS, bet, burst, partition_of

TOPICS = (*WATCHED, SIGNALS)
"""All that the fraud worker reads."""
QUIET_S = 5.0
"""The worker looks five times a second which partitions are idle, and each second how far others are."""
CHUNK = 20_000
PLAYERS = 20_000

Finding: TypeAlias = tuple[str, str, str]
"""Rule, key and reason of an alert."""


def small_traffic() -> Traffic:
    """Return traffic in which every rule of the release raises alerts."""
    return make_traffic(1, ordinary=30, injections=8)


def interleave(traffic: Traffic, bets: int, seed: int) -> Iterator[Sent]:
    """Yield the traffic with so many bets of quiet players among it, and bursts, in the order of appending."""
    quiet = _quiet_bets(random.Random(f"{seed} quiet"), bets)
    bursts = _bursts(random.Random(f"{seed} bursts"), max(6, bets // 25_000))
    return heapq.merge(quiet, bursts, traffic.sent, key=attrgetter("append_ms"))


def _quiet_bets(rng: random.Random, count: int) -> Iterator[Sent]:
    recent: list[tuple[str, str]] = []
    for number in range(count):
        at_ms = START_MS + number * SPAN_MS // count
        player, tx = f"quiet-{rng.randrange(PLAYERS)}", f"q{number}"
        if recent and rng.random() < 0.01:
            player, tx = rng.choice(recent)  # the provider sends it again, under its id
        recent = [*recent[-99:], (player, tx)]
        yield Sent(at_ms, TRANSACTIONS, player, bet(player, at_ms, tx))


def _bursts(rng: random.Random, count: int) -> list[Sent]:
    """Bursts over and under what is warned of and what is held."""
    events = []
    for number in range(count):
        start_ms = START_MS + rng.randrange(SPAN_MS)
        events += burst(f"fast-{number}", start_ms, rng.choice([100, 130, 480, 520, 600]))
    events.sort(key=attrgetter("occurred_at", "event_id"))
    return [Sent(one.occurred_at, TRANSACTIONS, one.player_id or "", one) for one in events]


async def append_sent(runtime: Runtime, sent: Iterable[Sent]) -> int:
    """Append records to their topics in their order; return how many of the log.

    Heartbeats of player events are left out: the worker writes its own where it sees that none came.
    """
    count, records = 0, iter(sent)
    async with BatchProducer(ProducerSettings(runtime.broker, "pitboss.test")) as producer:
        while chunk := list(islice(records, CHUNK)):
            for (topic, partition), own in _by_partition(chunk).items():
                await producer.send_batch(runtime.topic(topic), partition, own)
                count += len(own) if topic == TRANSACTIONS else 0
    return count


def _by_partition(chunk: Iterable[Sent]) -> dict[tuple[str, int], list[OutRecord]]:
    encoders = {topic: codec.encoder(RECORD_TYPES[topic]) for topic in TOPICS}
    found: dict[tuple[str, int], list[OutRecord]] = {}
    for one in chunk:
        if not one.key and one.topic != TRANSACTIONS:
            continue
        value = encoders[one.topic](one.record)
        # A record without a key is a heartbeat of every partition.
        for partition in [partition_of(one.key)] if one.key else range(PARTITIONS):
            found.setdefault((one.topic, partition), []).append((one.key.encode(), value, (), None))
    return found


def rerun(source: LogSource, prefix: str) -> dict[str, FraudAlert]:
    """Return the alerts of all topics as a source has them, by the code of the audit."""
    bounds = {topic: source.bounds(prefix + topic) for topic in TOPICS}
    read: dict[str, dict[int, Iterator[tuple[int, Any]]]] = {
        topic: {
            number: _records(source, prefix, topic, number, *each) for number, each in own.items()
        }
        for topic, own in bounds.items()
    }
    log = {number: _events(number, own) for number, own in read.pop(TRANSACTIONS).items()}
    return rerun_detectors(log, others=read, partitions=len(log))


def _records(
    source: LogSource, prefix: str, topic: str, partition: int, begin: int, end: int
) -> Iterator[tuple[int, Any]]:
    decode = codec.decoder(RECORD_TYPES[topic])
    for block in source.read(prefix + topic, partition, begin, end):
        for offset, value in zip(block.offsets, block.values, strict=True):
            yield offset, decode(value or b"")


def _events(partition: int, records: Iterable[tuple[int, Any]]) -> Iterator[LogEvent]:
    for offset, event in records:
        yield LogEvent(event, Position(TRANSACTIONS, partition, offset))


def findings(alerts: Iterable[FraudAlert]) -> set[Finding]:
    """Return what alerts about the labelled traffic have found."""
    found = {(alert.rule_id, alert.key, alert.reason) for alert in alerts}
    return {one for one in found if not one[1].startswith("default:")}  # the brand of the bets


async def wait_until_quiet(runtime: Runtime, timeout_s: float = 240) -> None:
    """Wait until the worker has read all topics, and writes no more to them itself."""
    topics = [runtime.topic(topic) for topic in TOPICS]
    since_s = time.monotonic()
    before: dict[TopicPartition, int] = {}

    async def is_quiet() -> bool:
        nonlocal since_s, before
        ends = await fraud_log.all_ends(runtime, topics)
        if ends != before or await fraud_log.reached(runtime, [*ends]) != ends:
            since_s, before = time.monotonic(), ends
        return time.monotonic() - since_s >= QUIET_S

    await fraud_log.wait_until(is_quiet, "the worker at the end of every topic", timeout_s)
