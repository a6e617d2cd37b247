"""What the group says of itself, and what it keeps to itself."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import CoordinatorNotAvailableError, GroupAuthorizationFailedError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from runtime.kafka.broker_queries import fetch_group_offsets
from runtime.kafka.intake import intake as intake_module
from schemas.errors import Unavailable
from tests.support.intake_harness import A, B, FakeConsumer, harness

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


class Loading(FakeConsumer):
    """Its coordinator cannot say yet what the group has, which aiokafka's consumer tells as: nothing."""

    refusals = 2

    async def committed(self, tp):
        return None

    async def query_group(self, bootstrap_servers, group, tps):
        assert (bootstrap_servers, group) == ("127.0.0.1:1", "g")
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("the broker does not say yet")
        return await super().query_group(bootstrap_servers, group, tps)


async def test_a_group_is_new_only_if_that_is_certain(harness):  # rule 6
    consumer = Loading({A: [*range(10)], B: [*range(10)]}, {A: 7})
    async with harness({}, consumer=consumer) as h:
        consumer.assign(A, B)
        starts = {(batch := await h.take()).tp: batch.from_offset for _ in range(2)}
        assert starts == {A: 7, B: 0}
        assert not consumer.refusals


class Failing(FakeConsumer):
    """Reports an error of the group as aiokafka does: only to a fetch, and it goes on joining only then."""

    def __init__(self, error: KafkaError) -> None:
        super().__init__({A: [*range(10)]})
        self.error: KafkaError | None = error

    async def getmany(self, *tps, timeout_ms=0, max_records=None):
        if self.error:
            error, self.error = self.error, None
            raise error
        assert tps, "without partitions it would take from all"
        return await super().getmany(*tps, timeout_ms=timeout_ms, max_records=max_records)


async def test_a_join_that_is_refused_ends_the_process_although_nothing_is_assigned(
    harness, monkeypatch
):  # rule 10
    monkeypatch.setattr(intake_module, "GROUP_ERROR_POLL_S", 0.01)
    async with harness({}, consumer=Failing(GroupAuthorizationFailedError("g"))) as h:
        await h.until(lambda: h.intake.crashed)
        assert isinstance(h.intake.crash_reason, GroupAuthorizationFailedError)


async def test_a_join_that_may_be_tried_again_is(harness, monkeypatch):  # rule 10
    monkeypatch.setattr(intake_module, "GROUP_ERROR_POLL_S", 0.01)
    consumer = Failing(CoordinatorNotAvailableError())
    async with harness({}, consumer=consumer) as h:
        await h.until(lambda: consumer.error is None)
        consumer.assign(A)
        assert (await h.take()).from_offset == 0
        assert not h.intake.crashed


async def test_a_paused_worker_hears_what_is_wrong_with_its_group(
    harness, monkeypatch
):  # rules 9 and 10
    monkeypatch.setattr(intake_module, "GROUP_ERROR_POLL_S", 0.01)
    consumer = Failing(GroupAuthorizationFailedError("g"))
    error, consumer.error = consumer.error, None
    async with harness({}, consumer=consumer) as h:
        h.intake.pause("by an operator")
        consumer.assign(A)
        assert await h.nothing_comes()
        assert consumer.positions == {A: 0}, "and nothing is fetched for it"
        consumer.error = error
        await h.until(lambda: h.intake.crashed)


async def test_aiokafka_reports_an_error_of_the_group_to_a_fetch_from_no_partition():
    # Its own code: no partition is assigned, the join has failed, and the fetch names a partition that does not exist.
    from aiokafka import AIOKafkaConsumer

    def refuse() -> None:
        raise GroupAuthorizationFailedError("g")

    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1", group_id="g")
    consumer._coordinator = SimpleNamespace(check_errors=refuse)
    with pytest.raises(GroupAuthorizationFailedError):
        await asyncio.wait_for(consumer.getmany(intake_module.NO_PARTITION, timeout_ms=0), 1)
    consumer._closed = True
