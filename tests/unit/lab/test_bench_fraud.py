"""The bench of the fraud worker without servers: the cases that it times, and what it says of its figures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fraud_agents.detectors.ordered import GRACE_MS
from lab.bench import fraud
from lab.bench.alert_delays import (
    CASE_RULES,
    TARGET_DELAY_MS,
    FraudSubject,
    send_bystanders,
    send_cases,
    split_delays,
)
from lab.bench.fraud import (
    PEER_TRIES,
    TARGET_RATIO,
    FraudBenchFigures,
    FraudBenchPlan,
    RunStalled,
    measure_peer,
)
from lab.bench.machine import Machine
from lab.bench.processes import BenchFailed, ProcessCommand
from lab.bench.rates import Pair, Rate, RateSample
from lab.bench.report import BenchEnvironment
from lab.fraud.scoring import run_detectors
from lab.fraud.story import PlayerStory, Stream
from lab.fraud.traffic import Traffic
from runtime.kafka.partitioner import partition_for
from runtime.security import BrokerAddress
from schemas.events import AlertStatus

NOW_MS = 1_788_739_200_000
ROUNDS = 5
PLAYER_MS, MERGED_MS = TARGET_DELAY_MS, GRACE_MS + TARGET_DELAY_MS


def test_each_round_raises_one_alert_of_each_rule_and_no_other():
    stream = Stream(11)
    for number in range(ROUNDS):
        send_cases(stream, NOW_MS + number * 120)
        send_bystanders(stream, NOW_MS + number * 120, 8)
    for number in range(40):  # event time goes on in every partition
        PlayerStory(stream).bet(NOW_MS + 60_000 + number, 1)
    raised = run_detectors(Traffic(stream.in_order(), [], {}))
    opened = [one.alert.rule_id for one in raised if one.alert.status == AlertStatus.OPEN]
    assert Counter(opened) == dict.fromkeys(CASE_RULES, ROUNDS)


def test_the_log_goes_on_in_each_of_its_partitions():
    stream = Stream(11)
    send_bystanders(stream, NOW_MS, 24)
    keys = {sent.key for sent in stream.sent}
    assert len(keys) == len(stream.sent)
    assert sorted(partition_for(key.encode(), 24) for key in keys) == [*range(24)]


class Steps:
    """What a bench has shown of its progress."""

    def __init__(self) -> None:
        self.results: list[str] = []

    def begin(self, step: str) -> None: ...

    def update(self, count: int, total: int) -> None: ...

    def end(self, result: str) -> None:
        self.results.append(result)


def peer_of(run: str) -> FraudSubject:
    return FraudSubject("peer", ProcessCommand([], {}, Path()), f"group-{run}", "source", "alerts")


@pytest.mark.parametrize("stalls", range(PEER_TRIES + 1))
async def test_a_peer_that_stands_still_is_run_again_as_another_group(monkeypatch, stalls):
    groups: list[str] = []
    broker: Any = None

    async def observe(broker, subject, report):
        groups.append(subject.group)
        if len(groups) <= stalls:
            raise RunStalled("peer stood still for 60 s at 5 of 100; the end of its log")
        return [RateSample(float(n), 10 * n, float(n)) for n in range(11)]

    monkeypatch.setattr(fraud, "_observe", observe)
    steps = Steps()
    if stalls == PEER_TRIES:
        with pytest.raises(RunStalled):
            await measure_peer(broker, peer_of, 1, "pair 1", steps)
        assert len(groups) == PEER_TRIES
        return
    rate, repeated = await measure_peer(broker, peer_of, 1, "pair 1", steps)
    assert (rate.per_s, repeated) == (10.0, stalls)
    assert len(set(groups)) == stalls + 1
    assert steps.results[:stalls] == ["run again: peer stood still for 60 s at 5 of 100"] * stalls


def figures(ratio: int, player_ms: float, merged_ms: float) -> FraudBenchFigures:
    subject = FraudSubject("x", ProcessCommand([], {}, Path()), "group", "source", "alerts")
    plan = FraudBenchPlan(BrokerAddress("kafka:1"), subject, peer_of, subject, 1, 1, "embedded")
    by_rule = {"D01": [1.0], "D02": [player_ms], "D08": [2.0], "D12": [merged_ms], "D03": []}
    pair = Pair(Rate(100 * ratio, 1.0, 1.0), Rate(100, 1.0, 1.0))
    machine = Machine("a CPU", 2, 8.0, "Linux 6", "CPython 3.11", {}, 0.5)
    environment = BenchEnvironment(machine, "abc", {})
    return FraudBenchFigures(plan, [pair], 2, 100.0, 10, *split_delays(by_rule), environment)


@pytest.mark.parametrize(
    ("ratio", "player_ms", "merged_ms", "holds"),
    [
        (TARGET_RATIO, PLAYER_MS, MERGED_MS, True),
        (TARGET_RATIO - 1, PLAYER_MS, MERGED_MS, False),
        (TARGET_RATIO, PLAYER_MS + 1, MERGED_MS, False),
        (TARGET_RATIO, PLAYER_MS, MERGED_MS + 1, False),
    ],
)
def test_it_holds_only_with_the_ratio_and_both_delays(ratio, player_ms, merged_ms, holds):
    found = figures(ratio, player_ms, merged_ms)
    said = found.as_json()
    assert said["holds"] is holds
    assert said["alert_delay_ms"]["p99"] == player_ms
    assert said["alert_delay_ms"]["rules"] == ("D01", "D02")
    assert said["merged_alert_delay_ms"]["p99"] == merged_ms
    assert said["merged_alert_delay_ms"]["rules"] == ("D08", "D12")
    assert said["faust_table_stalls"] == 2
    details = " ".join(row.remark for row in found.rows())
    assert ("MISSED" not in details) is holds
    assert details.count("met") + details.count("MISSED") == 3
    assert "2 runs stood still" in details


def test_without_an_alert_there_is_no_delay():
    with pytest.raises(BenchFailed):
        split_delays({"D01": [1.0], "D08": []})
