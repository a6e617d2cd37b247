"""A seed of labelled traffic through Kafka and the real worker: the alerts and blocks of an in-process run."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaProducer

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.snapshots import migrate
from lab.fraud.traffic import make_traffic
from pitboss.ops.topic_admin import create_topics
from pitboss.workers.fraud import create_enforcement
from replay.audit.rerun import name_record
from schemas import codec
from schemas.events import FraudAlert, WalletTransaction
from schemas.topics import ALERTS, TRANSACTIONS, raw_topic
from tests.support import fraud_log
from tests.support.fraud_log import PARTITIONS, partition_of, running_agent, settings_of

pytestmark = [pytest.mark.integration, pytest.mark.prove]
BOTH = frozenset({"block", "hold"})


async def append(runtime, traffic) -> int:
    encode, count = codec.encoder(WalletTransaction), 0
    producer = AIOKafkaProducer(**runtime.broker.aiokafka_options(), acks="all")
    await producer.start()
    try:
        topic = runtime.topic(TRANSACTIONS)
        for sent in traffic.sent:
            if sent.topic != TRANSACTIONS:
                continue
            # A record without a key is a heartbeat of every partition.
            for partition in [partition_of(sent.key)] if sent.key else range(PARTITIONS):
                await producer.send(topic, encode(sent.record), sent.key.encode(), partition)
                count += 1
        await producer.flush()
    finally:
        await producer.stop()
    return count


async def expect(runtime, enforcement):
    """What the detectors say of the log as it is, read once; and what they would append."""
    decode = codec.decoder(WalletTransaction)
    watches = [PartitionDetectors(DEFAULT_RULES, partition) for partition in range(PARTITIONS)]
    alerts, orders = {}, set()
    for record in await fraud_log.read_all(runtime, TRANSACTIONS):
        watch = watches[record.partition]
        for alert in watch.observe(decode(record.value), record.offset):
            alerts[name_record(alert)] = alert
            order = enforcement.record_for(alert, is_blocked=watch.is_blocked(alert))
            if order is not None and watch.may_stop(alert):
                orders.add((order[0], order[1]))
    return alerts, orders


async def test_one_seed_through_kafka_raises_the_alerts_of_the_run_in_process(runtime):
    migrate(runtime.database_url)
    await create_topics(runtime.broker, runtime.namespace, ["hub88", "house"], PARTITIONS)
    traffic = make_traffic(1, ordinary=30, injections=8)
    assert await append(runtime, traffic) > 5_000
    enforcement = create_enforcement(BOTH, {})
    assert enforcement is not None
    settings = settings_of(
        runtime, rules=DEFAULT_RULES, enforcement=enforcement, snapshot_records=500
    )
    for _ in range(2):  # the second worker continues at the snapshots of the first
        async with running_agent(settings):
            await fraud_log.wait_until_processed(runtime)
    alerts, orders = await expect(runtime, enforcement)
    decode = codec.decoder(FraudAlert)
    published: dict[str, FraudAlert] = {}
    for record in await fraud_log.read_all(runtime, ALERTS):
        alert = decode(record.value)
        assert published.setdefault(name_record(alert), alert) == alert
    assert published == alerts
    assert len({alert.rule_id for alert in alerts.values()}) >= 10
    house = await fraud_log.read_all(runtime, raw_topic("house"))
    assert {(record.key, record.value) for record in house} == orders
    assert len(orders) > 20
