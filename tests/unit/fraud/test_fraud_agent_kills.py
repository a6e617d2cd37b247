"""The fraud agent over a broker and a database in memory, killed at any of its steps."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.handler import FraudAgent
from fraud_agents.snapshots import SnapshotClaim
from lab.fraud.traffic import make_traffic
from pitboss.workers.fraud import create_enforcement
from replay.audit.rerun import name_record
from runtime.kafka.batches import RecordBatch
from runtime.kafka.intake.start_offsets import LOG_START
from schemas import codec
from schemas.events import FraudAlert, WalletTransaction
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
        self.snapshot: tuple[int, bytes] | None = None
        self.epoch = 0
        self.kills = 0

    def step(self) -> None:
        if self.rng is not None and self.rng.random() < 0.06:
            self.kills += 1
            raise Killed

    async def claim(self, partitions, rule_set):
        self.epoch += 1
        offset, state = self.snapshot or (0, None)
        return [SnapshotClaim(0, self.epoch, offset, None if state is None else rule_set, state)]

    async def save(self, partition, epoch, next_offset, rule_set, state):
        self.step()
        assert epoch == self.epoch
        self.snapshot = (next_offset, state)
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


def agent_of(servers: Any) -> FraudAgent:
    no_letters: Any = None
    return FraudAgent(
        DEFAULT_RULES,
        servers,
        servers,
        no_letters,
        alerts_topic="alerts",
        house_topic="house",
        enforcement=create_enforcement(BOTH, {}),
        snapshot_interval_ms=10**9,
        snapshot_records=700,
    )


async def run(log, servers: Servers) -> None:
    """Handle the log to its end, beginning again at the snapshot after every kill."""
    while True:
        agent = agent_of(servers)
        try:
            start = (await agent.claim([TP]))[TP]
            offset = 0 if start == LOG_START else start
            while offset < len(log):
                chunk = log[offset : offset + 150]
                await agent.handle(
                    RecordBatch(TRANSACTIONS, 0, offset, offset + len(chunk), chunk, 1)
                )
                offset += len(chunk)
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
