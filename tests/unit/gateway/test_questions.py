"""Questions: the answers of every provider, from a session and a snapshot of the ledger's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.decisions.reading import Received
from gateway.decisions.routes import RouteTable
from gateway.decisions.sessions import PlayerSession
from gateway.questions import AnsweredVersions, QuestionDesk
from gateway.stats import GatewayStats
from lab.conformance.questions import QuestionOrder, make_question, questions_of
from lab.conformance.writers.find import find_writers
from schemas.current_player import CurrentPlayer, CurrentWallet
from schemas.errors import Unavailable
from streams.providers.registry import DIALECTS
from tests.acceptance.gateway.golden import VECTORS, row_of
from tests.unit.gateway.scene import AT_MS, KEY, SECRETS

HOUSE = {"hmac_hex": "ef" * 32}
ALL_SECRETS = {**SECRETS, "house": HOUSE, "hub88": find_writers(("hub88",))["hub88"].new_secrets()}
KEYRING = {
    **{name: ALL_SECRETS[name] for name in ALL_SECRETS if name != "hub88"},
    "hub88": find_writers(("hub88",))["hub88"].keyring_of(ALL_SECRETS["hub88"]),
}
EUR = CurrentWallet("EUR", 2, 9_850, 7, "default")
PLAYER = CurrentPlayer((EUR,))
ENDS_S = AT_MS // 1000 + 60
TOKEN = KEY.make_token(PlayerSession("p-1", "EUR", ENDS_S))
WORDS = [
    (provider, word)
    for provider in sorted(DIALECTS)
    for word in questions_of(DIALECTS[provider].face)
]


class FakePlayers:
    """The ledger, or a copy of it that is behind for some reads."""

    def __init__(self, *players: CurrentPlayer | Exception) -> None:
        self.players = list(players)
        self.reads = 0

    async def read_player(self, player_id: str) -> CurrentPlayer:
        self.reads += 1
        player = self.players[0] if len(self.players) == 1 else self.players.pop(0)
        if isinstance(player, Exception):
            raise player
        return player


class Counter:
    def __init__(self, *players: CurrentPlayer | Exception, **table: Any) -> None:
        self.players = FakePlayers(*(players or (PLAYER,)))
        self.versions, self.stats = AnsweredVersions(), GatewayStats()
        self.table = RouteTable(DIALECTS, **table)
        self.desk = QuestionDesk(
            DIALECTS, KEYRING, self.players, self.versions, self.stats, KEY.read_token
        )

    async def ask(self, *arguments: Any, **order: Any) -> tuple[int, bytes]:
        status, _, body = await self.ask_fully(*arguments, **order)
        return status, body

    async def ask_fully(
        self, provider: str, word: str, secrets: Any = None, brand: str = "", **order: Any
    ) -> tuple[int, str, bytes]:
        face = DIALECTS[provider].face
        assert face is not None
        fields: dict[str, Any] = {"player": "p-1", "token": TOKEN, "at_ms": AT_MS} | order
        request = make_question(
            provider, face, QuestionOrder(word, **fields), secrets or ALL_SECRETS[provider]
        )
        base = f"/brand/{brand}/{provider}" if brand else f"/{provider}"
        route = self.table.find(base + request.path)
        assert route is not None
        headers = dict(request.headers)
        received = Received("POST", "", request.content_type, headers, request.body, AT_MS)
        reply = await self.desk.answer(route, received)
        assert reply is not None
        return reply.status, reply.content_type, reply.body


def test_every_wallet_that_asks_is_here():
    assert {provider for provider, _ in WORDS} == {
        *("house", "hub88", "hundredhp", "microgaming", "pgsoft", "playngo", "pragmatic")
    }


@pytest.mark.parametrize(("provider", "word"), WORDS)
async def test_a_question_is_answered_from_one_read(provider: str, word: str):
    counter = Counter()
    status, body = await counter.ask(provider, word)
    assert status == 200
    assert counter.players.reads == 1
    assert counter.stats.endings == {"question, answered": 1}
    names = {"info", "refreshtoken", "VerifySession"}
    amounts = (b"98.50", b"9850", b'"balance":"98.50"')
    assert word in names or any(amount in body for amount in amounts), body


RESTRICTED = {
    "hub88": (b"RS_ERROR_USER_DISABLED", b"RS_ERROR_LIMIT_REACHED"),
    "hundredhp": (b"blocked", b"A limit of the player"),
    "microgaming": (b'"6102"', b'"6505"'),
    "pgsoft": (b'"3033"', b'"3033"'),
    "playngo": (b"<statusCode>4</statusCode>", b"<statusCode>12</statusCode>"),
    "pragmatic": (b'"error":6', b'"error":50'),
    "house": (b"REFUSED_BLOCKED", b"REFUSED_LIMIT"),
}


@pytest.mark.parametrize(("provider", "word"), WORDS)
@pytest.mark.parametrize("kind", ["blocked", "limited"])
async def test_a_restriction_is_named_in_the_providers_words(provider: str, word: str, kind: str):
    player = PLAYER._replace(is_blocked=True) if kind == "blocked" else PLAYER
    if kind == "limited":
        player = PLAYER._replace(bet_limits={"EUR": 0})
    _, body = await Counter(player).ask(provider, word)
    assert RESTRICTED[provider][kind == "limited"] in body


@pytest.mark.parametrize(("provider", "word"), WORDS)
async def test_a_limit_that_leaves_room_changes_no_answer(provider: str, word: str):
    free = await Counter().ask(provider, word)
    assert await Counter(PLAYER._replace(bet_limits={"EUR": 1})).ask(provider, word) == free


@pytest.mark.parametrize(("provider", "word"), WORDS)
async def test_a_wrong_signature_is_answered_before_anything_is_read(provider: str, word: str):
    writer = find_writers((provider,))[provider]
    counter = Counter()
    status, body = await counter.ask(provider, word, writer.new_secrets())
    assert (status, b"98.50" in body, b"9850" in body) == (status, False, False)
    assert counter.players.reads == 0
    assert counter.stats.endings == {"question, not signed by its provider": 1}


BY_SESSION = [
    *(("hundredhp", "auth"), ("hundredhp", "balance"), ("playngo", "authenticate")),
    *(("microgaming", "login"), ("microgaming", "getbalance"), ("microgaming", "refreshtoken")),
    *(("pgsoft", "VerifySession"), ("pragmatic", "authenticate")),
]


@pytest.mark.parametrize(("provider", "word"), BY_SESSION)
@pytest.mark.parametrize("kind", ["stranger", "over"])
async def test_a_session_that_is_unknown_or_over_is_answered_so(
    provider: str, word: str, kind: str
):
    over = KEY.make_token(PlayerSession("p-1", "EUR", AT_MS // 1000 - 1))
    counter = Counter()
    status, body = await counter.ask(provider, word, token=over if kind == "over" else "x.y")
    face = DIALECTS[provider].face
    assert face is not None
    assert b"98" not in body
    assert (counter.players.reads, counter.stats.endings) == (0, {"question, unknown session": 1})
    expected = {"hundredhp": 604}
    assert status == expected.get(provider, 200)


@pytest.mark.parametrize(("provider", "word"), [("pragmatic", "balance"), ("pgsoft", "Get")])
async def test_a_session_of_another_player_is_unknown(provider: str, word: str):
    other = KEY.make_token(PlayerSession("p-2", "EUR", ENDS_S))
    counter = Counter()
    await counter.ask(provider, word, token=other)
    assert counter.players.reads == 0


@pytest.mark.parametrize(("provider", "word"), WORDS)
async def test_a_player_of_another_brand_is_not_known(provider: str, word: str):
    counter = Counter(brands={"lucky": ""})
    _, body = await counter.ask(provider, word, brand="lucky")
    assert b"98" not in body


@pytest.mark.parametrize(("provider", "word"), WORDS)
async def test_a_wallet_in_another_currency_is_not_this_one(provider: str, word: str):
    counter = Counter(CurrentPlayer((EUR._replace(currency="SEK"),)))
    _, body = await counter.ask(provider, word)
    assert b"98" not in body


@pytest.mark.parametrize(("provider", "word"), WORDS)
async def test_a_player_who_has_not_paid_in_yet_has_nothing(provider: str, word: str):
    status, body = await Counter(CurrentPlayer()).ask(provider, word)
    assert status == 200
    assert b"98" not in body


async def test_who_asks_for_no_balance_is_answered_without_a_wallet():
    for player in (CurrentPlayer(), CurrentPlayer((EUR, EUR._replace(currency="SEK")))):
        _, body = await Counter(player).ask("hub88", "info")
        assert b"RS_OK" in body
    _, body = await Counter(CurrentPlayer(is_blocked=True)).ask("hub88", "info")
    assert b"RS_ERROR_USER_DISABLED" in body


async def test_a_strangers_token_is_unknown_where_bets_need_ours():
    counter = Counter()
    _, body = await counter.ask("pragmatic", "balance", token="x.y")
    assert (b'"error":4' in body, counter.players.reads) == (True, 0)
    _, body = await Counter(currency="EUR").ask("pragmatic", "balance", token="x.y")
    assert b'"cash":98.50' in body


async def test_without_a_currency_the_only_wallet_is_meant():
    status, body = await Counter().ask("pragmatic", "balance", token="")
    assert (status, b'"cash":98.50' in body) == (200, True)
    two = CurrentPlayer((EUR, EUR._replace(currency="SEK")))
    _, body = await Counter(two).ask("pragmatic", "balance", token="")
    assert b'"error":3' in body
    _, body = await Counter(two, currency="SEK").ask("pragmatic", "balance", token="")
    assert b'"currency":"SEK"' in body
    _, body = await Counter(CurrentPlayer()).ask("pragmatic", "balance", token="")
    assert b'"error":2' in body


@pytest.mark.parametrize(("provider", "word"), WORDS)
async def test_a_copy_that_is_behind_is_waited_for(provider: str, word: str):
    """The provider was answered with version 7 of a bet; the copy has version 6, then 7."""
    old = CurrentPlayer((EUR._replace(available_minor=10_000, version=6),))
    counter = Counter(old, CurrentPlayer(), PLAYER)
    counter.versions.note("p-1", "EUR", 7)
    _, body = await counter.ask(provider, word)
    assert counter.players.reads == 3
    assert b"100.00" not in body
    assert b"10000" not in body


async def test_a_copy_that_stays_behind_is_not_answered_from(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gateway.questions.BEHIND_MAX_S", 0.05)
    counter = Counter(CurrentPlayer((EUR._replace(version=6),)))
    counter.versions.note("p-1", "EUR", 7)
    assert (await counter.ask("hundredhp", "balance"))[0] == 702
    assert counter.stats.endings["question, unavailable"] == 1


async def test_answers_never_go_back_between_two_copies():
    counter = Counter(PLAYER, CurrentPlayer((EUR._replace(version=6),)), PLAYER)
    await counter.ask("hub88", "balance")
    await counter.ask("hub88", "balance")
    assert counter.players.reads == 3


@pytest.mark.parametrize(("provider", "word"), WORDS)
async def test_without_a_database_a_question_gets_the_providers_error(provider: str, word: str):
    counter = Counter(Unavailable("away"))
    _, body = await counter.ask(provider, word)
    assert b"98" not in body
    assert counter.stats.endings == {"question, unavailable": 1}


@pytest.mark.parametrize("provider", sorted({provider for provider, _ in WORDS}))
async def test_the_golden_answers_follow_from_the_ledgers_rows(provider: str):
    """The same files that tests/acceptance/gateway compares with a real gateway's answers."""
    rich = CurrentPlayer((EUR._replace(available_minor=10_000),))
    limited = rich._replace(bet_limits={"EUR": 0})
    kinds: dict[str, tuple[CurrentPlayer, str]] = {
        "a player with money": (rich, "q"),
        "a player who has never paid in": (CurrentPlayer(), "new"),
        "wrong signature": (rich, "q"),
        "unknown session": (rich, "q"),
        "a player who may not bet: limit zero": (limited, "q"),
        "a player who is blocked": (limited._replace(is_blocked=True), "q"),
    }
    foreign = find_writers((provider,))[provider].new_secrets()
    answers = {}
    for kind, (player, prefix) in kinds.items():
        name = f"{prefix}-{provider}"
        token = KEY.make_token(PlayerSession(name, "EUR", 4_000_000_000))
        for word in questions_of(DIALECTS[provider].face):
            order = {"player": name, "token": "unknown" if kind == "unknown session" else token}
            secrets = foreign if kind == "wrong signature" else None
            answers[f"{word}: {kind}"] = await Counter(player).ask_fully(
                provider, word, secrets, **order
            )
    rows = {key: row_of(*answer) for key, answer in answers.items()}
    assert rows == json.loads((VECTORS / f"{provider}-questions.json").read_text())


def test_versions_are_remembered_for_the_players_that_were_answered_last():
    versions = AnsweredVersions(2)
    for player in ("a", "b", "a", "c"):
        versions.note(player, "EUR", 5)
    versions.note("a", "EUR", 3)
    assert len(versions) == 2
    old = CurrentPlayer((EUR._replace(version=4),))
    assert not versions.are_reached("a", old)
    assert versions.are_reached("b", old)
    assert not versions.are_reached("c", CurrentPlayer())


async def test_a_question_is_no_append_and_a_bet_is_no_question():
    from lab.conformance.calls import CallOrder
    from lab.conformance.intents import Verb
    from tests.unit.gateway.scene import TX7, Scene, signed_call

    counter = Counter()
    route, received = signed_call("hundredhp", CallOrder(Verb.BET, "p-1", TX7 + "1", 150))
    assert await counter.desk.answer(route, received) is None
    for provider, tx_id in (("playngo", "11"), ("microgaming", "12")):
        called = signed_call(provider, CallOrder(Verb.BET, "p-1", tx_id, 150))
        assert await counter.desk.answer(*called) is None
    scene = Scene()
    scene.desk._questions, scene.desk._versions = counter.desk, counter.versions
    bet = scene.start("hundredhp", CallOrder(Verb.BET, "p-1", TX7 + "1", 150))
    for _ in range(20):
        await asyncio.sleep(0)
    scene.decide(0, version=9)
    await bet
    assert not counter.versions.are_reached("p-1", PLAYER)


async def test_an_old_question_of_the_house_tells_nothing():
    counter = Counter()
    status, body = await counter.ask("house", "balance", at_ms=AT_MS - 301_000)
    assert (status, b"BAD_TIME" in body) == (400, True)
    assert counter.players.reads == 0
