"""When the fraud worker says how far its partitions have come: as soon as that lets an alert out, and rarely otherwise.

A poll is one call: no clock runs in these tests, and event time is that of the records.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from fraud_agents import announcer as announcers
from fraud_agents.agent import AgentTopics, FraudAgent, WatchedTopics
from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.global_signals import GlobalDetectors, watermark_signal
from fraud_agents.detectors.ordered import GRACE_MS
from fraud_agents.detectors.shard import IDLE_MS, WATCHED, WATERMARK_STEP_MS, ShardDetectors
from fraud_agents.owned import RECORD_TYPES
from fraud_agents.rule_feed import POLL_MS
from lab.fraud.story import PlayerStory, Stream
from runtime.kafka.batches import RecordBatch
from schemas import codec
from schemas.events import FraudAlert, RiskSignal, SignalKind
from schemas.topics import ALERTS, PLAYER_EVENTS, SIGNALS, TRANSACTIONS
from tests.unit.fraud.test_fraud_agent_kills import Rules, Servers

T0 = 1_788_739_200_000
PASSED_MS = T0 + GRACE_MS + 1
"""Where every input must have come to, so that a signal of T0 is shown."""
PARTITIONS = 2
RULES = [rule for rule in DEFAULT_RULES if rule.rule_id in {"D03", "D08", "D12"}]


class Log(Servers):
    """Every topic in memory. What the worker writes is read by it when a test says so."""

    def __init__(self) -> None:
        super().__init__(None)
        self.records: dict[tuple[str, int], list[bytes]] = defaultdict(list)

    def append(self, topic: str, partition: int, value: bytes) -> None:
        self.records[topic, partition].append(value)
        self.ends[topic, partition] += 1

    async def send_keyed(self, topic, records):
        for _, value, *_ in records:
            self.append(topic, 0, value)

    async def send_batch(self, topic, partition, records):
        for _, value, *_ in records:
            self.append(topic, partition, value)

    def alerts(self) -> list[FraudAlert]:
        return [codec.decoder(FraudAlert)(value) for value in self.records[ALERTS, 0]]

    def watermarks(self) -> list[tuple[tuple[str, int], int]]:
        """Whose watermarks were written, and which."""
        decoded = [codec.decoder(RiskSignal)(value) for value in self.records[SIGNALS, 0]]
        return [
            ((one.source.topic, one.source.partition), one.occurred_at)
            for one in decoded
            if one.kind == SignalKind.WATERMARK
        ]


class OneRead(Rules):
    """The ends of partitions, and how often other workers' records were looked at."""

    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self.log, self.looks = log, 0

    async def last_values(self, place):
        self.looks += 1
        return self.log.records[place][-5:]


class Worker:
    """A fraud worker that owns some partitions of the watched topics, and reads them when told to."""

    def __init__(self, log: Log, partitions=range(PARTITIONS), *, reads_signals=True) -> None:
        self.log, self.rules = log, OneRead(log)
        own = [TopicPartition(topic, number) for number in partitions for topic in WATCHED]
        self.partitions = [*own, TopicPartition(SIGNALS, 0)] if reads_signals else own
        self._next: dict[TopicPartition, int] = defaultdict(int)
        topics = {tp.topic: tp.topic for tp in self.partitions}
        servers: Any = log
        letters: Any = None

        async def make_shard(rule_sets, partition):
            return ShardDetectors(RULES, partition)

        async def make_global(rule_sets, partition):
            return GlobalDetectors(RULES, partition, PARTITIONS)

        self.agent = FraudAgent(
            self.rules,
            servers,
            servers,
            letters,
            AgentTopics(topics, ALERTS, "house", SIGNALS),
            [WatchedTopics(WATCHED, make_shard), WatchedTopics((SIGNALS,), make_global)],
            snapshot_interval_ms=10**9,
            snapshot_records=10**6,
        )

    async def start(self) -> Worker:
        await self.agent.claim(self.partitions)
        return self

    async def read(self) -> None:
        """Read every partition to its end, as it was when this began."""
        ends = {tp: len(self.log.records[tp.topic, tp.partition]) for tp in self.partitions}
        for tp, end in ends.items():
            start = self._next[tp]
            values = self.log.records[tp.topic, tp.partition][start:end]
            if values:
                records = [
                    SimpleNamespace(topic=tp.topic, partition=tp.partition, offset=at, value=value)
                    for at, value in enumerate(values, start)
                ]
                self._next[tp] = end
                batch = RecordBatch(tp.topic, tp.partition, start, end, records, 1)
                await self.agent.handle(batch)

    async def read_all(self) -> None:
        """Read until nothing new is written: the second time what was written meanwhile, and so on."""
        for _ in range(4):
            await self.read()


def append(log: Log, stream: Stream, partition: int) -> None:
    for sent in stream.sent:
        log.append(sent.topic, partition, codec.encoder(RECORD_TYPES[sent.topic])(sent.record))
    stream.sent.clear()


def share_a_card(log: Log, stream: Stream, partition: int = 0) -> None:
    """D08: two accounts with one card, of which the second makes the case, at T0."""
    for at_ms in (T0 - 1, T0):
        PlayerStory(stream).report(at_ms, "INSTRUMENT_ADDED", instrument="card")
    append(log, stream, partition)


def bet(log: Log, stream: Stream, at_ms: int, partition: int = 0, region: str = "MT") -> None:
    PlayerStory(stream, region).bet(at_ms, 100)
    append(log, stream, partition)


@pytest.fixture
def log() -> Log:
    return Log()


async def test_what_waits_for_all_partitions_is_shown_with_the_first_poll_after_the_grace(log):
    worker, stream = await Worker(log).start(), Stream(1)
    share_a_card(log, stream)
    bet(log, stream, PASSED_MS - 1)
    await worker.read_all()
    await worker.agent.announce_idle()
    await worker.read_all()
    assert log.alerts() == []  # a record of T0 could come with any of the next
    bet(log, stream, PASSED_MS)
    await worker.read_all()
    await worker.agent.announce_idle()
    await worker.read()
    assert [alert.rule_id for alert in log.alerts()] == ["D08"]


async def test_what_waits_for_the_two_topics_of_a_player_is_shown_with_it_as_well(log):
    worker, stream = await Worker(log).start(), Stream(2)
    bet(log, stream, T0, region="US-NJ")  # D12: it says nowhere where the player is
    await worker.read_all()
    await worker.agent.announce_idle()  # the heartbeat that there has been up to now
    await worker.read_all()
    bet(log, stream, T0 + GRACE_MS - IDLE_MS // 2)
    await worker.read_all()
    await worker.agent.announce_idle()
    await worker.read_all()
    assert log.alerts() == []
    bet(log, stream, PASSED_MS)
    await worker.read_all()
    await worker.agent.announce_idle()
    await worker.read()
    assert [alert.rule_id for alert in log.alerts()] == ["D12"]


async def test_a_partition_that_has_passed_the_first_that_waits_is_announced_for_the_last(log):
    """Else each poll would let one out."""
    worker, stream = await Worker(log).start(), Stream(10)
    for number in range(3):
        for _ in range(2):
            instrument = f"card-{number}"
            PlayerStory(stream).report(T0 + 100 * number, "INSTRUMENT_ADDED", instrument=instrument)
    append(log, stream, 0)
    # Partition 1 has come to where the first of them is let out, by a record of its own.
    PlayerStory(stream).report(PASSED_MS, "INSTRUMENT_ADDED", instrument="other")
    append(log, stream, 1)
    bet(log, stream, PASSED_MS + 200)
    await worker.read_all()
    assert log.alerts() == []
    await worker.agent.announce_idle()
    await worker.read()
    assert [alert.rule_id for alert in log.alerts()] == ["D08"] * 3


async def test_nothing_is_written_twice_before_it_is_read(log):
    worker, stream = await Worker(log).start(), Stream(3)
    share_a_card(log, stream)
    bet(log, stream, PASSED_MS)
    await worker.read_all()
    await worker.agent.announce_idle()
    written = {place: len(values) for place, values in log.records.items()}
    for _ in range(3):
        await worker.agent.announce_idle()
    assert {place: len(values) for place, values in log.records.items()} == written


async def test_while_nothing_waits_an_idle_partition_is_announced_once_a_second(log):
    worker, stream = await Worker(log).start(), Stream(4)
    bet(log, stream, T0)
    await worker.read_all()
    for _ in range(3):
        await worker.agent.announce_idle()
        await worker.read_all()
    before = len(log.watermarks()), log.ends[PLAYER_EVENTS, 0]
    # The bet does wait: for as long as the grace, and that is not over.
    for moved_ms in range(100, IDLE_MS, 100):
        bet(log, stream, T0 + moved_ms)
        await worker.read_all()
        await worker.agent.announce_idle()
        await worker.read_all()
    own = 1  # of the log's partition, by the records themselves
    assert (len(log.watermarks()), log.ends[PLAYER_EVENTS, 0]) == (before[0] + own, before[1])
    bet(log, stream, T0 + IDLE_MS)
    await worker.read_all()
    await worker.agent.announce_idle()
    assert log.ends[PLAYER_EVENTS, 0] == before[1] + 1
    assert len(log.watermarks()) > before[0] + own


async def test_at_rest_nothing_is_written_and_no_other_worker_is_looked_at(log):
    worker, stream = await Worker(log).start(), Stream(5)
    share_a_card(log, stream)
    bet(log, stream, PASSED_MS - 1)  # the case waits, and nothing moves on
    for _ in range(4):
        await worker.read_all()
        await worker.agent.announce_idle()
    written = {place: len(values) for place, values in log.records.items()}
    for _ in range(5):
        await worker.agent.announce_idle()
    assert {place: len(values) for place, values in log.records.items()} == written
    assert worker.rules.looks == 0


async def test_a_partition_that_is_read_says_how_far_it_is_when_that_is_waited_for(log):
    """Its own step has not passed since its last watermark, and more of it is on the way."""
    worker, stream = await Worker(log).start(), Stream(6)
    PlayerStory(stream).report(T0, "REGISTERED", affiliate="a")  # D03 waits for the log as well
    append(log, stream, 0)
    bet(log, stream, PASSED_MS - WATERMARK_STEP_MS // 2, 1)
    await worker.read_all()
    bet(log, stream, PASSED_MS, 1)
    await worker.read_all()
    own = [at_ms for place, at_ms in log.watermarks() if place == (TRANSACTIONS, 1)]
    assert own[-1] < PASSED_MS
    bet(log, stream, PASSED_MS + 1, 1)  # not read yet
    await worker.agent.announce_idle()
    own = [at_ms for place, at_ms in log.watermarks() if place == (TRANSACTIONS, 1)]
    assert own[-1] == PASSED_MS


async def test_a_partition_that_is_not_read_to_its_end_is_not_idle(log):
    worker, stream = await Worker(log).start(), Stream(7)
    share_a_card(log, stream)
    bet(log, stream, PASSED_MS)
    await worker.read_all()
    PlayerStory(stream).report(T0, "LOGIN", device="d")
    append(log, stream, 1)  # before PASSED_MS, and not read yet
    await worker.agent.announce_idle()
    assert (PLAYER_EVENTS, 1) not in {place for place, _ in log.watermarks()}
    await worker.read()
    assert log.alerts() == []


async def test_the_reader_of_the_signals_knows_from_them_how_far_other_workers_are(log):
    """All its own partitions are idle; it looks nowhere else."""
    worker, stream = await Worker(log, [1]).start(), Stream(8)
    other = await Worker(log, [0], reads_signals=False).start()
    share_a_card(log, stream)
    bet(log, stream, PASSED_MS)
    await other.read_all()
    await worker.read_all()
    await worker.agent.announce_idle()
    await other.agent.announce_idle()
    await other.read_all()
    await worker.read()
    assert [alert.rule_id for alert in log.alerts()] == ["D08"]
    assert worker.rules.looks == 0


async def test_a_worker_that_does_not_read_the_signals_announces_in_the_steps_of_watermarks(log):
    """It does not know what waits, so something may."""
    worker, stream = await Worker(log, reads_signals=False).start(), Stream(9)
    bet(log, stream, T0)
    await worker.read_all()
    await worker.agent.announce_idle()
    await worker.read_all()
    written = len(log.watermarks())
    bet(log, stream, T0 + WATERMARK_STEP_MS - 1)
    await worker.read()
    await worker.agent.announce_idle()
    assert len(log.watermarks()) == written
    bet(log, stream, T0 + WATERMARK_STEP_MS)
    await worker.read()
    written = len(log.watermarks())
    await worker.agent.announce_idle()
    # Partition 1 of each topic, and the results of partition 0; its player events get a heartbeat
    # with the time of the log, which is not far enough ahead yet.
    later = {place for place, _ in log.watermarks()[written:]}
    assert later >= {(topic, 1) for topic in WATCHED}


async def test_an_idle_worker_looks_again_at_once_where_the_others_go_on(log, monkeypatch):
    monkeypatch.setattr(announcers, "ELSEWHERE_S", 3_600.0)
    monkeypatch.setattr(announcers, "ELSEWHERE_MOVING_S", 0.0)
    worker = await Worker(log, [1], reads_signals=False).start()
    encode = codec.encoder(RiskSignal)
    for looks, at_ms in ((1, T0), (2, T0 + IDLE_MS), (3, T0 + IDLE_MS), (3, T0 + 2 * IDLE_MS)):
        log.append(SIGNALS, 0, encode(watermark_signal((TRANSACTIONS, 0, 0), at_ms)))
        await worker.agent.announce_idle()
        assert worker.rules.looks == looks
    assert max(at_ms for place, at_ms in log.watermarks() if place[1] == 1) == T0 + IDLE_MS


class TimedLog(Log):
    """Also knows when each record was appended, by a clock that the test moves."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = T0
        self.appended: dict[tuple[str, int], list[int]] = defaultdict(list)

    def append(self, topic: str, partition: int, value: bytes) -> None:
        super().append(topic, partition, value)
        self.appended[topic, partition].append(self.now_ms)

    def delays_ms(self) -> dict[str, list[int]]:
        """The times from the last source of each alert to the alert, by rule."""
        found: dict[str, list[int]] = defaultdict(list)
        for alert, at_ms in zip(self.alerts(), self.appended[ALERTS, 0], strict=True):
            last = max(
                self.appended[one.topic, one.partition][one.last_offset] for one in alert.sources
            )
            found[alert.rule_id].append(at_ms - last)
        return found


async def test_an_alert_comes_a_poll_and_two_reads_after_the_grace_where_the_log_goes_on():
    """Polls, reads and traffic of `pitboss bench fraud` on a clock of the test's own."""
    every_ms, read_ms, cases = 120, 40, 20
    log, stream = TimedLog(), Stream(12)
    worker = await Worker(log).start()
    end_ms = T0 + cases * every_ms + GRACE_MS + 1_000
    for log.now_ms in range(T0, end_ms, 10):
        passed_ms = log.now_ms - T0
        if passed_ms % every_ms == 0:
            for partition in range(PARTITIONS):
                bet(log, stream, log.now_ms, partition)
        if passed_ms % every_ms == 0 and passed_ms < cases * every_ms:
            number = passed_ms // every_ms
            for partition in range(PARTITIONS):
                player = PlayerStory(stream)
                player.report(log.now_ms, "INSTRUMENT_ADDED", instrument=f"card-{number}")
                append(log, stream, partition)
            bet(log, stream, log.now_ms, number % PARTITIONS, "US-NJ")
        if passed_ms % read_ms == 10:
            await worker.read()
        if passed_ms % POLL_MS == 20:
            await worker.agent.announce_idle()
    delays_ms = log.delays_ms()
    assert {rule: len(own) for rule, own in delays_ms.items()} == {"D08": cases, "D12": cases}
    longest_ms = GRACE_MS + every_ms + POLL_MS + 3 * read_ms
    assert max(delays_ms["D08"]) <= longest_ms
    assert max(delays_ms["D12"]) <= longest_ms
