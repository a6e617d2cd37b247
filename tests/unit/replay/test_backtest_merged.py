"""Rules over several partitions in a back-test: the alerts of production, to the id."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import msgspec
import pytest

from fraud_agents.activations import Marker, Timeline, rerun_shard, rerun_signals
from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.global_signals import GlobalDetectors
from fraud_agents.detectors.shard import WATCHED, ShardDetectors
from fraud_agents.owned import RECORD_TYPES
from fraud_agents.rule_set import RuleEntry, RuleSet
from fraud_agents.rules import RuleScope
from lab.fraud.traffic import START_MS, make_traffic
from replay.backtest.report import make_report
from replay.backtest.run import ACTIVE, DRAFT, BacktestPlan, run_backtest
from replay.backtest.scoping import SegmentMembers, members_of_then
from runtime.kafka.partitioner import partition_for
from schemas import codec
from schemas.topics import DAY_MS, PLAYER_EVENTS, SIGNALS, TRANSACTIONS
from tests.support.memory_log import MemoryLog, MemoryRecord

PARTITIONS = 2
OF_ONE_PLAYER = ("D12", "D18B", "D19")
OF_ALL = ("D03", "D08", "D10")
RULES = {rule.rule_id: rule for rule in DEFAULT_RULES}


class Installation:
    """What the worker read and wrote: its topics, and the ids of the alerts by rule."""

    def __init__(self) -> None:
        rules = [RULES[rule_id] for rule_id in (*OF_ONE_PLAYER, *OF_ALL)]
        self.shards = [ShardDetectors(rules, number) for number in range(PARTITIONS)]
        self.everywhere = GlobalDetectors(rules, 0, PARTITIONS)
        self.records: dict[str, dict[int, list[MemoryRecord]]] = {
            topic: {number: [] for number in range(PARTITIONS)} for topic in (*WATCHED, SIGNALS)
        }
        self.alerts: dict[str, set[str]] = defaultdict(set)
        traffic = make_traffic(5, detectors=(*OF_ONE_PLAYER, *OF_ALL), ordinary=5, injections=6)
        for sent in traffic.sent:
            own = [partition_for(sent.key.encode(), PARTITIONS)] if sent.key else range(PARTITIONS)
            for partition in own:
                self.take(sent.topic, partition, sent.append_ms, sent.key, sent.record)

    def take(self, topic: str, partition: int, at_ms: int, key: str, event) -> None:
        offset = self.append(topic, partition, at_ms, key.encode(), event)
        shard = self.shards[partition]
        self.note(shard.observe(topic, event, offset))
        for signal in shard.take_signals(topic, offset + 1):
            place = self.append(SIGNALS, 0, at_ms, b"s", signal)
            self.note(self.everywhere.observe(SIGNALS, signal, place))

    def append(self, topic: str, partition: int, at_ms: int, key: bytes, event) -> int:
        rows = self.records[topic][partition]
        encode = codec.encoder(RECORD_TYPES[topic])
        rows.append(MemoryRecord(len(rows), at_ms, key, encode(event)))
        return len(rows) - 1

    def note(self, alerts) -> None:
        for alert in alerts:
            self.alerts[alert.rule_id].add(alert.alert_id)


@pytest.fixture(scope="module")
def installation() -> Installation:
    return Installation()


def plan_of(draft, active=None) -> BacktestPlan:
    since_ms = START_MS - 400 * DAY_MS
    return BacktestPlan("", draft, active, since_ms, START_MS + 400 * DAY_MS, 0)


@pytest.mark.parametrize("rule_id", [*OF_ONE_PLAYER, *OF_ALL])
def test_the_alerts_are_those_of_production_to_the_id(installation, rule_id):
    log = MemoryLog(installation.records, append_time=True)
    run = run_backtest(log, plan_of(RULES[rule_id]))
    assert installation.alerts[rule_id]
    assert set(run.runs[DRAFT].alerts) == installation.alerts[rule_id]
    assert run.events > 0
    assert run.players


@pytest.mark.parametrize("rule_id", ["D12", "D08"])
def test_a_rule_limited_to_a_segment_finds_its_players(installation, rule_id):
    log = MemoryLog(installation.records, append_time=True)
    alerts = run_backtest(log, plan_of(RULES[rule_id])).runs[DRAFT].alerts.values()
    players = frozenset([one.alert.player_id for one in alerts])
    draft = msgspec.structs.replace(RULES[rule_id], scope=RuleScope(segments=["some"]))
    everybody = frozenset(
        row.key.decode()
        for rows in installation.records.values()
        for own in rows.values()
        for row in own
        if row.key
    )
    found = []
    for members in (everybody, everybody - players, frozenset[str]()):
        plan = replace(plan_of(draft), members=SegmentMembers((("some", members),)))
        found.append(set(run_backtest(log, plan).runs[DRAFT].alerts))
    assert found[0] == installation.alerts[rule_id]
    assert found[0] > found[1]
    assert found[2] == set()


def raised_by_worker(installation, draft, timelines, segments_at) -> set[str]:
    """Ids of the alerts that workers raise while the segments change as the markers say."""

    def rules_at(position):
        return RuleSet((RuleEntry(draft),), segments=segments_at(position))

    def events(topic, partition):
        decode = codec.decoder(RECORD_TYPES[topic])
        return [(row.offset, decode(row.value)) for row in installation.records[topic][partition]]

    raised = {
        alert.alert_id
        for number in range(PARTITIONS)
        for alert, _ in rerun_shard(
            {topic: events(topic, number) for topic in WATCHED},
            number,
            {topic: own[number] for topic, own in timelines.items() if topic != SIGNALS},
            rules_at,
        )
    }
    timeline = timelines[SIGNALS][0]
    signals = rerun_signals(events(SIGNALS, 0), 0, PARTITIONS, timeline, rules_at)
    return raised | {alert.alert_id for alert in signals}


@pytest.mark.parametrize("rule_id", ["D12", "D08"])
def test_segments_change_in_a_merge_where_they_changed_for_the_worker(installation, rule_id):
    draft = msgspec.structs.replace(RULES[rule_id], scope=RuleScope(segments=["some"]))
    keys = [row.key for own in installation.records[TRANSACTIONS].values() for row in own]
    keys += [row.key for own in installation.records[PLAYER_EVENTS].values() for row in own]
    everybody = frozenset(key.decode() for key in keys)
    members = [(("some", frozenset[str]()),), (("some", everybody),)]
    timelines = {
        topic: {
            number: Timeline([Marker(0, 0), Marker(len(rows) // 2, 1)])
            for number, rows in own.items()
        }
        for topic, own in installation.records.items()
    }
    then = members_of_then(timelines, members.__getitem__)
    plan = replace(plan_of(draft), members=SegmentMembers(members[1], then))
    log = MemoryLog(installation.records, append_time=True)
    found = set(run_backtest(log, plan).runs[DRAFT].alerts)
    assert found == raised_by_worker(installation, draft, timelines, members.__getitem__)
    assert found
    assert found != installation.alerts[rule_id]


@pytest.mark.parametrize("rule_id", ["D12", "D08"])
def test_blocks_and_signals_that_are_written_again_change_no_answer(installation, rule_id):
    plan = plan_of(RULES[rule_id], RULES[rule_id])
    reports = []
    for block_records, records in ((100, installation.records), (7, written_again(installation))):
        log = MemoryLog(records, append_time=True, block_records=block_records)
        report = make_report(plan, run_backtest(log, plan))
        assert report.active is not None
        figures = [
            msgspec.structs.replace(one, cpu_us_per_event=0)
            for one in (report.draft, report.active)
        ]
        reports.append(msgspec.structs.replace(report, draft=figures[0], active=figures[1]))
    assert reports[0] == reports[1]
    assert reports[0].kept == reports[0].draft.flagged > 0


def written_again(installation: Installation):
    """As after a restart: each signal is in the topic a second time, behind the first."""
    twice = [row for row in installation.records[SIGNALS][0] for _ in range(2)]
    rows = [MemoryRecord(n, row.timestamp_ms, row.key, row.value) for n, row in enumerate(twice)]
    return {**installation.records, SIGNALS: {0: rows, 1: []}}


def test_a_stricter_draft_drops_who_the_active_rule_flags(installation):
    [limit] = [name for name in RULES["D08"].limits if name == "device_accounts"]
    strict = msgspec.structs.replace(RULES["D08"].limits[limit], value=40)
    limits = RULES["D08"].limits | {limit: strict}
    draft = msgspec.structs.replace(RULES["D08"], version=2, threshold=40, limits=limits)
    log = MemoryLog(installation.records, append_time=True)
    result = run_backtest(log, plan_of(draft, RULES["D08"]))
    report = make_report(plan_of(draft, RULES["D08"]), result)
    assert report.draft.flagged == 0
    assert report.dropped
    assert report.active is not None
    assert len(result.runs[ACTIVE].alerts) == report.active.alerts


def test_the_time_before_warms_up_and_is_not_counted(installation):
    """Signals of before the time are seen; an alert that was open already is not counted."""
    rule, log = RULES["D08"], MemoryLog(installation.records, append_time=True)
    whole = run_backtest(log, plan_of(rule))
    opened = sorted(one.opened_at_ms for one in whole.runs[DRAFT].alerts.values())
    since_ms = opened[len(opened) // 2]
    plan = BacktestPlan("", rule, None, since_ms, START_MS + 400 * DAY_MS, 800 * DAY_MS)
    half = run_backtest(log, plan)
    expected = {
        name: one for name, one in whole.runs[DRAFT].alerts.items() if one.opened_at_ms >= since_ms
    }
    assert half.runs[DRAFT].alerts == expected
    assert 0 < half.events < half.observed


def test_an_unreadable_signal_is_named(installation):
    rows = [*installation.records[SIGNALS][0]]
    place = len(rows) // 2
    rows[place] = MemoryRecord(place, rows[place].timestamp_ms, b"s", b"not a signal")
    records = {**installation.records, SIGNALS: {0: rows, 1: []}}
    run = run_backtest(MemoryLog(records, append_time=True), plan_of(RULES["D08"]))
    assert run.unreadable == [f"{SIGNALS}-0@{place}"]
