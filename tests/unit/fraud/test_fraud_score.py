"""The detectors against labelled traffic that knows the definitions and not the rules."""

from __future__ import annotations

import random
from functools import cache

import msgspec
import pytest

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.rules import Rule
from lab.bench.fraud_seeds import HELD_OUT_SEEDS, TUNING_SEEDS
from lab.fraud.leakage import area_under_curve, measure_leakage
from lab.fraud.scoring import CATALOGUE, Watch, run_detectors, score
from lab.fraud.traffic import ALL_CASES, INJECTIONS_MIN, make_traffic
from lab.fraud.truth import Level

HARD_INVARIANTS = {"D01", "D02", "D02B", "D12", "D14", "D15", "D16", "D18", "D18B", "D20"}
[TUNED_ON] = TUNING_SEEDS
QUICK = {"D02", "D02B", "D05", "D17", "D18B", "D20"}
"""Detectors whose numbers are tried in every run; those of the others in `make prove`."""


def hold_up(found):
    for name, one in found.detectors.items():
        if one is None:
            continue
        at_least = 1.0 if name in HARD_INVARIANTS else 0.9
        assert one.recall >= at_least, (name, one.missed)
        assert one.precision >= 0.8, (name, one.false_alerts)
        assert one.injections >= INJECTIONS_MIN, name
        # A near-miss has to be silent, whatever the precision allows.
        assert [text for text in one.false_alerts if text.endswith(Level.NEAR)] == [], name
        assert one.near_misses > 0, name
    assert found.precision >= 0.9
    assert found.hard_negative_alerts == []


def test_an_alert_on_a_near_miss_is_named_as_one():
    """So that a score which holds every share, but has one, does not hold up."""
    [rule] = [rule for rule in DEFAULT_RULES if rule.rule_id == "D02B"]
    lax = [msgspec.structs.replace(rule, threshold=19, close_below=19)]
    found = scored(TUNED_ON, lax, detectors=["D02B"], ordinary=0).detectors["D02B"]
    assert found is not None
    assert found.recall == 1
    assert any(text.endswith("D02B of a provider NEAR") for text in found.false_alerts)


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
@pytest.mark.parametrize("seed", HELD_OUT_SEEDS)
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


@cache
def traffic_of(rule_id: str):
    return make_traffic(TUNED_ON, detectors=[rule_id], ordinary=0)


def recall_of(rule: Rule) -> float:
    traffic = traffic_of(rule.rule_id)
    found = score(traffic, run_detectors(traffic, [rule]), [rule]).detectors[rule.rule_id]
    assert found is not None
    return found.recall


@cache
def recall_as_it_is(rule_id: str) -> float:
    [rule] = [rule for rule in DEFAULT_RULES if rule.rule_id == rule_id]
    return recall_of(rule)


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
        pytest.param(
            rule,
            changed,
            id=f"{rule.rule_id} {name}",
            marks=() if rule.rule_id in QUICK else pytest.mark.prove,
        )
        for rule in DEFAULT_RULES
        for name, changed in numbers_of(rule)
    ],
)
def test_a_number_that_demands_a_tenth_more_misses_cases(rule, stricter):
    """So the traffic has cases at the edge of every number, and every number decides something."""
    assert recall_of(stricter) < 1 == recall_as_it_is(rule.rule_id)


def test_snapshots_anywhere_change_no_alert():
    """Everything is stopped, saved and continued elsewhere at arbitrary records of the traffic."""
    traffic = make_traffic(TUNED_ON, ordinary=10, injections=6)
    rng, straight, cut, cuts = random.Random(5), [], [], 0
    one, other = Watch(), Watch()
    for sent in traffic.sent:
        straight += one.observe(sent)
        if rng.random() < 0.0008:
            saved, offsets, cuts = other.states(), other.offsets, cuts + 1
            other = Watch()
            other.restore(saved, offsets)
            assert other.states() == saved
        cut += other.observe(sent)
    assert cuts > 5
    assert {alert.rule_id for alert in straight} == {rule.rule_id for rule in DEFAULT_RULES}
    assert cut == straight
    assert one.states() == other.states()


def test_the_area_under_the_curve_counts_ties_half():
    assert area_under_curve([1, 2], [1, 0]) == 3.5 / 4
    assert area_under_curve([0], [1]) == 0.0
    assert area_under_curve([1, 1], [1]) == 0.5


def test_players_marked_at_random_cannot_be_told_apart_by_their_markers_of_harm():
    found = measure_leakage(TUNED_ON, marked=300)
    assert found.is_fair, found
    assert min(sum(counts) for counts in found.scores.values()) > 10
    assert set(found.scores) == {0, 1}


def test_the_marked_are_ordinary_players_of_the_traffic_that_is_scored():
    marked, plain = make_traffic(TUNED_ON, marked=40), make_traffic(TUNED_ON)
    assert marked.truths == plain.truths
    own = [sent for sent in marked.sent if sent.key in marked.marked]
    assert len(own) > 40 * 40
    assert sum(marked.marked.values()) == 40
    numbers = {truth.number for truth in plain.truths}
    assert {sent.case is not None for sent in own if marked.marked[sent.key]} == {True}
    assert {sent.case for sent in own if not marked.marked[sent.key]} == {None}
    assert not numbers & {sent.case for sent in own}


def test_a_leak_is_noticed():
    assert not measure_leakage(TUNED_ON, marked=300, leak=100).is_fair


@pytest.mark.prove
@pytest.mark.parametrize("seed", [TUNED_ON, *HELD_OUT_SEEDS])
def test_two_thousand_players_marked_at_random_cannot_be_told_apart(seed):
    found = measure_leakage(seed)
    assert (found.marked, found.is_fair) == (2_000, True), found
