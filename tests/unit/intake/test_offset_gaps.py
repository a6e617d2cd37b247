from __future__ import annotations

import pytest
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.intake.offset_gaps import OffsetGaps
from schemas.errors import OffsetHole

TP = TopicPartition("t", 3)
OTHER = TopicPartition("t", 4)


def test_a_fetch_that_begins_where_it_should_is_no_hole():
    holes = OffsetGaps()
    assert not holes.must_refetch(TP, 10, 10)
    assert holes.unknown_log_starts() == []


def test_a_hole_that_the_second_fetch_fills_leaves_nothing_behind():
    holes = OffsetGaps()
    assert holes.must_refetch(TP, 10, 15)
    assert holes.unknown_log_starts() == [TP]
    holes.set_log_starts({TP: 0, OTHER: 0})
    assert not holes.must_refetch(TP, 10, 10)
    assert holes.gap_offsets == 0
    assert holes.must_refetch(TP, 20, 25), "a new hole is looked at anew"


def test_a_hole_is_not_judged_before_the_broker_has_said_how_far_the_log_reaches_back():
    holes = OffsetGaps()
    for _ in range(3):
        assert holes.must_refetch(TP, 10, 15)
    holes.set_log_starts({TP: 2})
    assert not holes.must_refetch(TP, 10, 15)
    assert holes.gap_offsets == 5


@given(
    expected=st.integers(0, 100),
    first=st.integers(0, 100),
    second=st.integers(0, 100),
    log_start=st.integers(0, 100),
)
def test_a_gap_is_accepted_only_if_two_fetches_agree_and_the_log_reaches_back(
    expected, first, second, log_start
):
    holes = OffsetGaps()
    if not holes.must_refetch(TP, expected, first):
        assert first == expected
        return
    holes.set_log_starts({TP: log_start})
    is_gap = first == second > expected and log_start <= expected
    if second == expected or is_gap:
        assert not holes.must_refetch(TP, expected, second)
        assert holes.gap_offsets == second - expected
    else:
        with pytest.raises(OffsetHole):
            holes.must_refetch(TP, expected, second)
