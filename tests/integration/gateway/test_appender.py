"""A record that the broker refuses fails alone, and its partition goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from gateway.appender import AppendRefused, RawAppender
from runtime.kafka.topic_reader import read_topics
from schemas.errors import PitbossError
from tests.support.fix_stack import Servers
from tests.support.topics import make_topics

pytestmark = pytest.mark.integration

LIMIT_BYTES = 5_000
HEADERS = [("http-path", b"/hub88/transaction/bet")]


@asynccontextmanager
async def appender_on(stack: Servers, name: str) -> AsyncIterator[tuple[RawAppender, str]]:
    topic = f"{name}.provider.hub88.raw.v1"
    admin = AIOKafkaAdminClient(**stack.kafka.aiokafka_options())
    await admin.start()
    configs = {
        "max.message.bytes": str(LIMIT_BYTES),
        "message.timestamp.type": "LogAppendTime",
    }
    await make_topics(stack.kafka, NewTopic(topic, 2, 1, topic_configs=configs))
    appender = RawAppender(stack.kafka, "test", {topic})
    try:
        await appender.start()
        yield appender, topic
    finally:
        await appender.stop()
        await admin.delete_topics([topic])
        await admin.close()


async def append_all(appender: RawAppender, topic: str, values: list[bytes]) -> list[object]:
    pending = [appender.append(topic, b"p-1", value, HEADERS).place for value in values]
    return await asyncio.gather(*pending, return_exceptions=True)


async def test_only_the_refused_record_fails_and_its_partition_goes_on(
    stack: Servers, namespace: str
):
    async with appender_on(stack, namespace) as (appender, topic):
        small, large = [b"%d" % n for n in range(6)], b"x" * (LIMIT_BYTES * 2)
        together = await append_all(appender, topic, [*small[:3], large, *small[3:]])
        assert isinstance(together[3], AppendRefused)
        assert "max.message.bytes" in str(together[3])
        places = [one for one in together if not isinstance(one, PitbossError)]
        assert [place.offset for place in places] == list(range(6))  # type: ignore[attr-defined]
        assert all(place.timestamp > 0 for place in places)  # type: ignore[attr-defined]
        alone = await append_all(appender, topic, [large])
        assert isinstance(alone[0], AppendRefused)
        [again] = await append_all(appender, topic, [b"again"])
        assert again.offset == 6  # type: ignore[attr-defined]
        records = [record async for record in read_topics(stack.kafka, {topic})]
        assert [record.value for record in records] == [*small, b"again"]
        assert records[0].headers == tuple(HEADERS)
        assert appender.replaced >= 2


async def test_other_partitions_do_not_notice_a_refusal(stack: Servers, namespace: str):
    async with appender_on(stack, namespace) as (appender, topic):
        large = b"x" * (LIMIT_BYTES * 2)
        pending = []
        for number in range(200):
            value = large if number % 20 == 0 else b"%d" % number
            pending.append(appender.append(topic, b"p-%d" % number, value, HEADERS))
            if number % 10 == 0:
                await asyncio.sleep(0)
        results = await asyncio.gather(*[one.place for one in pending], return_exceptions=True)
        failed = [number for number, one in enumerate(results) if isinstance(one, Exception)]
        assert failed == list(range(0, 200, 20))
        values = [record.value async for record in read_topics(stack.kafka, {topic})]
        assert sorted(values) == sorted(b"%d" % n for n in range(200) if n % 20)


async def test_a_record_that_is_withdrawn_is_not_appended(stack: Servers, namespace: str):
    async with appender_on(stack, namespace) as (appender, topic):
        first = appender.append(topic, b"p-1", b"first", HEADERS)
        second = appender.append(topic, b"p-1", b"second", HEADERS)
        assert second.withdraw()
        assert (await first.place).offset == 0
        assert not first.withdraw()
        [third] = await append_all(appender, topic, [b"third"])
        assert third.offset == 1  # type: ignore[attr-defined]
        values = [record.value async for record in read_topics(stack.kafka, {topic})]
        assert values == [b"first", b"third"]
