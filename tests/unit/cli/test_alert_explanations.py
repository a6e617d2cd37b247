"""The seconds of an alert's window on a screen: empty ones are folded."""

from __future__ import annotations

from fraud_agents.explanation import WindowSecond
from pitboss.cli.alert_explanations import _fold

T0 = 1_750_000_000_000


def seconds(*counts: int, crossing: int = -1) -> list[WindowSecond]:
    return [
        WindowSecond(T0 + number * 1_000, counted, sum(counts[: number + 1]), number == crossing)
        for number, counted in enumerate(counts)
    ]


def shown(found) -> list[tuple[int, int]]:
    return [(quiet, second.counted) for quiet, second in _fold(found)]


def test_a_second_alone_is_shown_and_more_are_folded():
    assert shown(seconds(3, 0, 2, 0, 0, 0, 4)) == [(0, 3), (0, 0), (0, 2), (3, 4)]


def test_the_last_second_and_the_one_that_crosses_are_always_shown():
    assert shown(seconds(5, 0, 0, 0)) == [(0, 5), (2, 0)]
    assert shown(seconds(0, 0, 0, 9, crossing=2)) == [(2, 0), (0, 9)]


def test_nothing_is_lost():
    found = seconds(0, 0, 1, 0, 0, 0, 0, 2, 0, 3, 0)
    rows = list(_fold(found))
    assert sum(quiet for quiet, _ in rows) + len(rows) == len(found)
    assert sum(second.counted for _, second in rows) == 6
