from __future__ import annotations

import pytest
from aiokafka.structs import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from runtime.kafka.intake.offset_gaps import OffsetGaps
from schemas.errors import OffsetHole

TP = TopicPartition("t", 3)
OTHER = TopicPartition("t", 4)


def test_a_fetch_that_begins_where_it_should_has_no_gap():
    gaps = OffsetGaps()
    assert not gaps.must_refetch(TP, 10, 10)
    assert gaps.unknown_log_starts() == []


def test_a_gap_that_the_second_fetch_fills_leaves_nothing_behind():
    gaps = OffsetGaps()
    assert gaps.must_refetch(TP, 10, 15)
    assert gaps.unknown_log_starts() == [TP]
    gaps.set_log_starts({TP: 0, OTHER: 0})
    assert not gaps.must_refetch(TP, 10, 10)
    assert gaps.gap_offsets == 0
    assert gaps.must_refetch(TP, 20, 25), "a new gap is compared anew"


def test_a_gap_is_not_decided_before_the_start_of_the_log_is_known():
    gaps = OffsetGaps()
    for _ in range(3):
        assert gaps.must_refetch(TP, 10, 15)
    gaps.set_log_starts({TP: 2})
    assert not gaps.must_refetch(TP, 10, 15)
    assert gaps.gap_offsets == 5


@given(
    expected=st.integers(0, 100),
    first=st.integers(0, 100),
    second=st.integers(0, 100),
    log_start=st.integers(0, 100),
)
def test_a_gap_is_accepted_only_if_two_fetches_agree_and_the_log_reaches_back(
    expected, first, second, log_start
):
    gaps = OffsetGaps()
    if not gaps.must_refetch(TP, expected, first):
        assert first == expected
        return
    gaps.set_log_starts({TP: log_start})
    is_gap = first == second > expected and log_start <= expected
    if second == expected or is_gap:
        assert not gaps.must_refetch(TP, expected, second)
        assert gaps.gap_offsets == second - expected
    else:
        with pytest.raises(OffsetHole):
            gaps.must_refetch(TP, expected, second)
