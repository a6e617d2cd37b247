"""Every alert of a detector over the log is found again from its player's own records."""

from __future__ import annotations

from collections import defaultdict

import pytest

from fraud_agents.detectors import DEFAULT_RULES, DETECTORS
from fraud_agents.explanation import explain
from lab.fraud.scoring import PARTITIONS, run_detectors
from lab.fraud.traffic import make_traffic
from runtime.kafka.partitioner import partition_for
from schemas.events import AlertStatus
from schemas.topics import TRANSACTIONS

ON_THE_LOG = [
    rule.rule_id
    for rule in DEFAULT_RULES
    if any(detector.topic == TRANSACTIONS for detector in DETECTORS[rule.rule_id])
]


@pytest.mark.parametrize("rule_id", ON_THE_LOG)
def test_the_players_records_alone_raise_the_alert_again(rule_id):
    traffic = make_traffic(1, detectors=[rule_id], ordinary=0, injections=4)
    offsets: dict[int, int] = defaultdict(int)
    logs: dict[str | None, list] = defaultdict(list)
    for sent in traffic.sent:
        if sent.topic != TRANSACTIONS:
            continue
        for partition in (
            [partition_for(sent.key.encode(), PARTITIONS)] if sent.key else range(PARTITIONS)
        ):
            logs[sent.key].append((offsets[partition], sent.record))
            offsets[partition] += 1
    rules = [rule for rule in DEFAULT_RULES if rule.rule_id == rule_id]
    alerts = [one.alert for one in run_detectors(traffic, rules)]
    alerts = [
        alert
        for alert in alerts
        if alert.status != AlertStatus.CLOSED and alert.sources[0].topic == TRANSACTIONS
    ]
    assert alerts
    for alert in alerts:
        assert explain(alert, logs[alert.player_id], DEFAULT_RULES).differences == []
