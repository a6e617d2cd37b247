"""A scenario over HTTP: what waits for an answer, and what a provider sends after an error."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from lab.conformance.intents import DECIDED_VERBS, Intent, Verb
from lab.load.http_pool import HttpAnswer
from lab.sandbox.calling import PlannedCall, ScenarioCaller, plan_calls
from lab.sandbox.records import PHASE_DEPOSITS, PHASE_PLAY
from lab.sandbox.scenario import Scenario, deliveries_of
from lab.sandbox.writing import write_all
from tests.support.sandbox_keys import shared_keys

OK = {
    "hub88": b'{"status":"RS_OK"}',
    "playngo": b"<statusCode>0</statusCode>",
    "house": b'{"outcome":"POSTED"}',
    "adyen": b"[accepted]",
}
ERROR = {
    "hub88": b'{"status":"RS_ERROR_UNKNOWN"}',
    "playngo": b"<statusCode>12</statusCode>",
    "house": b'{"outcome":"UNAVAILABLE"}',
    "adyen": b"",
}
PATH = re.compile(rb"POST (/brand/(?:aurora|fjord|default)/([a-z0-9]+)(\S*)) HTTP")


@cache
def planned() -> tuple[PlannedCall, ...]:
    scenario = Scenario(seed=7, start_ms=1_790_000_000_000, events=2_100, poison=8)
    deliveries = deliveries_of(scenario)
    return tuple(plan_calls(deliveries, write_all(deliveries, shared_keys(), signed=False)))


class Desk:
    """A gateway that answers success, or what `answer` says of a call."""

    def __init__(self, answer: Callable[[str, bytes], bytes | None] | None = None) -> None:
        self.requests: list[tuple[str, bytes]] = []
        self._answer = answer

    async def call(self, request: bytes) -> HttpAnswer:
        found = PATH.match(request)
        assert found is not None, request[:200]
        provider = found[2].decode()
        self.requests.append((provider, request))
        await asyncio.sleep(0)
        body = None if self._answer is None else self._answer(provider, request)
        return HttpAnswer(200, OK[provider] if body is None else body)

    def bodies(self, what: bytes) -> int:
        return sum(what in request for _, request in self.requests)


async def play(desk: Desk, rate: float | None = None) -> tuple[ScenarioCaller, list[Any]]:
    settled: list[tuple[float, float]] = []
    pool: Any = desk
    caller = ScenarioCaller(
        planned(), shared_keys(), pool, lambda *_: None, lambda *both: settled.append(both), 0.0
    )
    for phase in (PHASE_DEPOSITS, PHASE_PLAY):
        await caller.play(phase, rate, lambda _: None)
    return caller, settled


def verbs(*which: Verb) -> list[PlannedCall]:
    return [call for call in planned() if call.intents and call.intents[0].verb in which]


async def test_where_all_is_accepted_every_call_is_sent_once():
    desk = Desk()
    caller, settled = await play(desk)
    assert Counter(request for _, request in desk.requests) == Counter(
        call.request for call in planned()
    )
    waits = [call for call in planned() if call.intents and call.provider != "adyen"]
    assert len(settled) == len(waits)
    accepted = {
        intent.identity
        for call in planned()
        for intent in call.intents
        if intent.verb is not Verb.ROLLBACK
    }
    taken_back = {call.intents[0].reference for call in verbs(Verb.ROLLBACK)}
    assert caller.books.accepted == accepted - taken_back


async def test_a_rate_gives_every_call_its_time():
    due: dict[int, float] = {}
    pool: Any = Desk()
    caller = ScenarioCaller(planned(), shared_keys(), pool, due.__setitem__, lambda *_: None)
    await caller.play(PHASE_DEPOSITS, 20_000.0, lambda _: None)
    times = [due[index] for index in sorted(due)]
    assert len(times) == sum(call.phase == PHASE_DEPOSITS for call in planned())
    gaps = [after - before for before, after in pairwise(times)]
    assert gaps == pytest.approx([1 / 20_000] * len(gaps), abs=1e-6)


async def test_no_win_is_sent_before_its_bet_is_answered_nor_after_its_refusal():
    refused = {call.request for call in verbs(Verb.BET) if call.provider == "playngo"}
    poor = b"<statusCode>7</statusCode>"
    desk = Desk(lambda _, request: poor if request in refused else None)
    caller, _ = await play(desk)
    wins = [call for call in verbs(Verb.WIN) if call.provider == "playngo"]
    assert wins
    assert desk.bodies(b"<release>") == len(
        [call for call in verbs(Verb.FREE_WIN) if call.provider == "playngo"]
    )
    assert caller.counts["not sent, since its bet does not stand"] == len(wins)
    places = {request: place for place, (_, request) in reversed(list(enumerate(desk.requests)))}
    bets = {call.intents[0].identity: call.request for call in reversed(verbs(*DECIDED_VERBS))}
    for call in verbs(Verb.WIN, Verb.FREE_WIN):
        reference = call.intents[0].reference
        if call.request in places and reference in bets:
            assert places[bets[reference]] < places[call.request]


@pytest.mark.parametrize(
    ("provider", "resends", "rollback"),
    [("hub88", 0, b"/transaction/rollback"), ("playngo", 2, b"<cancelReserve>")],
)
async def test_after_an_error_a_bet_is_taken_back_unless_that_is_planned(
    provider, resends, rollback
):
    bets = [call for call in verbs(Verb.BET) if call.provider == provider][:40]
    identities = {call.intents[0].identity for call in bets}
    # The scenario sends some bets more than once, also in other bytes.
    late = {call.request for call in verbs(Verb.BET) if call.intents[0].identity in identities}
    desk = Desk(lambda name, request: ERROR[name] if request in late else None)
    caller, _ = await play(desk)
    rolled_back = {call.intents[0].reference for call in verbs(Verb.ROLLBACK)}
    planned_rollbacks = [call for call in verbs(Verb.ROLLBACK) if call.provider == provider]
    assert identities.isdisjoint(caller.books.accepted)
    again = caller.counts["taken back after an error"]
    assert again == len(identities - rolled_back)
    assert desk.bodies(rollback) == len(planned_rollbacks) + again
    # The scenario's own retries of these bets are among the calls.
    assert sum(desk.bodies(call.request) for call in bets[:1]) >= 1 + resends


@pytest.mark.parametrize("seed", range(3))
async def test_no_bet_is_taken_back_of_which_a_win_is_sent(seed):
    """A bet that is sent twice has one end, whichever of its answers is an error."""
    rng = Random(seed)
    bets = {call.request for call in verbs(*DECIDED_VERBS)}

    class Slow(Desk):
        async def call(self, request: bytes) -> HttpAnswer:
            for _ in range(rng.randrange(100)):
                await asyncio.sleep(0)
            return await super().call(request)

    desk = Slow(
        lambda name, request: ERROR[name] if request in bets and rng.random() < 0.3 else None
    )
    pool: Any = desk
    caller = ScenarioCaller(
        planned(), shared_keys(), pool, lambda *_: None, lambda *_: None, again_s=0.0
    )
    taken_back: set[Any] = set()
    write = caller._rollbacks.write

    def note(bet: Intent) -> bytes:
        taken_back.add(bet.identity)
        return write(bet)

    caller._rollbacks.write = note  # type: ignore[method-assign]  # counted, then written as before
    for phase in (PHASE_DEPOSITS, PHASE_PLAY):
        await caller.play(phase, None, lambda _: None)
    sent = {request for _, request in desk.requests}
    won = {
        call.intents[0].reference for call in verbs(Verb.WIN, Verb.FREE_WIN) if call.request in sent
    }
    assert taken_back
    assert won
    assert taken_back.isdisjoint(won)
    assert taken_back.isdisjoint(caller.books.accepted)


async def test_a_notice_is_sent_until_it_is_accepted():
    seen: Counter[bytes] = Counter()

    def answer(provider: str, request: bytes) -> bytes | None:
        seen[request] += 1
        return ERROR[provider] if provider == "adyen" and seen[request] == 1 else None

    await play(Desk(answer))
    notices = [call for call in planned() if call.provider == "adyen" and call.intents]
    assert all(seen[call.request] >= 2 for call in notices)


async def test_poison_is_sent_once_whatever_is_answered():
    poison = [call for call in planned() if not call.intents]
    desk = Desk(
        lambda name, request: b"?" if any(request == one.request for one in poison) else None
    )
    await play(desk)
    assert len(poison) == 8
    assert all(desk.bodies(call.request) == 1 for call in poison)
