"""Rule 8: lag without progress is a stall, of any holder, unless a reason for waiting is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.stalls import LagSample, OrphanDetector, StallDetector

TP = TopicPartition("t", 0)
BEHIND = LagSample(end_offset=100, reached_offset=40, is_held=True)


def stalls_after(samples, *, step_ms=1_000, stall_ms=5_000, unheld_stall_ms=20_000):
    detector = StallDetector(stall_ms, unheld_stall_ms)
    found = [detector.observe(i * step_ms, {TP: sample}) for i, sample in enumerate(samples)]
    return [i for i, stalls in enumerate(found) if stalls]


def test_lag_without_progress_is_a_stall_after_the_limit():
    assert stalls_after([BEHIND] * 7) == [5, 6]


def test_progress_however_small_is_none():
    assert stalls_after([replace(BEHIND, reached_offset=40 + i // 4) for i in range(40)]) == []


def test_no_lag_is_none():
    assert stalls_after([LagSample(end_offset=40, reached_offset=40, is_held=True)] * 40) == []


def test_a_broker_that_does_not_answer_counts_as_no_progress():
    assert stalls_after([LagSample(end_offset=None, reached_offset=40, is_held=True)] * 6) == [5]


def test_a_start_position_that_is_not_found_counts_as_no_progress():
    assert stalls_after([LagSample(end_offset=40, reached_offset=None, is_held=True)] * 6) == [5]


def test_what_waits_is_reported_and_not_killed_and_gets_the_whole_time_afterwards():
    waiting = replace(BEHIND, waiting="the database is down")
    assert stalls_after([waiting] * 100 + [BEHIND] * 6) == [104, 105]


def test_the_time_begins_anew_when_the_partition_changes_hands():
    unheld = replace(BEHIND, is_held=False)
    assert stalls_after([unheld] * 4 + [BEHIND] * 6) == [9]


def test_partitions_of_others_get_longer_because_their_own_watchdog_comes_first():
    assert stalls_after([replace(BEHIND, is_held=False)] * 21) == [20]


def test_a_sign_of_life_of_its_holder_is_as_good_as_a_movement():
    unheld = replace(BEHIND, is_held=False)
    alive = [replace(unheld, liveness=f"{i // 10} the database is down") for i in range(100)]
    assert stalls_after(alive) == []
    assert stalls_after([*alive, *[alive[-1]] * 12]) == [110, 111], (
        "the holder is gone and so are its signs"
    )


def test_a_partition_that_was_away_begins_anew():
    detector = StallDetector(5_000, 20_000)
    detector.observe(0, {TP: BEHIND})
    detector.observe(4_000, {})
    assert detector.observe(6_000, {TP: BEHIND}) == []
    assert detector.observe(11_000, {TP: BEHIND})


def test_the_message_says_where_and_how_long():
    detector = StallDetector(5_000, 20_000)
    detector.observe(0, {TP: BEHIND})
    (stall,) = detector.observe(7_000, {TP: BEHIND})
    assert (
        str(stall)
        == "t-0 (held by this worker) is at 40, the log's end is 100, nothing has moved for 7000 ms"
    )


@given(
    st.lists(
        st.tuples(st.integers(1, 3_000), st.booleans(), st.booleans()), min_size=1, max_size=60
    )
)
def test_a_stall_means_the_whole_limit_without_movement(steps):
    detector, now, reached, still_since = StallDetector(5_000, 20_000), 0, 0, 0
    detector.observe(0, {TP: LagSample(100, 0, is_held=True)})
    for elapsed, moves, waits in steps:
        now += elapsed
        reached += moves
        stalls = detector.observe(
            now, {TP: LagSample(100, reached, is_held=True, waiting="x" if waits else None)}
        )
        if moves or waits or reached >= 100:
            still_since = now
        assert bool(stalls) == (now - still_since >= 5_000)


@pytest.mark.parametrize("end", [39, 40])
def test_being_ahead_of_a_stale_end_is_no_lag(end):
    assert not LagSample(end_offset=end, reached_offset=40, is_held=True).has_lag


def test_an_orphan_that_lasts_asks_for_a_new_assignment_and_not_again_at_once():
    other = TopicPartition("t", 1)
    detector = OrphanDetector(rejoin_every_ms=50_000)
    assert detector.observe(0, {TP}) == [], "it may just have been made"
    assert detector.observe(5_000, {other}) == []
    assert detector.observe(10_000, {TP, other}) == [other]
    assert detector.observe(15_000, {TP, other}) == [], "the group needs time to rebalance"
    assert detector.observe(20_000, {TP, other}) == []
    assert detector.observe(60_000, {TP}) == [TP]


def test_an_orphan_that_finds_a_holder_in_between_begins_anew():
    detector = OrphanDetector(rejoin_every_ms=50_000)
    assert not any(detector.observe(at, {TP} if at % 2 else set()) for at in range(100))
