"""Whether a mirror has the raw records at the offsets that rows and letters name."""

from __future__ import annotations

import pytest

from replay.recovery.raw_places import KnownRecord, find_changed
from tests.support.memory_log import MemoryLog, MemoryRecord

RAW = "provider.hub88.raw.v1"


def raw_log(shift: int = 0, begin: int = 0) -> MemoryLog:
    """Ten records of two players, all of the same bytes in pairs."""
    rows = [
        MemoryRecord(offset + shift, 1_000, b"p-%d" % (offset % 2), b"body-%d" % (offset // 2))
        for offset in range(begin, 10)
    ]
    return MemoryLog({RAW: {0: rows}}, beginnings={(RAW, 0): begin})


def known(*offsets: int, keys_only: bool = False) -> list[KnownRecord]:
    return [
        KnownRecord(
            RAW,
            0,
            offset,
            b"p-%d" % (offset % 2),
            None if keys_only else b"body-%d" % (offset // 2),
        )
        for offset in offsets
    ]


@pytest.mark.parametrize("keys_only", [False, True])
@pytest.mark.parametrize(("shift", "is_changed"), [(0, False), (1, True), (-1, True), (40, True)])
def test_a_partition_is_as_it_was_only_if_each_record_lies_where_it_is_named(
    shift, is_changed, keys_only
):
    found = find_changed(raw_log(shift), known(4, 5, 9, keys_only=keys_only), [(RAW, 0)])
    assert found == ({(RAW, 0)} if is_changed else set())


def test_what_nothing_is_known_of_may_have_changed():
    assert find_changed(raw_log(), [], [(RAW, 0)]) == {(RAW, 0)}


def test_a_record_that_was_deleted_shows_nothing():
    log = raw_log(begin=6)
    assert find_changed(log, known(2, 8), [(RAW, 0)]) == set()
    assert find_changed(log, known(2), [(RAW, 0)]) == {(RAW, 0)}


def test_a_topic_that_the_new_cluster_lacks_has_changed():
    other = "provider.stripe.raw.v1"
    one = KnownRecord(other, 3, 7, b"p", b"v")
    assert find_changed(raw_log(), [one], [(other, 3)]) == {(other, 3)}


def test_one_other_record_among_many_is_enough():
    wrong = KnownRecord(RAW, 0, 3, b"p-1", b"another")
    assert find_changed(raw_log(), [*known(4, 5), wrong], [(RAW, 0)]) == {(RAW, 0)}
