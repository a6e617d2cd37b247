"""The fraud agent over a broker and a database in memory, killed at any of its steps."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiokafka.structs import TopicPartition

from fraud_agents.activations import Marker, Timeline, rerun_shard
from fraud_agents.agent import AgentTopics, FraudAgent, WatchedTopics
from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.global_signals import GlobalDetectors
from fraud_agents.detectors.shard import WATCHED, ShardDetectors
from fraud_agents.owned import RECORD_TYPES
from fraud_agents.rule_book import RuleBook, encode_rule
from fraud_agents.snapshots import SnapshotClaim, SnapshotRow
from lab.fraud.traffic import make_traffic
from pitboss.workers.fraud import create_enforcement
from replay.audit.rerun import name_record
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.start_offsets import LOG_START
from schemas import codec
from schemas.events import FraudAlert
from schemas.rule_changes import RuleChange, RuleChangeKind
from schemas.topics import ALERTS, GAME_RESULTS, PLAYER_EVENTS, SIGNALS, TRANSACTIONS

BOTH = frozenset({"block", "hold"})
PLAYER_KEYED = {"D01", "D02", "D07", "D09", "D11", "D13", "D14", "D18", "D20"}
VARIED = {"D01", "D02", "D09", "D12", "D14", "D16", "D20"}
STOPPING = {rule.rule_id for rule in DEFAULT_RULES if rule.stops_player}


class Killed(BaseException):
    """The process ends here; nothing that follows happens."""


class Servers:
    """What outlives the process: the topics it wrote, its snapshots, and when it is killed next."""

    def __init__(self, rng: random.Random | None) -> None:
        self.rng = rng
        self.written: list[tuple[str, bytes | None, bytes]] = []
        self.rows: dict[tuple[str, int], SnapshotRow] = {}
        self.markers: dict[tuple[str, int], dict[int, Marker]] = defaultdict(dict)
        self.changes: list[RuleChange] = []
        self.ends: dict[tuple[str, int], int] = defaultdict(int)
        self.epoch = 0
        self.kills = 0
        self.rate = 0.04

    def step(self) -> None:
        if self.rng is not None and self.rng.random() < self.rate:
            self.kills += 1
            raise Killed

    async def claim(self, places):
        self.epoch += 1
        claims = []
        for topic, partition in sorted(places):
            row = self.rows.get((topic, partition))
            offset, rule_set, state = (0, None, None) if row is None else row[3:]
            markers = tuple(sorted(self.markers[topic, partition].values()))
            claims.append(
                SnapshotClaim(topic, partition, self.epoch, offset, rule_set, state, markers)
            )
        return claims

    async def activate(self, topic, partition, epoch, marker):
        self.step()
        assert epoch == self.epoch
        self.markers[topic, partition][marker.from_offset] = marker
        self.step()

    async def discard(self, places):
        self.step()
        for topic, partition, epoch in places:
            assert epoch == self.epoch
            self.rows.pop((topic, partition), None)
        self.step()

    async def save(self, rows):
        self.step()
        for row in rows:
            assert row.epoch == self.epoch
            self.rows[row.topic, row.partition] = row
        self.step()

    async def partition_count(self, topic):
        return 1

    async def send_batch(self, topic, partition, records):
        """Heartbeats of idle player events: the tests that need them replace this."""

    async def send_keyed(self, topic, records):
        # Some are written, others are not. Many are cut in a few places: a kill at each of a
        # hundred would let no attempt come to an end.
        every = max(1, len(records) // (2 if topic == SIGNALS else 8))
        for number, (key, value, *_) in enumerate(records):
            if number % every == 0:
                self.step()
            self.written.append((topic, key, value))
        if topic != SIGNALS:
            self.step()

    def signals(self) -> list[SimpleNamespace]:
        """The partition of `risk.signals.v1` that has all partial signals."""
        own = [value for topic, _, value in self.written if topic == SIGNALS]
        return [SimpleNamespace(offset=offset, value=value) for offset, value in enumerate(own)]


Log = dict[str, list[SimpleNamespace]]


@pytest.fixture(scope="module")
def log() -> Log:
    """The records of one partition of each watched topic, and the normaliser's signals."""
    traffic = make_traffic(3, ordinary=6, injections=4)
    found: Log = {}
    for topic in (*WATCHED, SIGNALS):
        own = [sent.record for sent in traffic.sent if sent.topic == topic]
        encode = codec.encoder(RECORD_TYPES[topic])
        found[topic] = [
            SimpleNamespace(offset=offset, value=encode(record))
            for offset, record in enumerate(own)
        ]
    return found


class Rules:
    """The topic of rule changes as one process has read it."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.book = RuleBook(DEFAULT_RULES)
        self.read()

    def read(self) -> None:
        for offset, change in enumerate(self.servers.changes[self.book.position :]):
            assert self.book.apply(change, self.book.position) is None, offset

    async def reach(self, position):
        self.read()
        assert self.book.position >= position

    async def end_offsets(self, places):
        self.servers.step()
        return {place: self.servers.ends[place] for place in places}

    async def last_values(self, place):
        assert place == (SIGNALS, 0)
        return [one.value for one in self.servers.signals()[-5:]]


def agent_of(
    servers: Any, rules: Any, topics: Sequence[str] = WATCHED, letters: Any = None
) -> FraudAgent:
    async def make(rule_sets, partition):
        if topics == WATCHED:
            return ShardDetectors(rule_sets, partition)
        return GlobalDetectors(rule_sets[SIGNALS], partition, 1)

    return FraudAgent(
        rules,
        servers,
        servers,
        letters,
        AgentTopics({topic: topic for topic in topics}, ALERTS, "house", SIGNALS),
        [WatchedTopics(tuple(topics), make)],
        enforcement=create_enforcement(BOTH, {}),
        snapshot_interval_ms=10**9,
        snapshot_records=700,
    )


async def run(log: Log, servers: Servers, changes: Sequence[tuple[int, RuleChange]] = ()) -> None:
    """Handle the topics to their ends, beginning again at the snapshots after every kill.

    `changes` of the rules are appended to their topic once the log has come to an offset.
    """
    while True:
        try:
            await run_to_end(log, servers, changes, WATCHED)
        except Killed:
            continue
        break


async def run_signals(log: Log, servers: Servers) -> None:
    """Let the detectors with other keys than the player handle what the others have written.

    The normaliser's signals come first: a real partition has each of them at one offset, too.
    """
    values = [one.value for one in (*log[SIGNALS], *servers.signals())]
    signals = [SimpleNamespace(offset=offset, value=value) for offset, value in enumerate(values)]
    while True:
        try:
            await run_to_end({SIGNALS: signals}, servers, (), (SIGNALS,))
        except Killed:
            continue
        break


async def run_to_end(log: Log, servers: Servers, changes, topics: Sequence[str]) -> None:
    rules = Rules(servers)
    agent = agent_of(servers, rules, topics)
    starts = await agent.claim([TopicPartition(topic, 0) for topic in topics])
    offsets = {tp.topic: 0 if at == LOG_START else at for tp, at in starts.items()}
    order = random.Random(servers.epoch)  # another one after each restart
    while waiting := [topic for topic in topics if offsets[topic] < len(log[topic])]:
        topic = order.choice(waiting)
        offset = offsets[topic]
        chunk = log[topic][offset : offset + order.choice([100, 200, 600])]
        offsets[topic] = offset + len(chunk)
        servers.ends[topic, 0] = max(servers.ends[topic, 0], offsets[topic])
        await agent.handle(RecordBatch(topic, 0, offset, offsets[topic], chunk, 1))
        if topic == TRANSACTIONS:
            published = len(servers.changes)
            servers.changes += [one for at, one in changes[published:] if at <= offsets[topic]]
            rules.read()
            await agent.adopt_rules()


def published(servers: Servers):
    """Return alerts and blocks, each once; copies must be equal."""
    decode = codec.decoder(FraudAlert)
    alerts: dict[str, FraudAlert] = {}
    orders: dict[tuple[bytes | None, bytes], None] = {}
    for topic, key, value in servers.written:
        if topic == ALERTS:
            alert = decode(value)
            assert alerts.setdefault(name_record(alert), alert) == alert
        elif topic == "house":
            orders[key, value] = None
    return alerts, list(orders)


async def test_kills_anywhere_change_neither_alerts_nor_blocks(log):
    undisturbed = Servers(None)
    await run(log, undisturbed)
    expected = published(undisturbed)
    assert len(expected[0]) > 60
    assert len(expected[1]) > 20
    servers = Servers(random.Random(11))
    await run(log, servers)
    assert servers.kills > 20
    assert len(servers.written) > len(undisturbed.written)  # some were sent again
    found = published(servers)
    assert found[0] == expected[0]
    assert set(found[1]) == set(expected[1])
    assert {alert.rule_id for alert in found[0].values()} >= PLAYER_KEYED | {"D12", "D19"}


async def test_kills_anywhere_change_nothing_for_detectors_with_other_keys(log):
    """Both agents are killed: the signals are written again, and read again, in other batches."""
    undisturbed = Servers(None)
    await run(log, undisturbed)
    await run_signals(log, undisturbed)
    expected = published(undisturbed)
    raised = {alert.rule_id for alert in expected[0].values()}
    assert raised == {rule.rule_id for rule in DEFAULT_RULES}
    servers = Servers(random.Random(12))
    await run(log, servers)
    kills = servers.kills
    await run_signals(log, servers)
    assert servers.kills > kills > 20
    assert len(servers.signals()) > len(undisturbed.signals())
    found = published(servers)
    assert found[0] == expected[0]
    assert set(found[1]) == set(expected[1])


async def test_a_block_is_written_before_its_alert(log):
    servers = Servers(None)
    await run(log, servers)
    order: dict[str, int] = {}
    for place, (topic, _, value) in enumerate(servers.written):
        if topic == ALERTS:
            alert = codec.decoder(FraudAlert)(value)
            is_stop = alert.rule_id in STOPPING and alert.player_id
            if is_stop and (alert.severity, alert.status) == ("block", "OPEN"):
                assert order[alert.alert_id] < place
        elif topic == "house":
            order.setdefault(json.loads(value)["alert_id"], place)
    assert order


def change(kind: RuleChangeKind, rule_id: str, version: int, **more) -> RuleChange:
    return RuleChange(
        change_id="c",
        kind=kind.value,
        rule_id=rule_id,
        rule_version=version,
        actor="kim",
        reason="a test",
        made_at=0,
        **more,
    )


def rule_changes() -> list[RuleChange]:
    """A stricter D01 and D02 from draft to active and back, in every state on the way."""
    varied = [rule for rule in DEFAULT_RULES if rule.rule_id in VARIED]
    changes = []
    for rule in varied:
        draft = msgspec.structs.replace(rule, version=9, owner="risk", reason="stricter")
        changes.append(change(RuleChangeKind.PUBLISHED, rule.rule_id, 9, rule=encode_rule(draft)))
    for state, percent in [("shadow", None), ("canary", 25), ("active", None)]:
        changes += [
            change(RuleChangeKind.STATE, rule.rule_id, 9, state=state, percent=percent)
            for rule in varied
        ]
    changes.append(change(RuleChangeKind.STATE, "D02", 9, state="paused"))
    changes.append(change(RuleChangeKind.STATE, "D05", 1, state="paused"))
    changes.append(change(RuleChangeKind.STATE, "D02", 1, state="active"))
    return changes


def replay(log: Log, servers: Servers):
    """What a replay of the topics makes of the markers and the changes alone."""
    book, enforcement = Rules(servers).book, create_enforcement(BOTH, {})
    assert enforcement is not None
    alerts: dict[str, FraudAlert] = {}
    orders: dict[tuple[bytes | None, bytes], None] = {}
    records = {
        topic: [(one.offset, codec.decoder(RECORD_TYPES[topic])(one.value)) for one in log[topic]]
        for topic in WATCHED
    }
    timelines = {topic: Timeline(tuple(servers.markers[topic, 0].values())) for topic in WATCHED}
    for alert, detectors in rerun_shard(records, 0, timelines, book.rule_set_at):
        alerts[name_record(alert)] = alert
        if detectors.may_stop(alert) and (order := enforcement.record_for(alert)) is not None:
            orders[order[0], order[1]] = None
    return alerts, list(orders)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.prove) for seed in range(1, 6))]
)
async def test_rules_that_change_under_kills_are_those_of_a_replay(log, seed):
    changes = rule_changes()
    every = len(log[TRANSACTIONS]) // (len(changes) + 1)
    servers = Servers(random.Random(seed) if seed else None)
    await run(log, servers, [((n + 1) * every, one) for n, one in enumerate(changes)])
    assert servers.kills > 20 or not seed
    assert len(servers.changes) == len(changes)
    assert len(servers.markers[TRANSACTIONS, 0]) > len(changes) // 2
    found, expected = published(servers), replay(log, servers)
    assert found[0] == expected[0]
    assert sorted(found[1]) == sorted(expected[1])
    assert {alert.handling for alert in found[0].values()} == {"normal", "shadow"}
    assert {alert.rule_version for alert in found[0].values()} >= {1, 9}


async def test_shadow_alerts_stop_no_player(log):
    servers = Servers(None)
    servers.changes = [
        change(RuleChangeKind.STATE, rule.rule_id, rule.version, state="shadow")
        for rule in DEFAULT_RULES
    ]
    await run(log, servers)
    alerts, orders = published(servers)
    assert len(alerts) > 60
    assert {alert.handling for alert in alerts.values()} == {"shadow"}
    assert orders == []


async def test_idle_topics_are_announced_by_records(log):
    """Player events that are idle get a heartbeat, the other idle topics a watermark; once each."""
    servers, sent = Servers(None), []

    async def send_batch(topic, partition, records):
        sent.append((topic, partition, records))

    vars(servers)["send_batch"] = send_batch
    agent = agent_of(servers, Rules(servers))
    await agent.claim([TopicPartition(topic, 0) for topic in WATCHED])
    await agent.handle(RecordBatch(TRANSACTIONS, 0, 0, 50, log[TRANSACTIONS][:50], 1))
    servers.ends[TRANSACTIONS, 0] = 50
    said = len(servers.signals())
    await agent.announce_idle()
    [(topic, partition, [(key, value, *_)])] = sent
    beat = codec.decoder(RECORD_TYPES[PLAYER_EVENTS])(value)
    assert (topic, partition, key, beat.type) == (PLAYER_EVENTS, 0, None, "HEARTBEAT")
    decode = codec.decoder(RECORD_TYPES[SIGNALS])
    new = [decode(one.value) for one in servers.signals()[said:]]
    assert [(one.kind, one.source.topic) for one in new] == [("WATERMARK", GAME_RESULTS)]
    # What it has written itself is not read yet, so the partition is not idle.
    servers.ends[PLAYER_EVENTS, 0] = 1
    await agent.announce_idle()
    assert (len(sent), len(servers.signals())) == (1, said + 1)
    record = SimpleNamespace(offset=0, value=value)
    await agent.handle(RecordBatch(PLAYER_EVENTS, 0, 0, 1, [record], 1))
    await agent.announce_idle()
    assert len(sent) == 1
