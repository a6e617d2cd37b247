"""How clients are stopped, and how tasks may end: a CancelledError is only for whom it is meant."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import NodeNotReadyError
from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError, KafkaException
from mode import Service

from runtime.kafka.clients import stop_client
from runtime.kafka.tasks import crash_on_stray_cancel
from schemas.errors import InvariantBroken
from tests.support.intake_harness import A, Positions, harness
from tests.support.simulated_consumer import SimulatedConsumer

__all__ = ["harness"]


async def fetcher_without_a_broker() -> Fetcher:
    """aiokafka's own, with a fetch under way that waits to be tried again."""
    loop = asyncio.get_running_loop()

    async def send(*_: object) -> None:
        raise NodeNotReadyError

    def update() -> asyncio.Future[bool]:
        future = loop.create_future()
        future.set_result(True)
        return future

    cluster = SimpleNamespace(leader_for_partition=lambda _: 1, broker_metadata=lambda node: node)
    client = SimpleNamespace(
        _loop=loop,
        _metadata_max_age_ms=5_000,
        send=send,
        force_metadata_update=update,
        cluster=cluster,
    )
    subscription = SubscriptionState(loop=loop)
    fetcher = Fetcher(
        client, subscription, auto_offset_reset="none", retry_backoff_ms=600_000
    )  # longer than a busy machine needs to come to the stop
    partition = TopicPartition("t", 0)
    subscription.assign_from_user({partition})
    subscription.seek(partition, 0)
    async with asyncio.timeout(60):
        while not fetcher._pending_tasks:  # noqa: ASYNC110  # aiokafka does not notify that it has fetched
            await asyncio.sleep(0.01)
    return fetcher


class Client:
    def __init__(self, stop) -> None:
        self.stop = stop


async def test_a_consumer_that_is_stopped_without_a_broker_does_not_cancel_who_stops_it():
    fetcher = await fetcher_without_a_broker()
    await stop_client(Client(fetcher.close))
    fetcher = await fetcher_without_a_broker()
    with pytest.raises(asyncio.CancelledError):
        await (
            fetcher.close()
        )  # what this is about; where it no longer is, `stop_client` has no reason any more


async def test_a_task_that_is_cancelled_while_a_client_stops_is_cancelled_with_the_stop():
    started, ended = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    stopping = asyncio.create_task(stop_client(Client(hang)))
    await started.wait()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await asyncio.wait_for(ended.wait(), 60)


async def test_another_failure_of_a_stop_is_raised():
    async def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await stop_client(Client(fail))


async def test_an_intake_stops_to_its_end_although_its_consumer_does_not_close(harness):
    class Fails(SimulatedConsumer):
        def close(self) -> None:
            super().close()
            raise KafkaException(KafkaError(KafkaError._DESTROY))

    consumer = Fails({A: [*range(10)]})
    positions = Positions({A: 0})
    async with harness({}, consumer=consumer, positions=positions) as h:
        consumer.give(A)
        await h.take()
    assert positions.released == [{A}]
    assert consumer.is_closed


class Worker(Service):
    """Its task ends as `end` does."""

    def __init__(self, end) -> None:
        super().__init__()
        self.end = end
        self.has_begun = asyncio.Event()

    @Service.task
    @crash_on_stray_cancel
    async def _work(self) -> None:
        self.has_begun.set()
        await self.end()


async def test_a_task_that_is_cancelled_by_what_it_calls_crashes_its_service():
    async def give_up() -> None:
        raise asyncio.CancelledError

    async with Worker(give_up) as worker:
        async with asyncio.timeout(60):
            while not worker.crashed:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert isinstance(worker.crash_reason, InvariantBroken)
        assert "Worker._work" in str(worker.crash_reason)


async def test_a_task_of_a_stopped_service_ends():
    worker = Worker(asyncio.Event().wait)
    async with worker:
        await worker.has_begun.wait()
    assert not worker.crashed
