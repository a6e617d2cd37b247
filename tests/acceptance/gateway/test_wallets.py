"""Every wallet provider over real HTTP, answered by the real ledger, byte for byte."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from lab.conformance.calls import CallOrder
from lab.conformance.intents import Verb
from runtime.kafka.topic_reader import read_topics
from schemas.topics import raw_topic
from tests.acceptance.gateway.conftest import (
    PARTITIONS,
    PROVIDERS,
    Client,
    Door,
    count_calls,
    wait_for_calls,
)
from tests.acceptance.gateway.golden import Answer, check_golden

pytestmark = pytest.mark.integration

AT_MS = 1_795_183_400_123
STAKE, WIN, TOO_MUCH = 150, 200, 10_000_000
HAS_SESSIONS = ("hundredhp", "microgaming", "pragmatic")

IDS: dict[str, Callable[[int], str]] = {
    "hub88": lambda n: f"t-{n}",
    "hundredhp": lambda n: f"019318f2-0000-7000-8000-{n:012d}",
    "microgaming": lambda n: str(10_000 + n),
    "pgsoft": lambda n: f"{n}-{n}-106-0",
    "playngo": lambda n: str(550_000 + n),
    "pragmatic": lambda n: f"r-{n}",
    "skylift": lambda n: f"s-{n}",
}


def bet(provider: str, player: str, number: int, minor: int = STAKE) -> CallOrder:
    verb = Verb.SPIN if provider == "pgsoft" else Verb.BET
    return CallOrder(verb, player, IDS[provider](number), minor, round_id=str(number), at_ms=AT_MS)


def win(provider: str, player: str, number: int, of: int) -> CallOrder:
    if provider == "pgsoft":  # a spin of a feature: it wins and bets nothing
        return bet(provider, player, number, 0)._replace(win_minor=WIN)
    tx_id = IDS[provider](of if provider == "hundredhp" else number)
    return CallOrder(
        Verb.WIN, player, tx_id, WIN, round_id=str(of), bet_id=IDS[provider](of), at_ms=AT_MS
    )


def rollback(provider: str, player: str, number: int, of: int) -> CallOrder:
    """The end of a bet; PG Soft has none and sends a correction."""
    if provider == "pgsoft":
        return CallOrder(Verb.GAME_ADJUSTMENT, player, f"a{number}", STAKE, at_ms=AT_MS)
    own = provider == "hub88"
    tx_id = IDS[provider](number if own else of)
    return CallOrder(
        Verb.ROLLBACK, player, tx_id, STAKE, round_id=str(of), bet_id=IDS[provider](of), at_ms=AT_MS
    )


async def fund(client: Client, player: str) -> None:
    order = CallOrder(
        Verb.ADJUSTMENT, player, f"fund-{player}", 10_000, details=(("actor", "a"), ("reason", "b"))
    )
    status, _, body = await client.call("house", order)
    assert status == 200, body
    assert b'"POSTED"' in body or b'"EXISTS"' in body, body


async def raw_ends(door: Door, provider: str) -> dict[TopicPartition, int]:
    topic = door.runtime.topic(raw_topic(provider))
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(**door.runtime.broker.aiokafka_options())
    await consumer.start()
    try:
        return await consumer.end_offsets(partitions)
    finally:
        await consumer.stop()


@contextmanager
def frozen_ledger(door: Door) -> Iterator[None]:
    """The ledger decides nothing meanwhile: it is stopped, not ended."""
    pid = door.workers["ledger"].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_every_answer_byte_for_byte(client: Client, provider: str):
    player = f"g-{provider}"
    await fund(client, player)
    answers: dict[str, Answer] = {}

    async def step(name: str, order: CallOrder, **how: object) -> None:
        answers[name] = await client.call(provider, order, **how)  # type: ignore[arg-type]

    await step("bet", bet(provider, player, 1))
    await step("the same bet again", bet(provider, player, 1), sending=1)
    await step("win", win(provider, player, 2, of=1))
    await step("the same win again", win(provider, player, 2, of=1), sending=2)
    await step("second bet", bet(provider, player, 3))
    await step("rollback", rollback(provider, player, 4, of=3))
    await step("the same rollback again", rollback(provider, player, 4, of=3), sending=3)
    await step("a rollback of what never came", rollback(provider, player, 6, of=5))
    await step("refused for funds", bet(provider, player, 7, TOO_MUCH))
    await step("the same id with another amount", bet(provider, player, 1, STAKE + 1))
    before = await raw_ends(client.door, provider)
    await step("wrong signature", bet(provider, player, 8), signed="foreign")
    if provider in HAS_SESSIONS:
        await step("unknown session", bet(provider, player, 8)._replace(token="unknown"))
    assert await raw_ends(client.door, provider) == before, "an attempt without a signature"
    await step("unknown player", bet(provider, f"stranger-{provider}", 9))
    request = client.request(provider, bet(provider, player, 10))
    answers["unreadable"] = await client.send(provider, request._replace(body=b"?"))
    check_golden(provider, answers)


async def test_what_is_late_is_taken_back_and_its_retry_cannot_bring_it_back(client: Client):
    """All providers at once: the wait is the same for all."""
    players = {provider: f"late-{provider}" for provider in PROVIDERS}
    await asyncio.gather(*[fund(client, player) for player in players.values()])
    door = client.door
    with frozen_ledger(door):
        late = await asyncio.gather(
            *[
                client.call(provider, bet(provider, player, 101), port=door.impatient_port)
                for provider, player in players.items()
            ]
        )
    again = [
        await client.call(provider, bet(provider, player, 101), sending=1)
        for provider, player in players.items()
    ]
    back = [
        await client.call(provider, rollback(provider, player, 102, of=101))
        for provider, player in players.items()
    ]
    after = [
        await client.call(provider, bet(provider, player, 103))
        for provider, player in players.items()
    ]
    for index, provider in enumerate(players):
        steps = {
            "a bet that is late": late[index],
            "its retry": again[index],
            "its rollback": back[index],
            "the next bet": after[index],
        }
        check_golden(f"{provider}-late", steps)


async def test_a_bet_that_comes_again_while_it_waits_is_one_attempt(client: Client):
    # 100HP would get 607 for a second attempt.
    player = "twice"
    await fund(client, player)
    before = await raw_ends(client.door, "hundredhp")
    telemetry_port = client.door.telemetry_port
    calls_before = count_calls(telemetry_port, "hundredhp")
    with frozen_ledger(client.door):
        calls = [
            asyncio.ensure_future(
                client.call("hundredhp", bet("hundredhp", player, 201), sending=sending)
            )
            for sending in (1, 2, 3)
        ]
        # A call that came when the ledger goes on would be an attempt of its own.
        await wait_for_calls(telemetry_port, "hundredhp", calls_before + len(calls))
        assert not any(call.done() for call in calls)
    answers = await asyncio.gather(*calls)
    assert {answer[0] for answer in answers} == {200}
    assert len({answer[2] for answer in answers}) == 1
    after = await raw_ends(client.door, "hundredhp")
    assert sum(after.values()) == sum(before.values()) + 1


async def test_the_record_says_what_the_gateway_knows_and_nothing_that_a_header_claims(
    client: Client,
):
    player = "claims"
    await fund(client, player)
    request = client.request("pragmatic", bet("pragmatic", player, 301))
    evil = dict.fromkeys(
        ("player", "currency", "brand", "region", "cancel", "redrive-of", "drop-of"), "evil"
    )
    status, _, body = await client.send(
        "pragmatic",
        request,
        headers=evil | {"received-at": "1", "http-path": "/x/result.html"},
    )
    assert (status, b'"error":0' in body) == (200, True), body
    topic = client.door.runtime.topic(raw_topic("pragmatic"))
    records = read_topics(client.door.runtime.broker, {topic})
    [record] = [record async for record in records if record.value == request.body]
    headers = dict(record.headers)
    assert record.key == player.encode()
    assert int(headers.pop("received-at")) > AT_MS - 10**9
    assert headers.pop("connector").endswith(b"gateway-1")
    assert headers == {
        "content-type": b"application/x-www-form-urlencoded",
        "http-method": b"POST",
        "http-path": b"/pragmatic/bet.html",
        "http-query": b"",
        "player": player.encode(),
        "currency": b"EUR",
    }
