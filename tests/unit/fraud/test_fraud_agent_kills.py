"""The fraud agent over a broker and a database in memory, killed at any of its steps."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from aiokafka.structs import TopicPartition

from fraud_agents.activations import Marker, Timeline, rerun_partition
from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.handler import FraudAgent
from fraud_agents.rule_book import RuleBook, encode_rule
from fraud_agents.snapshots import SnapshotClaim
from lab.fraud.traffic import make_traffic
from pitboss.workers.fraud import create_enforcement
from replay.audit.rerun import name_record
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.start_offsets import LOG_START
from schemas import codec
from schemas.events import FraudAlert, WalletTransaction
from schemas.rule_changes import RuleChange, RuleChangeKind
from schemas.topics import TRANSACTIONS

TP = TopicPartition(TRANSACTIONS, 0)
BOTH = frozenset({"block", "hold"})
STOPPING = {rule.rule_id for rule in DEFAULT_RULES if rule.stops_player}


class Killed(BaseException):
    """The process ends here; nothing that follows happens."""


class Servers:
    """What outlives the process: the topics it wrote, its snapshot, and when it is killed next."""

    def __init__(self, rng: random.Random | None) -> None:
        self.rng = rng
        self.written: list[tuple[str, bytes | None, bytes]] = []
        self.snapshot: tuple[int, str, bytes] | None = None
        self.markers: dict[int, Marker] = {}
        self.changes: list[RuleChange] = []
        self.log_end = 0
        self.epoch = 0
        self.kills = 0

    def step(self) -> None:
        if self.rng is not None and self.rng.random() < 0.06:
            self.kills += 1
            raise Killed

    async def claim(self, partitions):
        self.epoch += 1
        offset, rule_set, state = self.snapshot or (0, None, None)
        markers = tuple(sorted(self.markers.values()))
        return [SnapshotClaim(0, self.epoch, offset, rule_set, state, markers)]

    async def activate(self, partition, epoch, marker):
        self.step()
        assert epoch == self.epoch
        self.markers[marker.from_offset] = marker
        self.step()

    async def save(self, partition, epoch, next_offset, rule_set, state):
        self.step()
        assert epoch == self.epoch
        self.snapshot = (next_offset, rule_set, state)
        self.step()

    async def send_keyed(self, topic, records):
        for key, value, *_ in records:
            self.step()  # some are written, others are not
            self.written.append((topic, key, value))
        self.step()


@pytest.fixture(scope="module")
def log():
    traffic = make_traffic(3, ordinary=6, injections=4)
    encode = codec.encoder(WalletTransaction)
    records = [sent for sent in traffic.sent if sent.topic == TRANSACTIONS]
    return [
        SimpleNamespace(offset=offset, value=encode(sent.record))
        for offset, sent in enumerate(records)
    ]


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

    async def end_offset(self, partition):
        self.servers.step()
        return self.servers.log_end


def agent_of(servers: Any, rules: Any) -> FraudAgent:
    no_letters: Any = None
    return FraudAgent(
        rules,
        servers,
        servers,
        no_letters,
        alerts_topic="alerts",
        house_topic="house",
        enforcement=create_enforcement(BOTH, {}),
        snapshot_interval_ms=10**9,
        snapshot_records=700,
    )


async def run(log, servers: Servers, changes: Sequence[tuple[int, RuleChange]] = ()) -> None:
    """Handle the log to its end, beginning again at the snapshot after every kill.

    `changes` of the rules are appended to their topic once the log has come to an offset.
    """
    while True:
        rules = Rules(servers)
        agent = agent_of(servers, rules)
        try:
            start = (await agent.claim([TP]))[TP]
            offset = 0 if start == LOG_START else start
            while offset < len(log):
                chunk = log[offset : offset + 150]
                servers.log_end = max(servers.log_end, offset + len(chunk))
                await agent.handle(
                    RecordBatch(TRANSACTIONS, 0, offset, offset + len(chunk), chunk, 1)
                )
                offset += len(chunk)
                published = len(servers.changes)
                servers.changes += [one for at, one in changes[published:] if at <= offset]
                rules.read()
                await agent.adopt_rules()
        except Killed:
            continue
        break


def published(servers: Servers):
    """Return alerts and blocks, each once; copies must be equal."""
    decode = codec.decoder(FraudAlert)
    alerts: dict[str, FraudAlert] = {}
    orders: dict[tuple[bytes | None, bytes], None] = {}
    for topic, key, value in servers.written:
        if topic == "alerts":
            alert = decode(value)
            assert alerts.setdefault(name_record(alert), alert) == alert
        else:
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
    assert published(servers) == expected


async def test_a_block_is_written_before_its_alert(log):
    servers = Servers(None)
    await run(log, servers)
    order: dict[str, int] = {}
    for place, (topic, _, value) in enumerate(servers.written):
        if topic == "alerts":
            alert = codec.decoder(FraudAlert)(value)
            is_stop = alert.rule_id in STOPPING and alert.player_id
            if is_stop and (alert.severity, alert.status) == ("block", "OPEN"):
                assert order[alert.alert_id] < place
        else:
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
    changes = []
    for rule in DEFAULT_RULES:
        if rule.rule_id not in {"D01", "D02", "D16", "D20"}:
            continue
        draft = msgspec.structs.replace(rule, version=9, owner="risk", reason="stricter")
        changes.append(change(RuleChangeKind.PUBLISHED, rule.rule_id, 9, rule=encode_rule(draft)))
        for state, percent in [("shadow", None), ("canary", 25), ("active", None)]:
            changes.append(
                change(RuleChangeKind.STATE, rule.rule_id, 9, state=state, percent=percent)
            )
    changes.append(change(RuleChangeKind.STATE, "D02", 9, state="paused"))
    changes.append(change(RuleChangeKind.STATE, "D05", 1, state="paused"))
    changes.append(change(RuleChangeKind.STATE, "D02", 1, state="active"))
    return changes


def replay(log, servers: Servers):
    """What a replay of the log makes of the markers and the changes alone."""
    decode = codec.decoder(WalletTransaction)
    book, enforcement = Rules(servers).book, create_enforcement(BOTH, {})
    assert enforcement is not None
    alerts: dict[str, FraudAlert] = {}
    orders: dict[tuple[bytes | None, bytes], None] = {}
    records = ((record.offset, decode(record.value)) for record in log)
    timeline = Timeline(tuple(servers.markers.values()))
    for alert, detectors in rerun_partition(records, 0, timeline, book.rule_set_at):
        alerts[name_record(alert)] = alert
        if detectors.may_stop(alert):
            order = enforcement.record_for(alert, is_blocked=detectors.is_blocked(alert))
            if order is not None:
                orders[order[0], order[1]] = None
    return alerts, list(orders)


@pytest.mark.parametrize("seed", range(4))
async def test_rules_that_change_under_kills_are_those_of_a_replay(log, seed):
    changes = rule_changes()
    every = len(log) // (len(changes) + 1)
    servers = Servers(random.Random(seed) if seed else None)
    await run(log, servers, [((n + 1) * every, one) for n, one in enumerate(changes)])
    assert servers.kills > 20 or not seed
    assert len(servers.changes) == len(changes)
    assert len(servers.markers) > len(changes) // 2
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
