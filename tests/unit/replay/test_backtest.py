"""A draft of a rule over history: who is flagged, added and dropped, and who is near the edge."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from fraud_agents.activations import Marker, Timeline, rerun_shard
from fraud_agents.detectors import D01_BET_VELOCITY, DEFAULT_RULES
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.rule_set import RuleEntry, RuleSet
from fraud_agents.rules import Limit, RuleScope
from replay.backtest.margins import demand_more
from replay.backtest.report import make_report
from replay.backtest.run import DRAFT, BacktestPlan, default_warm_up_ms, run_backtest
from replay.backtest.scoping import SegmentMembers, members_of_then
from runtime.kafka.partitioner import partition_for
from schemas import codec
from schemas.events import WalletTransaction
from schemas.topics import DAY_MS, GAME_RESULTS, PLAYER_EVENTS, TRANSACTIONS
from tests.support.fraud_log import T0, burst
from tests.support.memory_log import MemoryLog, MemoryRecord

D01 = D01_BET_VELOCITY
PARTITIONS = 2
LAG_MS = 40
BETS = {"both": 150, "added": 100, "nearly": 85, "calm": 20}


def with_warning(value: int, **more):
    limits = {"warn": msgspec.structs.replace(D01.limits["warn"], value=value)}
    return msgspec.structs.replace(D01, version=3, limits=limits, **more)


def log_of(events) -> MemoryLog:
    encode = codec.encoder(WalletTransaction)
    records: dict[int, list[MemoryRecord]] = {number: [] for number in range(PARTITIONS)}
    for event in sorted(events, key=lambda each: each.occurred_at):
        rows = records[partition_for(event.player_id.encode(), PARTITIONS)]
        key = event.player_id.encode()
        at_ms = event.occurred_at + LAG_MS
        rows.append(MemoryRecord(len(rows), at_ms, key, encode(event)))
    return MemoryLog({TRANSACTIONS: records}, append_time=True)


def bets_at(start_ms=T0 + 1_000, bets=BETS):
    return [event for name, count in bets.items() for event in burst(name, start_ms, count)]


def plan_of(draft, active=D01, **more) -> BacktestPlan:
    plan = BacktestPlan("", draft, active, T0, T0 + DAY_MS, default_warm_up_ms(draft, active))
    return replace(plan, **more)


def report_of(log, plan, **more):
    return make_report(plan, run_backtest(log, plan), **more)


def test_a_laxer_draft_adds_players_and_names_who_is_near_its_edge():
    report = report_of(log_of(bets_at()), plan_of(with_warning(90)))
    assert [one.player_id for one in report.added] == ["added"]
    assert (report.kept, report.dropped) == (1, [])
    assert (report.draft.flagged, report.active.flagged) == (2, 1)
    [silent] = report.nearest_silent
    assert (silent.found.player_id, silent.margin_percent) == ("nearly", 10)
    [alerted] = report.nearest_alerted
    assert (alerted.found.player_id, alerted.margin_percent) == ("added", 25)


def test_a_stricter_draft_drops_players():
    report = report_of(log_of(bets_at()), plan_of(with_warning(200)))
    assert [one.player_id for one in report.dropped] == ["both"]
    assert (report.added, report.kept, report.draft.alerts) == ([], 0, 0)
    assert report.draft.delay_ms is None


def test_figures_are_those_of_the_log():
    events = bets_at()
    report = report_of(log_of(events), plan_of(with_warning(90)))
    assert (report.events, report.players) == (len(events), len(BETS))
    # Two alerts about four players in one day.
    assert report.draft.alerts_per_1000_players_day == 500
    assert report.draft.by_severity == {"review": 2}
    # The ninetieth bet is 8.9 s behind the first one, and its record comes after its lag.
    delay_ms = 8_900 + LAG_MS
    assert report.draft.delay_ms == {"p50": delay_ms, "p95": delay_ms, "max": delay_ms}
    # The ninetieth bet instead of the hundred and twentieth, at ten a second.
    assert report.kept_later_ms == -3_000
    assert report.draft.cpu_us_per_event > 0
    [added] = report.added
    # Ninety bets of a euro.
    assert [(one.currency, one.minor) for one in added.exposed] == [("EUR", 9_000)]
    assert report.added_exposed == added.exposed


def test_the_alerts_are_those_of_production_to_the_id():
    log, draft = log_of(bets_at()), with_warning(90)
    raised = set()
    for partition, rows in log.records[TRANSACTIONS].items():
        detectors = PartitionDetectors([draft], partition)
        decode = codec.decoder(WalletTransaction)
        for row in rows:
            raised |= {
                alert.alert_id for alert in detectors.observe(decode(row.value or b""), row.offset)
            }
    run = run_backtest(log, plan_of(draft))
    assert raised
    assert set(run.runs[DRAFT].alerts) == raised


def limited(*segments: str):
    return with_warning(90, scope=RuleScope(segments=list(segments)))


def raised_by_worker(log, timeline, segments_at) -> set[str]:
    """Ids of the alerts that a worker raises while the segments change as the markers say."""
    draft, decode, raised = limited("vip"), codec.decoder(WalletTransaction), set()
    for partition, rows in log.records[TRANSACTIONS].items():
        events = [(row.offset, decode(row.value or b"")) for row in rows]

        def rules_at(position):
            return RuleSet((RuleEntry(draft),), segments=segments_at(position))

        timelines = {TRANSACTIONS: timeline}
        for alert, _ in rerun_shard({TRANSACTIONS: events}, partition, timelines, rules_at):
            raised.add(alert.alert_id)
    return raised


def test_a_rule_limited_to_a_segment_finds_its_players():
    segments = (("other", frozenset({"both"})), ("vip", frozenset({"added", "calm"})))
    log = log_of(bets_at())
    plan = plan_of(limited("vip"), members=SegmentMembers(segments))
    run = run_backtest(log, plan)
    assert {one.alert.player_id for one in run.runs[DRAFT].alerts.values()} == {"added"}
    always = Timeline([Marker(0, 1)])
    assert set(run.runs[DRAFT].alerts) == raised_by_worker(log, always, lambda _: segments)
    # The players just below the edge are of the segment too.
    assert make_report(plan, run).nearest_silent == []


def test_who_came_into_a_segment_meanwhile_is_found_from_there_on_as_by_the_worker():
    log = log_of(bets_at() + bets_at(start_ms=T0 + 3_600_000))
    members = [(("vip", frozenset[str]()),), (("vip", frozenset({"both", "added"})),)]
    # Behind the first burst of each partition.
    timeline = Timeline([Marker(0, 0), Marker(sum(BETS.values()), 1)])
    own = dict.fromkeys(range(PARTITIONS), timeline)
    then = members_of_then({TRANSACTIONS: own}, members.__getitem__)
    raised = raised_by_worker(log, timeline, members.__getitem__)
    found = {}
    for name, some in (
        ("then", SegmentMembers(members[1], then)),
        ("now", SegmentMembers(members[1])),
    ):
        found[name] = set(
            run_backtest(log, plan_of(limited("vip"), members=some)).runs[DRAFT].alerts
        )
    assert found["then"] == raised
    assert found["then"] < found["now"]


def test_the_same_log_gives_the_same_answer_however_it_is_read():
    plan = plan_of(with_warning(90))
    reports = []
    for block_records in (7, 100):
        log = log_of(bets_at())
        log.block_records = block_records
        report = report_of(log, plan)
        without_cpu = [
            msgspec.structs.replace(figures, cpu_us_per_event=0)
            for figures in (report.draft, report.active)
        ]
        reports.append(msgspec.structs.replace(report, draft=without_cpu[0], active=without_cpu[1]))
    assert reports[0] == reports[1]


def test_windows_are_full_when_the_time_begins_and_earlier_alerts_are_not_counted():
    since_ms = T0 + 60_000
    events = burst("straddles", since_ms - 10_000, 150) + burst("before", T0, 150)
    log = log_of(events)
    warm = report_of(log, plan_of(D01, since_ms=since_ms))
    assert [one.alert_ids for one in warm.added + warm.dropped] == []
    assert (warm.draft.flagged, warm.events) == (1, 50)
    cold = report_of(log, plan_of(D01, since_ms=since_ms, warm_up_ms=0))
    assert cold.draft.flagged == 0


def test_a_rule_without_an_active_version_adds_all_it_flags():
    report = report_of(log_of(bets_at()), plan_of(with_warning(90), active=None))
    assert report.active is None
    assert [one.player_id for one in report.added] == ["added", "both"]


def test_what_cannot_be_read_is_named():
    log = log_of(bets_at())
    partition = partition_for(b"both", PARTITIONS)
    log.records[TRANSACTIONS][partition][3].value = b"not an event"
    report = report_of(log, plan_of(with_warning(90)))
    assert report.unreadable == [f"{TRANSACTIONS}-{partition}@3"]


def test_counter_examples_are_bounded():
    bets = {f"nearly-{number}": 85 + number % 3 for number in range(9)}
    report = report_of(log_of(bets_at(bets=bets)), plan_of(with_warning(90)), examples=4)
    assert [one.found.player_id for one in report.nearest_silent] == [
        f"nearly-{number}" for number in range(4)
    ]


@pytest.mark.parametrize("percent", [-50, -25, -10, 10, 25, 50])
@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.rule_id)
def test_every_rule_can_be_moved(rule, percent):
    moved = demand_more(rule, percent)
    assert (moved.threshold > rule.threshold) == (percent > 0 and rule.threshold > 0)
    for name, limit in rule.limits.items():
        demands_more = moved.limits[name].value - limit.value
        if limit.alerts in {"below", "not above"}:
            demands_more = -demands_more
        assert demands_more * percent >= 0


def test_a_limit_that_alerts_below_moves_the_other_way():
    low = Limit(100, "percent", "a test", alerts="below")
    moved = demand_more(msgspec.structs.replace(D01, limits={"low": low}), 10)
    assert moved.limits["low"].value == 90


def test_a_rule_of_several_topics_sees_all_of_them():
    by_id = {rule.rule_id: rule for rule in DEFAULT_RULES}
    assert plan_of(D01).topics == [TRANSACTIONS]
    assert plan_of(by_id["D07"]).topics == [TRANSACTIONS, PLAYER_EVENTS]
    assert GAME_RESULTS in plan_of(by_id["D14"]).topics
