"""The borders of the sliding window, one by one: what a reader would ask first."""

from __future__ import annotations

import pytest

from fraud_agents.windows import Arrival, KeyedWindows, SlidingWindow, Span, WindowSpec
from schemas.errors import UsageError

SPEC = WindowSpec(window_ms=60_000, grace_ms=120_000, dedup_horizon_ms=180_000, capacity=6_000)
LABEL = ("hub88", "slot", "DE")
T0 = 1_750_000_020_000  # a whole minute


def window_of(*times: int, spec: WindowSpec = SPEC) -> SlidingWindow:
    window = SlidingWindow(spec)
    for offset, at_ms in enumerate(times):
        assert window.add(at_ms, f"e{offset}", offset, LABEL) is Arrival.COUNTED
    return window


def test_two_events_59_seconds_apart_share_a_window():
    assert window_of(T0, T0 + 59_999).peak(T0 + 59_999, 1) == Span(T0, T0 + 60_000, 2)


def test_two_events_60_seconds_apart_share_none():
    # Exact to the second: 59.001 s between them, but they stand in seconds 0 and 60.
    window = window_of(T0 + 999, T0 + 60_000)
    assert window.peak(T0 + 60_000, 1) == Span(T0 + 1_000, T0 + 61_000, 1)


def test_499_and_499_across_a_minute_border_are_998():
    before = [T0 + 59_000 + n for n in range(499)]
    after = [T0 + 60_000 + n for n in range(499)]
    window = window_of(*before, *after)
    span = window.peak(after[-1], 500)
    assert span is not None
    assert span.size == 998


def test_a_straggler_is_judged_in_every_window_around_it():
    # 40 before and 40 after it: no window that ends with its own second would see the later ones.
    window = window_of(*(T0 + n for n in range(40)), *(T0 + 50_000 + n for n in range(40)))
    assert window.add(T0 + 30_000, "straggler", 80, LABEL) is Arrival.COUNTED
    assert window.peak(T0 + 30_000, 1) == Span(T0 - 9_000, T0 + 51_000, 81)


def test_of_equally_full_windows_the_earliest_is_named():
    window = window_of(T0, T0 + 90_000, T0 + 45_000)
    assert window.peak(T0 + 45_000, 2) == Span(T0 - 14_000, T0 + 46_000, 2)


def test_grace_is_inclusive_and_what_is_older_is_late():
    window = window_of(T0 + 120_000)
    assert window.add(T0, "just", 1, LABEL) is Arrival.COUNTED
    assert window.add(T0 - 1, "late", 2, LABEL) is Arrival.LATE
    assert (window.late, len(window)) == (1, 2)


def test_a_late_event_stays_out_of_every_count():
    window = window_of(T0, T0 + 120_001)
    assert window.add(T0, "late", 2, LABEL) is Arrival.LATE
    assert window.peak(T0, 1) == Span(T0 - 59_000, T0 + 1_000, 1)


def test_a_known_id_is_a_duplicate_even_under_another_time():
    window = window_of(T0)
    assert window.add(T0, "e0", 1, LABEL) is Arrival.DUPLICATE
    assert window.add(T0 + 180_000, "e0", 2, LABEL) is Arrival.DUPLICATE
    assert (window.duplicates, len(window)) == (2, 1)


def test_an_id_is_known_to_the_end_of_the_horizon_and_no_longer():
    window = window_of(T0, T0 + 180_000)
    assert window.add(T0 + 180_000, "e0", 2, LABEL) is Arrival.DUPLICATE
    assert window.add(T0 + 180_001, "other", 3, LABEL) is Arrival.COUNTED
    assert window.add(T0 + 180_001, "e0", 4, LABEL) is Arrival.COUNTED


def test_a_duplicate_does_not_move_time():
    window = window_of(T0)
    window.add(T0 + 170_000, "e0", 1, LABEL)
    assert window.add(T0 - 120_000, "fresh", 2, LABEL) is Arrival.COUNTED


def test_what_is_past_the_horizon_is_dropped():
    window = window_of(*(T0 + n * 1_000 for n in range(1_000)))
    assert len(window) == 181


def test_a_flood_keeps_memory_bounded_and_the_count_above_any_threshold():
    spec = WindowSpec(window_ms=60_000, grace_ms=120_000, dedup_horizon_ms=180_000, capacity=800)
    window = SlidingWindow(spec)
    for n in range(10_000):
        assert window.add(T0 + n, f"f{n}", n, LABEL) is Arrival.COUNTED
        assert len(window) <= 800
        assert n < 700 or window.peak(T0 + n, 600) is not None
    # What lies before the dropped ones could only be checked with some of its window missing.
    assert window.add(T0, "before", 10_000, LABEL) is Arrival.LATE


def test_contributions_come_by_time_then_arrival():
    window = window_of(T0 + 5, T0 + 9, T0 + 3, T0 + 5)
    found = [
        (event.at_ms - T0, event.offset, event.event_id)
        for event in window.contributions(T0, T0 + 60_000)
    ]
    assert found == [(3, 2, "e2"), (5, 0, "e0"), (5, 3, "e3"), (9, 1, "e1")]
    assert window.first_offset() == 0


@pytest.mark.parametrize(
    "numbers",
    [
        {"window_ms": 0},
        {"window_ms": 1_500},
        {"grace_ms": -1},
        {"dedup_horizon_ms": 179_999},
        {"capacity": 0},
    ],
)
def test_numbers_that_cannot_be_exact_are_refused(numbers):
    sound = {"window_ms": 60_000, "grace_ms": 120_000, "dedup_horizon_ms": 180_000, "capacity": 10}
    with pytest.raises(UsageError):
        WindowSpec(**{**sound, **numbers})


def test_silent_keys_are_forgotten_when_the_log_moves_on():
    keyed = KeyedWindows(SPEC, idle_ms=600_000)
    keyed.advance(T0)
    keyed.touch("a")
    keyed.touch("b")
    keyed.advance(T0 + 1)
    keyed.touch("a")
    assert keyed.advance(T0 + 600_000) == ()
    assert keyed.advance(T0 + 600_001) == ["b"]
    assert keyed.get("a") is not None
    assert keyed.advance(T0 + 600_002) == ["a"]
    assert len(keyed) == 0


def test_a_key_whose_times_lag_behind_the_log_is_kept_while_it_speaks():
    keyed = KeyedWindows(SPEC, idle_ms=600_000)
    for minute in range(60):
        keyed.advance(T0 + minute * 60_000)
        day_ago = T0 + minute * 1_000 - 86_400_000
        keyed.touch("back-fill").add(day_ago, f"e{minute}", minute, LABEL)
    window = keyed.get("back-fill")
    assert window is not None
    assert len(window) == 60


def test_idle_keys_cannot_be_forgotten_before_their_windows():
    with pytest.raises(UsageError):
        KeyedWindows(SPEC, idle_ms=179_999)
