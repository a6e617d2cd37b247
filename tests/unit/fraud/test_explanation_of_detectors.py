"""Every alert is found again from the records that it rests on."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import pytest

from fraud_agents.detectors import DEFAULT_RULES, DETECTORS
from fraud_agents.detectors.catalogue import SIGNAL_DETECTORS
from fraud_agents.detectors.global_signals import GlobalDetectors
from fraud_agents.detectors.shard import MERGED, ShardDetectors
from fraud_agents.explanation import explain, explain_global, explain_merged
from lab.fraud.scoring import PARTITIONS
from lab.fraud.traffic import make_traffic
from runtime.kafka.partitioner import partition_for
from schemas.events import AlertStatus
from schemas.topics import GAME_RESULTS, SIGNALS

BY_ITSELF = sorted(
    rule_id for rule_id in DETECTORS if rule_id not in SIGNAL_DETECTORS and rule_id != "D13"
)


class Topics:
    """What a run leaves on its topics, and the alerts that it raises."""

    def __init__(self, rule_id: str) -> None:
        traffic = make_traffic(1, detectors=[rule_id], ordinary=0, injections=4)
        rules = [rule for rule in DEFAULT_RULES if rule.rule_id == rule_id]
        shards = [ShardDetectors(rules, partition) for partition in range(PARTITIONS)]
        everywhere = GlobalDetectors(rules, 0, PARTITIONS)
        self.records: dict[tuple[str, int], list] = defaultdict(list)
        self.keys: dict[tuple[str, int], list[str]] = defaultdict(list)
        self.signals: list = []
        alerts = []
        for sent in traffic.sent:
            own = partition_for(sent.key.encode(), PARTITIONS)
            # All signals of this run are in the partition that one detector reads.
            own = 0 if sent.topic == SIGNALS else own
            for partition in [own] if sent.key else range(PARTITIONS):
                place = (sent.topic, partition)
                offset = len(self.records[place])
                self.records[place].append((offset, sent.record))
                self.keys[place].append(sent.key)
                if sent.topic == SIGNALS:
                    alerts += everywhere.observe(SIGNALS, sent.record, offset)
                    continue
                alerts += shards[partition].observe(sent.topic, sent.record, offset)
                for signal in shards[partition].take_signals(sent.topic, offset + 1):
                    self.signals.append((len(self.signals), signal))
                    alerts += everywhere.observe(SIGNALS, signal, 0)
        self.alerts = [alert for alert in alerts if alert.status != AlertStatus.CLOSED]
        assert self.alerts

    def of_player(self, topic: str, partition: int, player_id: str | None) -> list:
        """The records of a partition under a player's key; all of them without one."""
        place = (topic, partition)
        return [
            record
            for record, key in zip(self.records[place], self.keys[place], strict=True)
            if player_id is None or key == player_id
        ]


@pytest.mark.parametrize("rule_id", BY_ITSELF)
def test_the_records_of_one_topic_raise_the_alert_again(rule_id):
    topics = Topics(rule_id)
    for alert in topics.alerts:
        [source] = alert.sources
        is_keyed = source.topic not in (GAME_RESULTS, SIGNALS)
        player_id = alert.player_id if is_keyed else None
        records = topics.of_player(source.topic, source.partition, player_id)
        assert explain(alert, records, DEFAULT_RULES).differences == []


@pytest.mark.parametrize("rule_id", ["D12", "D18B", "D19"])
def test_both_topics_of_a_player_raise_the_alert_again(rule_id):
    topics = Topics(rule_id)
    for alert in topics.alerts:
        partition = alert.sources[0].partition
        records = {topic: topics.of_player(topic, partition, alert.player_id) for topic in MERGED}
        found = explain_merged(alert, records, partition, DEFAULT_RULES)
        assert found.agrees, found.differences
    other = msgspec.structs.replace(topics.alerts[0], observed=99)
    partition = other.sources[0].partition
    records = {topic: topics.of_player(topic, partition, other.player_id) for topic in MERGED}
    assert not explain_merged(other, records, partition, DEFAULT_RULES).agrees


@pytest.mark.parametrize("rule_id", ["D03", "D08", "D10"])
def test_the_signals_raise_the_alert_again(rule_id):
    topics = Topics(rule_id)
    for alert in topics.alerts:
        found = explain_global(alert, topics.signals, 0, PARTITIONS, DEFAULT_RULES)
        assert found.agrees, found.differences
