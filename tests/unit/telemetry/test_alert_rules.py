"""The rules on a faster clock are the rules: nothing but durations differs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway import stats
from gateway.stats import SHOWN_AT_ZERO, GatewayStats
from tests.support.alert_rules import (
    ONLY_IN_A_FAULT,
    SCRAPE_S,
    compared_side,
    divide_duration,
    load_rules,
    rules_of,
    speed_up,
    without_default,
)
from tests.unit.telemetry.test_observability import load_dashboards

DURATION = re.compile(r"(?<=\[)\d+(?:ms|[smh])(?=\])|(?<=offset )\d+(?:ms|[smh])")
UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


def to_ms(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(\D+)", text).groups()  # type: ignore[union-attr]
    return int(number) * UNITS_MS[unit]


def test_only_durations_differ_and_all_of_them_by_the_factor():
    before, after = rules_of(load_rules()), rules_of(speed_up(load_rules(), 10))
    assert len(before) == len(after) >= 15
    for one, other in zip(before, after, strict=True):
        assert DURATION.sub("T", one["expr"]) == DURATION.sub("T", other["expr"])
        slow, fast = map(DURATION.findall, (one["expr"], other["expr"]))
        assert [to_ms(text) for text in slow] == [10 * to_ms(text) for text in fast]
        assert to_ms(one.get("for", "0s")) == 10 * to_ms(other.get("for", "0s"))
        rest = [
            {k: v for k, v in rule.items() if k not in {"expr", "for"}} for rule in (one, other)
        ]
        assert rest[0] == rest[1]


def test_every_bracket_and_offset_is_seen():
    for rule in rules_of(load_rules()):
        text = rule["expr"]
        assert len(DURATION.findall(text)) == text.count("[") + text.count("offset ")


def test_a_factor_of_one_changes_no_length():
    assert [
        to_ms(text)
        for rule in rules_of(speed_up(load_rules(), 1))
        for text in DURATION.findall(rule["expr"])
    ] == [to_ms(text) for rule in rules_of(load_rules()) for text in DURATION.findall(rule["expr"])]


def test_every_window_holds_several_scrapes():
    for rule in rules_of(load_rules()):
        for text in re.findall(r"\[(\w+)\]", rule["expr"]):
            assert to_ms(text) >= 4 * SCRAPE_S * 1_000


@pytest.mark.parametrize("text", ["5", "5 m", "m", "1d", "-5m"])
def test_what_is_not_a_duration_is_refused(text):
    with pytest.raises(ValueError, match="is not a duration"):
        divide_duration(text, 10)


def test_a_duration_that_does_not_divide_is_refused():
    assert divide_duration("1m", 10) == "6000ms"
    with pytest.raises(ValueError, match="whole number of milliseconds"):
        divide_duration("1s", 7)


def test_every_query_that_is_never_empty_is_asked_in_a_fault_without_its_default():
    rules = {rule["alert"]: rule["expr"] for rule in rules_of(load_rules())}
    panels = dict(load_dashboards().queries())
    never_empty = {name for name, text in {**rules, **panels}.items() if "vector(" in text}
    assert never_empty < ONLY_IN_A_FAULT <= rules.keys() | panels.keys()
    for name in ONLY_IN_A_FAULT:
        assert "vector(" not in without_default(rules.get(name) or panels[name])


@pytest.mark.parametrize(
    ("expression", "side"),
    [
        ("max(a) > 0", "max(a)"),
        ("sum(a or vector(0)) > 0", "sum(a)"),
        ("sum(a[1h]) > 60\n  unless sum(a[10m]) > 0", "sum(a[10m])"),
        ("max(increase(a[5m])) == 0", "max(increase(a[5m]))"),
    ],
)
def test_the_compared_side_is_empty_where_its_series_is_missing(expression, side):
    assert compared_side(expression) == side


def test_every_ending_that_is_shown_at_zero_is_one_that_the_alert_looks_for():
    [rule] = [one for one in rules_of(load_rules()) if one["alert"] == "PitbossGatewayUnavailable"]
    pattern = re.search(r'ending=~"([^"]*)"', rule["expr"])
    assert pattern is not None
    shown = {labels[0]: value for _, labels, value in GatewayStats().samples()}
    assert shown == dict.fromkeys(SHOWN_AT_ZERO, 0)
    assert all(re.fullmatch(pattern[1], ending) for ending in shown)
    said = "".join(path.read_text() for path in Path(stats.__file__).parent.glob("*.py"))
    assert all(said.count(f'"{ending}"') > 1 for ending in shown), "and a call ends so"


def test_a_count_replaces_its_zero():
    counted = GatewayStats()
    counted.endings["taken back"] += 3
    assert {labels[0]: value for _, labels, value in counted.samples()}["taken back"] == 3
