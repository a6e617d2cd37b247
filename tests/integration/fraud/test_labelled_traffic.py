"""A seed of labelled traffic through Kafka and the real worker: the alerts and blocks of an in-process run."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from fraud_agents.activations import Timeline, rerun_shard, rerun_signals
from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
from fraud_agents.detectors.shard import WATCHED
from fraud_agents.owned import RECORD_TYPES
from fraud_agents.rule_book import RuleBook
from fraud_agents.snapshots import migrate
from lab.fraud.scoring import run_detectors
from pitboss.cli.alert_explanations import explain_alert
from pitboss.ops.topic_admin import create_topics
from pitboss.workers.fraud import create_enforcement
from replay.audit.rerun import name_record
from schemas import codec
from schemas.events import AlertStatus
from schemas.topics import SIGNALS, raw_topic
from tests.faults.test_fraud_kill import EXIT_WITHIN_S, by_id, finish, production_worker, running
from tests.support import fraud_log
from tests.support.fraud_log import PARTITIONS, read_alerts
from tests.support.labelled_log import append_sent, findings, small_traffic, wait_until_quiet

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.prove]
BOTH = frozenset({"block", "hold"})


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


def enforcing_worker(runtime):
    command, environment = production_worker(runtime)
    return command, {**environment, "PITBOSS_FRAUD_ENFORCE": ",".join(BOTH)}


async def test_one_seed_through_kafka_raises_the_alerts_of_the_run_in_process(runtime, tmp_path):
    """The production worker is killed when it has read all there is, and in the middle, and goes on."""
    migrate(runtime.database_url)
    await create_topics(runtime.broker, runtime.namespace, ["hub88", "house"], PARTITIONS)
    traffic, output = small_traffic(), tmp_path / "worker.log"
    third = len(traffic.sent) // 3
    first = await append_sent(runtime, traffic.sent[:third])
    with running(enforcing_worker(runtime), output) as process:
        await wait_until_quiet(runtime)
        process.send_signal(signal.SIGKILL)
        process.wait(EXIT_WITHIN_S)
    second = await append_sent(runtime, traffic.sent[third : 2 * third])

    async def is_in_the_middle() -> bool:
        read = sum((await fraud_log.committed_offsets(runtime)).values())
        return read > first + second // 4

    with running(enforcing_worker(runtime), output) as process:
        await fraud_log.wait_until(is_in_the_middle, "a part of the second third")
        process.send_signal(signal.SIGKILL)
        process.wait(EXIT_WITHIN_S)
    await append_sent(runtime, traffic.sent[2 * third :])
    await finish(runtime, enforcing_worker(runtime), output)

    enforcement = create_enforcement(BOTH, {})
    assert enforcement is not None
    alerts, orders = await expect(runtime, enforcement)
    published = by_id(await read_alerts(runtime))
    assert published == alerts
    # The run in process reads none of the signals that the worker wrote, nor its heartbeats.
    raised = await asyncio.to_thread(run_detectors, traffic)
    assert findings(published.values()) == findings(one.alert for one in raised)
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
