"""The detectors against labelled traffic that knows the definitions and not the rules."""

from __future__ import annotations

import random

import msgspec
import pytest

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.rules import Rule
from lab.fraud.scoring import CATALOGUE, run_detectors, score
from lab.fraud.traffic import ALL_CASES, make_traffic
from lab.fraud.truth import Level

HARD_INVARIANTS = {"D01", "D02", "D12", "D14", "D15", "D16", "D18", "D20"}
TUNED_ON = 1
HELD_OUT = (2, 3, 4, 5)


def hold_up(found):
    for name, one in found.detectors.items():
        if one is None:
            continue
        at_least = 1.0 if name in HARD_INVARIANTS else 0.9
        assert one.recall >= at_least, (name, one.missed)
        assert one.precision >= 0.8, (name, one.false_alerts)
        assert one.injections >= 20, name
    assert found.precision >= 0.9
    assert found.hard_negative_alerts == []


def scored(seed, rules=DEFAULT_RULES, **more):
    traffic = make_traffic(seed, **more)
    return score(traffic, run_detectors(traffic, rules), rules, seed)


def test_every_case_is_found_and_nothing_else():
    found = scored(TUNED_ON)
    hold_up(found)
    assert tuple(found.detectors) == CATALOGUE
    made = {rule.rule_id for rule in DEFAULT_RULES}
    assert {name for name, one in found.detectors.items() if one is not None} == made


@pytest.mark.prove
@pytest.mark.parametrize("seed", HELD_OUT)
def test_seeds_that_nothing_was_tuned_on(seed):
    hold_up(scored(seed))


def test_traffic_has_edges_near_misses_and_traps_of_every_detector():
    traffic = make_traffic(TUNED_ON)
    for name in {case.detector for case in ALL_CASES}:
        own = [truth for truth in traffic.truths if truth.detector == name]
        edges = [truth for truth in own if truth.level is Level.EDGE]
        nears = [truth for truth in own if truth.level is Level.NEAR]
        assert len(nears) >= len(edges)
        if any(Level.EDGE in case.levels for case in ALL_CASES if case.detector == name):
            assert 3 * len(edges) >= 20
    assert msgspec.json.encode(make_traffic(TUNED_ON).truths) == msgspec.json.encode(traffic.truths)
    assert make_traffic(2).truths != traffic.truths


def numbers_of(rule: Rule):
    """Yield each number of a rule with the rule in which it takes 10 % more to raise an alert."""
    if rule.threshold > 1:
        threshold = -(-rule.threshold * 110 // 100)
        yield "threshold", msgspec.structs.replace(rule, threshold=threshold)
    for name, limit in rule.limits.items():
        limits = {**rule.limits, name: limit.demand_more(10)}
        yield name, msgspec.structs.replace(rule, limits=limits)
    for region, own in rule.regions.items():
        for name, limit in own.items():
            regions = {**rule.regions, region: {**own, name: limit.demand_more(10)}}
            yield f"{region} {name}", msgspec.structs.replace(rule, regions=regions)


@pytest.mark.parametrize(
    ("rule", "stricter"),
    [
        pytest.param(rule, changed, id=f"{rule.rule_id} {name}")
        for rule in DEFAULT_RULES
        for name, changed in numbers_of(rule)
    ],
)
def test_a_number_that_demands_a_tenth_more_misses_cases(rule, stricter):
    """So the traffic has cases at the edge of every number, and every number decides something."""
    traffic = make_traffic(TUNED_ON, detectors=[rule.rule_id], ordinary=0)
    before, after = (
        score(traffic, run_detectors(traffic, [one]), [one]).detectors[rule.rule_id]
        for one in (rule, stricter)
    )
    assert before is not None
    assert after is not None
    assert after.recall < before.recall


def test_snapshots_anywhere_change_no_alert():
    """Each partition is stopped, saved and continued elsewhere at arbitrary records of the traffic."""
    traffic = make_traffic(TUNED_ON, ordinary=20)
    rng, offset, straight, cut = random.Random(5), 0, [], []
    one, other = PartitionDetectors(DEFAULT_RULES, 0), PartitionDetectors(DEFAULT_RULES, 0)
    for sent in traffic.sent:
        if sent.topic != "wallet.transactions.v1":
            continue
        straight += one.observe(sent.record, offset)
        if rng.random() < 0.0007:
            saved = other.state()
            other = PartitionDetectors(DEFAULT_RULES, 0)
            other.restore(saved)
            assert other.state() == saved
        cut += other.observe(sent.record, offset)
        offset += 1
    assert len(straight) > 400
    assert cut == straight
    assert one.state() == other.state()
