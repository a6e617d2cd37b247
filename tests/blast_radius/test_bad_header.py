"""A header that no client can decode, on one provider's topic: a dead letter, and no other provider notices.

That the client's failure is noticed in a busy worker, too, is shown by test_librdkafka.py.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from pitboss.ops.operator_events import build_record
from pitboss.settings import Runtime
from runtime.dead_letters.headers import format_position
from runtime.kafka.producer import BatchProducer, ProducerSettings
from runtime.kafka.topic_reader import read_topics
from schemas import codec
from schemas.events import DeadLetter
from schemas.topics import dead_letter_topic, raw_topic
from tests.acceptance.conftest import PARTITIONS
from tests.blast_radius.steady_bets import steady_bets
from tests.integration.kafka.test_intake import append_with_header_name

pytestmark = [pytest.mark.integration, pytest.mark.prove, pytest.mark.timeout(900)]

PLAYER = "steady"


@asynccontextmanager
async def house_connector(runtime: Runtime) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Ask for withdrawals, which are decided as bets are, and refused for lack of money."""
    async with BatchProducer(ProducerSettings(runtime.broker, "house")) as producer:
        topic = runtime.topic(raw_topic("house"))

        async def append(tx_id: str) -> None:
            event = {"operation": "withdrawal.requested", "id": tx_id, "player_id": PLAYER}
            event |= {"amount": "1.00", "currency": "EUR"}
            now_ms = time.time_ns() // 1_000_000
            body, headers = build_record(event, None, "default", now_ms)
            await producer.send(topic, PLAYER.encode(), body, headers)

        yield append


async def read_letters(runtime: Runtime, topic: str) -> dict[str, str]:
    """The codes of the dead letters of a topic, by the places of their sources."""
    decode = codec.decoder(DeadLetter)
    letters = read_topics(runtime.broker, [dead_letter_topic(topic)])
    found = [decode(record.value) async for record in letters]
    return {format_position(letter.source): letter.code for letter in found}


async def test_a_bad_header_of_one_provider_is_a_dead_letter_and_delays_no_other(
    installation: Runtime,
):
    topic = installation.topic(raw_topic("playngo"))
    async with (
        house_connector(installation) as append,
        steady_bets(installation, PARTITIONS, append) as bets,
    ):
        await bets.more(10)
        del bets.waits_s[:]  # the workers had only just begun
        offsets = [
            await append_with_header_name(installation.broker, topic, b"\xff\xfename%d" % number)
            for number in range(3)
        ]
        await bets.more(40)
    bets.assert_prompt()
    letters = await read_letters(installation, topic)
    assert letters == {f"{topic}-0@{offset}": "BAD_HEADER" for offset in offsets}, json.dumps(
        letters
    )
