"""A seed of labelled traffic through Kafka and the real worker: the alerts and blocks of an in-process run."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from fraud_agents.activations import Timeline, rerun_shard, rerun_signals
from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
from fraud_agents.detectors.shard import WATCHED
from fraud_agents.owned import RECORD_TYPES
from fraud_agents.rule_book import RuleBook
from fraud_agents.snapshots import migrate
from lab.fraud.traffic import make_traffic
from pitboss.cli.alert_explanations import explain_alert
from pitboss.ops.topic_admin import create_topics
from pitboss.workers.fraud import create_enforcement
from replay.audit.rerun import name_record
from schemas import codec
from schemas.events import AlertStatus, FraudAlert
from schemas.topics import ALERTS, SIGNALS, TRANSACTIONS, raw_topic
from tests.support import fraud_log
from tests.support.fraud_log import PARTITIONS, partition_of, running_agent, settings_of

pytestmark = [pytest.mark.integration, pytest.mark.prove]
BOTH = frozenset({"block", "hold"})


async def append(runtime, traffic) -> int:
    """Append the traffic to its topics in its order, but for heartbeats of player events.

    The worker writes its own where it sees that none came.
    """
    encoders = {topic: codec.encoder(RECORD_TYPES[topic]) for topic in (*WATCHED, SIGNALS)}
    count = 0
    producer = AIOKafkaProducer(**runtime.broker.aiokafka_options(), acks="all")
    await producer.start()
    try:
        for sent in traffic.sent:
            if not sent.key and sent.topic != TRANSACTIONS:
                continue
            value, topic = encoders[sent.topic](sent.record), runtime.topic(sent.topic)
            # A record without a key is a heartbeat of every partition.
            for partition in [partition_of(sent.key)] if sent.key else range(PARTITIONS):
                await producer.send(topic, value, sent.key.encode(), partition)
                count += 1
        await producer.flush()
    finally:
        await producer.stop()
    return count


async def expect(runtime, enforcement):
    """What the detectors say of the topics as they are, read once; and what they would append."""
    alerts, orders = {}, set()
    records: dict[str, dict[int, list[tuple[int, Any]]]] = {}
    for topic in (*WATCHED, SIGNALS):
        decode = codec.decoder(RECORD_TYPES[topic])
        for record in await fraud_log.read_all(runtime, topic):
            own = records.setdefault(topic, {}).setdefault(record.partition, [])
            own.append((record.offset, decode(record.value)))
    rules = RuleBook(DEFAULT_RULES).rule_set_at
    for partition in range(PARTITIONS):
        watched = {topic: records.get(topic, {}).get(partition, []) for topic in WATCHED}
        for alert, watch in rerun_shard(watched, partition, {}, rules):
            alerts[name_record(alert)] = alert
            order = enforcement.record_for(alert)
            if order is not None and watch.may_stop(alert):
                orders.add((order[0], order[1]))
    for partition, signals in records[SIGNALS].items():
        for alert in rerun_signals(signals, partition, PARTITIONS, Timeline(), rules):
            alerts[name_record(alert)] = alert
            order = enforcement.record_for(alert)
            if order is not None:
                orders.add((order[0], order[1]))
    return alerts, orders


async def wait_until_quiet(runtime) -> None:
    """Wait until the worker has read all topics, what it wrote itself included."""
    topics = [runtime.topic(topic) for topic in (*WATCHED, SIGNALS)]

    async def is_through() -> bool:
        ends = await fraud_log.all_ends(runtime, topics)
        return await fraud_log.committed(runtime, [*ends]) == ends

    await fraud_log.wait_until(is_through, "the worker at the end of every topic")


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
            await wait_until_quiet(runtime)
    alerts, orders = await expect(runtime, enforcement)
    decode = codec.decoder(FraudAlert)
    published: dict[str, FraudAlert] = {}
    for record in await fraud_log.read_all(runtime, ALERTS):
        alert = decode(record.value)
        assert published.setdefault(name_record(alert), alert) == alert
    assert published == alerts
    assert {alert.rule_id for alert in alerts.values()} == {rule.rule_id for rule in DEFAULT_RULES}
    house = await fraud_log.read_all(runtime, raw_topic("house"))
    assert {(record.key, record.value) for record in house} == orders
    assert len(orders) > 20
    still_open = {
        alert.rule_id: alert for alert in alerts.values() if alert.status != AlertStatus.CLOSED
    }
    for rule_id in SIGNAL_DETECTORS:
        _, found = await explain_alert(runtime, still_open[rule_id])
        assert found.agrees, found.differences
