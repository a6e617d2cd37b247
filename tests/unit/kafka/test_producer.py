"""What producers count of their sends: acknowledged records, by topic."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError, UnknownError

from gateway.appender import RawAppender
from runtime.kafka.app import AppSettings, create_app
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.security import BrokerAddress
from runtime.telemetry.exposition import format_exposition
from runtime.telemetry.settings import TelemetrySettings
from runtime.telemetry.worker import attach_telemetry
from schemas.errors import SendFailed

BROKER = BrokerAddress("b:1")


class FakeBatch:
    def __init__(self) -> None:
        self.count = 0

    def append(self, **_):
        self.count += 1
        return SimpleNamespace()

    def size(self) -> int:
        return self.count


class FakeClient:
    """A client whose broker acknowledges everything, or answers with an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def create_batch(self) -> FakeBatch:
        return FakeBatch()

    async def partitions_for(self, _topic: str) -> set[int]:
        return {0, 1, 2}

    async def send(self, *_, **__):
        return self._acknowledge()

    async def send_batch(self, *_, **__):
        return self._acknowledge()

    def _acknowledge(self):
        pending = asyncio.get_running_loop().create_future()
        if self.error is None:
            pending.set_result(SimpleNamespace(offset=0, timestamp=1))
        else:
            pending.set_exception(self.error)
        return pending

    async def stop(self) -> None:
        pass


def counts_of(one: BatchProducer | RawAppender) -> dict[str, float]:
    samples = list(one.samples())
    assert {sample.name for sample in samples} <= {"messaging.client.sent.messages"}
    return {sample.labels[0]: sample.value for sample in samples}


def producer_of(client: Any) -> BatchProducer:
    made = BatchProducer(ProducerSettings(BROKER, "test"))
    made._producer = client
    return made


def records(count: int) -> list[Any]:
    return [(b"%d" % number, b"v", (), None) for number in range(count)]


async def test_every_way_to_send_is_counted_by_topic():
    producer = producer_of(FakeClient())
    await producer.send_batch("a", 0, records(3))
    await producer.send_keyed("a", records(20))
    await producer.send_keyed("b", records(1))
    await producer.send("b", b"k", b"v")
    assert counts_of(producer) == {"a": 23, "b": 2}


async def test_a_worker_shows_the_sends_of_its_producers():
    app = create_app(AppSettings("t", BROKER))
    producer = app.supervise(producer_of(FakeClient()))
    attach_telemetry(app, "drift", "drift-1", TelemetrySettings(port=0))
    await producer.send_batch("a", 0, records(3))
    assert app.telemetry is not None
    lines = format_exposition(app.telemetry.meters.collect()).splitlines()
    assert 'messaging_client_sent_messages_total{messaging_destination_name="a"} 3' in lines


async def test_what_is_not_acknowledged_is_not_counted():
    producer = producer_of(FakeClient(UnknownError()))
    for send in (producer.send_batch("a", 0, records(3)), producer.send("a", b"k", b"v")):
        with pytest.raises(SendFailed):
            await send
    assert counts_of(producer) == {}


@pytest.mark.parametrize("error", [None, MessageSizeTooLargeError()])
async def test_the_gateway_counts_what_it_appends(monkeypatch, error):
    async def start(_appender):
        return FakeClient(error)

    monkeypatch.setattr(RawAppender, "_start_producer", start)
    async with RawAppender(BROKER, "test", ["a"]) as appender:
        places = [appender.append("a", b"k", b"v", ()).place for _ in range(5)]
        found = await asyncio.gather(*places, return_exceptions=True)
    assert [isinstance(one, Exception) for one in found] == [error is not None] * 5
    assert counts_of(appender) == ({"a": 5} if error is None else {})


async def test_records_of_many_partitions_are_submitted_before_anything_else_gets_the_loop():
    """Or the client's request would go with the first partition's alone."""
    submitted: list[int] = []
    seen_by_the_next: list[int] = []

    class Client(FakeClient):
        async def send_batch(self, _batch, _topic, *, partition):
            if not submitted:
                asyncio.get_running_loop().call_soon(lambda: seen_by_the_next.extend(submitted))
            submitted.append(partition)
            return self._acknowledge()

    await producer_of(Client()).send_keyed("a", records(20))
    assert sorted(seen_by_the_next) == [0, 1, 2]
