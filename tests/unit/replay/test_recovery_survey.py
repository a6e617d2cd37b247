"""What is in the way of a recovery is refused by name, with what to do; positions are never guessed."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from replay.recovery.survey import (
    Obstacle,
    PartitionSurvey,
    RecoveryRefused,
    Survey,
    check_alone,
    check_recovery,
)
from schemas.topics import TRANSACTIONS, UNRESOLVED

ONE = PartitionSurvey("ledger", TRANSACTIONS, 0, 70, 10, 100, 90, (5, 6), (5, 6))
SURVEY = Survey(
    ("cluster-a", 2),
    "cluster-a",
    TRANSACTIONS,
    {TRANSACTIONS: "topic-1"},
    [
        ONE,
        replace(ONE, partition=1),
        PartitionSurvey("resolve", UNRESOLVED, 0, 3, 0, 3, 3),
    ],
    0,
)


def with_partition(**changes: object) -> Survey:
    return replace(SURVEY, partitions=[replace(ONE, **changes), *SURVEY.partitions[1:]])


def test_a_database_behind_its_whole_log_may_be_recovered():
    check_recovery(SURVEY)
    check_recovery(SURVEY, "topic-1")
    assert SURVEY.lacks() == 60
    assert SURVEY.starts()[f"ledger {TRANSACTIONS}-1"] == 70
    check_recovery(with_partition(last_booked=None))
    check_recovery(with_partition(last_found=None))  # a marker lies there


@pytest.mark.parametrize(
    ("survey", "obstacle", "way_out"),
    [
        (replace(SURVEY, installation=None), Obstacle.NEVER_BOUND, "restore a backup"),
        (replace(SURVEY, cluster_id="b"), Obstacle.OTHER_CLUSTER, "pitboss ledger rebind"),
        (replace(SURVEY, installation=("cluster-a", 3)), Obstacle.OTHER_PARTITIONS, "restore"),
        (replace(SURVEY, sessions=2), Obstacle.WORKERS_ALIVE, "stop"),
        (with_partition(end=60), Obstacle.LOG_ENDS_EARLIER, "restore the database to a moment"),
        (with_partition(begin=80), Obstacle.LOG_BEGINS_LATER, "PITBOSS_ARCHIVE"),
        (with_partition(last_found=(5, 7)), Obstacle.OTHER_RECORD, "another log"),
    ],
)
def test_what_is_in_the_way_is_named_with_what_to_do(survey, obstacle, way_out):
    with pytest.raises(RecoveryRefused) as refused:
        check_recovery(survey)
    assert refused.value.obstacle is obstacle
    assert str(refused.value).startswith(f"{obstacle}: ")
    assert way_out in str(refused.value)
    assert refused.value.code == "RECOVERY_REFUSED"


def test_a_log_that_was_made_anew_meanwhile_is_refused():
    with pytest.raises(RecoveryRefused) as refused:
        check_recovery(SURVEY, "topic-0")
    assert refused.value.obstacle is Obstacle.OTHER_TOPIC


def test_members_of_the_groups_are_named():
    with pytest.raises(RecoveryRefused, match=r"ledger\.post: rack-7-ledger-1"):
        check_alone({"ledger.post": ["rack-7-ledger-1"]}, 0)
    check_alone({}, 0)
