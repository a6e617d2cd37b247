"""From samples to a rate, and from pairs to a verdict."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bench.normalise import run_pairs
from lab.bench.observation import MeasuredSubject
from lab.bench.processes import ProcessCommand
from lab.bench.rates import Latencies, Pair, Rate, RateSample, Spread, rate_of
from pitboss.cli.progress import StepProgress


def steady(per_s: int, seconds: int, start_s: float = 0.0) -> list[RateSample]:
    """A second of starting, then one look a second."""
    return [RateSample(start_s, 0, 0.0)] + [
        RateSample(start_s + 1 + second, per_s * second, 0.5 * second)
        for second in range(seconds + 1)
    ]


def test_a_steady_run_has_its_rate_whatever_its_start_took():
    rate = rate_of(steady(100, 10, start_s=50.0), edge=100)
    assert rate.per_s == pytest.approx(100)
    assert rate.events == 800
    assert rate.cpu_s == pytest.approx(4.0)
    assert rate.cpu_s_per_million == pytest.approx(5_000)


def test_what_was_read_ahead_is_not_credited_when_it_comes_out_at_the_end():
    samples = [*steady(100, 9), RateSample(10.01, 1_000, 4.5)]
    assert rate_of(samples, edge=100).per_s == pytest.approx(100)


def test_looks_after_the_last_output_change_nothing():
    samples = [*steady(100, 10), RateSample(60.0, 1_000, 9.0), RateSample(70.0, 1_000, 9.9)]
    assert rate_of(samples, 100) == rate_of(steady(100, 10), 100)


def test_what_else_the_machine_did_is_told_apart():
    samples = [RateSample(0, 0, 0, 100), RateSample(1, 10, 1, 102), RateSample(11, 110, 7, 121)]
    rate = rate_of(samples, edge=1)
    assert rate.cpu_s == 6
    assert rate.elsewhere_cpu_s == 13
    assert rate.elsewhere_cores == pytest.approx(1.3)


def test_a_slow_start_is_left_out():
    samples = [
        RateSample(0, 0, 0),
        RateSample(10, 50, 3),
        RateSample(20, 100, 6),
        RateSample(21, 300, 7),
        RateSample(22, 500, 8),
    ]
    assert rate_of(samples, edge=100).per_s == pytest.approx(200)


def test_without_a_warm_up_the_first_output_starts_the_clock():
    samples = [
        RateSample(0, 0, 0),
        RateSample(5, 0, 1),
        RateSample(6, 10, 2),
        RateSample(7, 110, 3),
    ]
    assert rate_of(samples, edge=0).per_s == pytest.approx(100)


@pytest.mark.parametrize(
    "samples",
    [
        [RateSample(0, 0, 0), RateSample(1, 100, 1)],
        [RateSample(0, 0, 0), RateSample(1, 100, 1), RateSample(2, 100, 1)],
        [RateSample(0, 0, 0)],
    ],
    ids=["all at once", "all at once and a look after it", "nothing"],
)
def test_a_run_that_was_over_at_the_first_look_has_no_rate(samples):
    with pytest.raises(ValueError, match="use more events"):
        rate_of(samples, edge=5)


@given(
    st.lists(st.integers(1, 1_000), min_size=2, max_size=30), st.integers(0, 100), st.integers(0, 5)
)
def test_a_rate_lies_between_its_slowest_and_its_fastest_second(steps, edge, idle_tail):
    total, samples = 0, [RateSample(0.0, 0, 0.0)]
    for second, step in enumerate(steps, start=1):
        total += step
        samples.append(RateSample(float(second), total, float(second)))
    samples += [RateSample(len(steps) + extra + 1.0, total, 0.0) for extra in range(idle_tail)]
    try:
        rate = rate_of(samples, edge)
    except ValueError:
        assert 2 * edge + max(steps) > total
        return
    assert min(steps) <= rate.per_s <= max(steps)
    assert rate.events <= total


def test_a_ratio_is_judged_pair_by_pair():
    # The machine was slow during the second pair: both sides lost half, and the pair says what the others say.
    pairs = [
        Pair(Rate(2_000, 1, 1), Rate(100, 1, 1)),
        Pair(Rate(1_000, 1, 1), Rate(50, 1, 1)),
        Pair(Rate(2_100, 1, 1), Rate(100, 1, 1)),
    ]
    assert Spread.of([pair.ratio for pair in pairs]) == Spread(20, 20, 21)


async def test_sides_take_turns():
    order = []

    async def measure_once(subject: MeasuredSubject) -> Rate:
        order.append(subject.name)
        return Rate(len(order), 1.0, 1.0)

    a, b, c = (
        MeasuredSubject(name, ProcessCommand([], {}, Path()), "group", "source", "sink")
        for name in "abc"
    )
    pairs, others = await run_pairs(2, a, b, {"other": c}, measure_once, StepProgress())
    assert "".join(order) == "abcabc"
    assert [(pair.ours.events, pair.peer.events) for pair in pairs] == [(1, 2), (4, 5)]
    assert [rate.events for rate in others["other"]] == [3, 6]


@pytest.mark.parametrize(
    ("took_ms", "p50", "p99"),
    [
        ([7], 7, 7),
        ([1, 2], 1, 2),
        ([1, 2, 3], 2, 3),
        (range(1, 101), 50, 99),
        (range(1, 102), 51, 100),
        (range(1, 201), 100, 198),
        (range(1_000_000, 0, -1), 500_000, 990_000),
    ],
)
def test_a_percentile_is_the_smallest_value_that_enough_do_not_exceed(took_ms, p50, p99):
    assert Latencies.of(took_ms) == Latencies(p50, p99, max(took_ms))
