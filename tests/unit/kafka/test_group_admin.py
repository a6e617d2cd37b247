"""Questions about groups: a coordinator that is not there yet is waited for, a group that is missing is no error."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, KafkaException

from runtime.kafka.group_admin import GroupAdmin
from runtime.security import BrokerAddress
from schemas.errors import Unavailable


def answers(*codes: int):
    """Fail with each code in turn, and answer then."""
    left = list(codes)

    def question() -> str:
        if left:
            raise KafkaException(KafkaError(left.pop(0)))
        return "an answer"

    return question


@pytest.fixture
def admin() -> GroupAdmin:
    return GroupAdmin(BrokerAddress("127.0.0.1:1"))


def test_a_coordinator_that_moves_or_loads_is_asked_again(admin):
    moving = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
    assert admin._ask("something", answers(*moving)) == "an answer"


def test_a_group_that_does_not_exist_has_no_answer(admin):
    assert admin._ask("something", answers(KafkaError.GROUP_ID_NOT_FOUND)) is None


def test_another_error_is_raised_at_once(admin):
    with pytest.raises(Unavailable, match="something"):
        admin._ask("something", answers(KafkaError.GROUP_AUTHORIZATION_FAILED))
