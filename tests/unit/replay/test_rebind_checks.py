"""What a binding refuses before it changes anything: raw records without offsets, and a log that has begun."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pitboss.ops.opening_balances import OPERATION, check_empty
from pitboss.ops.rebind import check_raw_offsets, check_rebind
from replay.recovery.survey import Obstacle, PartitionSurvey, RecoveryRefused, Survey
from schemas import codec
from schemas.events import Cause, WalletTransaction
from schemas.topics import TRANSACTIONS
from tests.support.ledger_events import deposit, leg, transaction
from tests.support.memory_log import MemoryLog, MemoryRecord

RAW = "provider.hub88.raw.v1"
ONE = PartitionSurvey("ledger", TRANSACTIONS, 0, 70, 0, 100, None)
SURVEY = Survey(("old", 2), "new", TRANSACTIONS, {}, [ONE, replace(ONE, partition=1)], 0)
DIGEST = "ab" * 32
OURS = transaction(
    OPERATION,
    "w-1",
    leg("INFORMATIONAL", 5),
    provider="house",
    cause=Cause("operator", DIGEST, "ann"),
)


@pytest.mark.parametrize(
    ("committed", "missing"),
    [({}, [0, 2]), ({1: 0}, [0, 2]), ({0: 0}, [2]), ({2: 9}, [0])],
)
def test_a_partition_with_raw_records_and_no_offset_is_named(committed, missing):
    bounds = {0: (0, 1), 1: (4, 4), 2: (3, 9)}
    with pytest.raises(RecoveryRefused) as refused:
        check_raw_offsets("x.normalise", RAW, bounds, committed)
    assert refused.value.obstacle is Obstacle.RAW_OFFSETS_MISSING
    places = ", ".join(f"{RAW}-{number}" for number in missing)
    assert f"the group x.normalise has no offsets of {places} on this cluster" in str(refused.value)


def test_an_offset_for_each_partition_with_records_is_enough():
    check_raw_offsets("x.normalise", RAW, {0: (0, 1), 1: (4, 4)}, {0: 1})
    check_raw_offsets("x.normalise", RAW, {0: (5, 5)}, {})


@pytest.mark.parametrize(
    ("survey", "obstacle"),
    [
        (replace(SURVEY, installation=None), Obstacle.NEVER_BOUND),
        (replace(SURVEY, installation=("new", 2)), Obstacle.SAME_CLUSTER),
        (replace(SURVEY, installation=("old", 3)), Obstacle.OTHER_PARTITIONS),
        (replace(SURVEY, sessions=1), Obstacle.WORKERS_ALIVE),
    ],
)
def test_a_ledger_that_is_not_of_another_log_like_this_is_not_bound(survey, obstacle):
    check_rebind(SURVEY)
    with pytest.raises(RecoveryRefused) as refused:
        check_rebind(survey)
    assert refused.value.obstacle is obstacle


def opened(*events: WalletTransaction | None) -> tuple[MemoryLog, Survey]:
    """A log whose second partition holds these events; None is a record that nothing reads."""
    encode = codec.encoder(WalletTransaction)
    rows = [
        MemoryRecord(offset, 1, b"p-1", b"?" if event is None else encode(event))
        for offset, event in enumerate(events)
    ]
    log = MemoryLog({TRANSACTIONS: {0: [], 1: rows}})
    first, second = replace(ONE, end=0), replace(ONE, partition=1, end=len(rows))
    return log, replace(SURVEY, partitions=[first, second])


def test_an_empty_log_and_one_with_balances_of_this_binding_may_begin():
    check_empty(*opened(), None)
    check_empty(*opened(OURS, OURS), DIGEST)


@pytest.mark.parametrize(
    ("event", "digest"),
    [
        (OURS, None),
        (OURS, "cd" * 32),
        (replace(OURS, cause=None), DIGEST),
        (replace(OURS, operation="balance.adjusted"), DIGEST),
        (deposit("d", 5), DIGEST),
        (None, DIGEST),
    ],
)
def test_a_log_that_has_begun_with_anything_else_is_refused_by_its_place(event, digest):
    before = [OURS] if digest == DIGEST else []
    with pytest.raises(RecoveryRefused) as refused:
        check_empty(*opened(*before, event), digest)
    assert refused.value.obstacle is Obstacle.NOT_EMPTY
    assert str(refused.value).startswith(f"NOT_EMPTY: {TRANSACTIONS}-1@{len(before)}: ")
