"""What the group says of itself, and what it keeps to itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from confluent_kafka import KafkaError, KafkaException, Message

from runtime.kafka.broker_queries import fetch_group_offsets
from runtime.kafka.intake import client as client_module
from runtime.kafka.intake import mailbox
from schemas.errors import Unavailable
from tests.support.intake_harness import A, B, harness
from tests.support.simulated_consumer import SimulatedConsumer

__all__ = ["harness"]


class Admin:
    """Answers as aiokafka's admin client does."""

    def __init__(self, answer: dict[TopicPartition, int]) -> None:
        self.answer = answer

    async def list_consumer_group_offsets(
        self, group: str, *, partitions: list[TopicPartition]
    ) -> dict[Any, Any]:
        assert group == "g"
        assert partitions == [A, B]
        return {tp: OffsetAndMetadata(offset, "") for tp, offset in self.answer.items()}


async def test_a_group_that_has_nothing_says_so_of_each_partition():
    admin: Any = Admin({A: -1, B: 7})
    assert await fetch_group_offsets(admin, "g", [A, B]) == {A: None, B: 7}


@pytest.mark.parametrize("answer", [{}, {B: 7}])
async def test_an_answer_without_a_partition_is_none(answer):
    admin: Any = Admin(answer)  # so aiokafka's answer looks while a coordinator loads its groups
    with pytest.raises(Unavailable, match="what g has committed of t-0"):
        await fetch_group_offsets(admin, "g", [A, B])


async def test_a_group_is_new_only_if_that_is_certain(harness):  # rule 6
    consumer = SimulatedConsumer({A: [*range(10)], B: [*range(10)]}, {A: 7})
    consumer.question_errors = [KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError._TIMED_OUT]
    async with harness({}, consumer=consumer) as h:
        consumer.give(A, B)
        starts = {(batch := await h.take()).tp: batch.from_offset for _ in range(2)}
        assert starts == {A: 7, B: 0}
        assert not consumer.question_errors


async def test_a_partition_whose_commit_is_not_told_is_not_taken_for_a_new_one(harness):  # rule 6
    class Unstable(SimulatedConsumer):
        refusals = 2

        def committed(self, partitions, timeout=-1) -> list[Any]:
            answers: list[Any] = super().committed(partitions, timeout)
            if self.refusals:
                self.refusals -= 1
                answers[0] = Answer("t", 0, -1001, KafkaError(KafkaError.UNSTABLE_OFFSET_COMMIT))
            return answers

    async with harness({}, consumer=(consumer := Unstable({A: [*range(10)]}, {A: 7}))) as h:
        consumer.give(A)
        assert (await h.take()).from_offset == 7
        assert not consumer.refusals


class Answer(NamedTuple):
    topic: str
    partition: int
    offset: int
    error: KafkaError


def group_error(code: int) -> Message:
    return Message(error=KafkaError(code, "JoinGroup failed"))


async def test_a_join_that_is_refused_ends_the_process_although_nothing_is_assigned(
    harness,
):  # rule 10
    async with harness({A: [*range(10)]}) as h:
        h.consumer.errors.append(group_error(KafkaError.GROUP_AUTHORIZATION_FAILED))
        await h.until(lambda: h.intake.crashed)
        assert isinstance(h.intake.crash_reason, KafkaException)
        code = h.intake.crash_reason.args[0].code()
        assert code == KafkaError.GROUP_AUTHORIZATION_FAILED


@pytest.mark.parametrize(
    "code", [KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError._MAX_POLL_EXCEEDED]
)
async def test_a_join_that_may_be_tried_again_is(harness, code):  # rule 10
    async with harness({A: [*range(10)]}) as h:
        h.consumer.errors.append(group_error(code))
        await h.until(lambda: not h.consumer.errors)
        h.consumer.give(A)
        assert (await h.take()).from_offset == 0
        assert not h.intake.crashed


async def test_a_paused_worker_hears_what_is_wrong_with_its_group(
    harness, monkeypatch
):  # rules 9 and 10
    monkeypatch.setattr(mailbox, "UNREAD_RECORDS_MAX", 5)
    monkeypatch.setattr(client_module, "FULL_POLL_S", 0.01)
    async with harness({A: [*range(10)]}) as h:
        h.intake.pause("by an operator")
        h.consumer.give(A)
        assert await h.nothing_comes()
        assert h.consumer.paused == {A}, "and nothing is fetched for it"
        h.consumer.errors.append(group_error(KafkaError.GROUP_AUTHORIZATION_FAILED))
        await h.until(lambda: h.intake.crashed)
