"""What providers ask, over real HTTP and from the real ledger, byte for byte."""

from __future__ import annotations

import time

import pytest

from gateway.decisions.sessions import PlayerSession
from lab.conformance.calls import CallOrder
from lab.conformance.intents import Verb
from lab.conformance.questions import QuestionOrder, make_question, questions_of
from streams.providers.registry import DIALECTS
from tests.acceptance.gateway.conftest import ENDS_S, PROVIDERS, SESSION_KEY, Client
from tests.acceptance.gateway.golden import Answer, check_golden
from tests.acceptance.gateway.test_wallets import bet, fund, raw_ends, win

pytestmark = pytest.mark.integration

ASKING = tuple(name for name in (*PROVIDERS, "house") if questions_of(DIALECTS[name].face))
NOTE = (("actor", "a"), ("reason", "b"))


async def ask(
    client: Client, provider: str, word: str, player: str, *, signed: str = "own", token: str = ""
) -> Answer:
    face = DIALECTS[provider].face
    assert face is not None
    keys = client.door.keys if signed == "own" else client.door.foreign
    token = token or SESSION_KEY.make_token(PlayerSession(player, "EUR", ENDS_S))
    order = QuestionOrder(word, player, "EUR", token, time.time_ns() // 1_000_000)
    return await client.send(provider, make_question(provider, face, order, keys.of(provider)))


async def tell_house(client: Client, verb: Verb, player: str, minor: int = 0) -> None:
    order = CallOrder(verb, player, f"{verb}-{player}", minor, details=NOTE)
    status, _, body = await client.call("house", order)
    assert (status, b'"POSTED"' in body) == (200, True), body


@pytest.mark.parametrize("provider", ASKING)
async def test_every_question_byte_for_byte(client: Client, provider: str):
    player, words = f"q-{provider}", questions_of(DIALECTS[provider].face)
    await fund(client, player)
    before = await raw_ends(client.door, provider)
    answers: dict[str, Answer] = {}

    async def each(name: str, who: str = player, signed: str = "own", token: str = "") -> None:
        for word in words:
            key = f"{word}: {name}"
            answers[key] = await ask(client, provider, word, who, signed=signed, token=token)

    await each("a player with money")
    await each("a player who has never paid in", f"new-{provider}")
    await each("wrong signature", signed="foreign")
    await each("unknown session", token="unknown")
    await tell_house(client, Verb.PLAYER_LIMITED, player, 0)
    await each("a player who may not bet: limit zero")
    await tell_house(client, Verb.PLAYER_BLOCKED, player)
    await each("a player who is blocked")
    if provider != "house":
        assert await raw_ends(client.door, provider) == before, "a question was appended"
    check_golden(f"{provider}-questions", answers)


BALANCES = {
    "hub88": ("balance", b'"balance":%d000'),
    "hundredhp": ("balance", b'"balance":"%d.%02d"'),
    "microgaming": ("getbalance", b' balance="%d"'),
    "pgsoft": ("Get", b'"balance_amount":%d.%02d'),
    "playngo": ("balance", b"<real>%d.%02d</real>"),
    "pragmatic": ("balance", b'"cash":%d.%02d'),
}


@pytest.mark.parametrize("provider", BALANCES)
async def test_a_balance_agrees_with_the_answer_before_it(client: Client, provider: str):
    """After each answer to a bet or a win the balance is asked for at once."""
    player = f"agree-{provider}"
    await fund(client, player)
    word, form = BALANCES[provider]
    minor = 10_000
    for number in range(801, 841, 2):
        for change, order in (
            (-150, bet(provider, player, number)),
            (200, win(provider, player, number + 1, of=number)),
        ):
            status, _, body = await client.call(provider, order)
            assert status == 200, body
            minor += change
            units = (minor,) if form.count(b"%") == 1 else divmod(minor, 100)
            _, _, shown = await ask(client, provider, word, player)
            assert form % units in shown, (number, minor, shown)
