"""Never accepted and then reversed: what a call does between its append and its answer."""

from __future__ import annotations

import asyncio

import pytest

from lab.conformance.calls import CallOrder
from lab.conformance.intents import Verb
from tests.unit.gateway.scene import SECRETS, TX7, Scene, in_virtual_time, signed_call

BET = CallOrder(Verb.BET, "p-1", TX7 + "1", 150)
WIN = CallOrder(Verb.WIN, "p-1", TX7 + "1", 200, bet_id=TX7 + "1")
PLAY = CallOrder(Verb.BET, "p-1", "11", 150)


async def settle(times: int = 20) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


@in_virtual_time
async def test_the_answer_is_the_decision():
    scene = Scene()
    call = scene.start("hundredhp", BET)
    await settle()
    assert not call.done()
    scene.decide(0)
    assert (await call).status == 200
    assert len(scene.attempts) == 0
    assert scene.stats.endings == {"decided": 1}


@in_virtual_time
async def test_a_refusal_is_a_decision_too():
    scene = Scene()
    call = scene.start("hundredhp", BET)
    await settle()
    scene.decide(0, "REFUSED_FUNDS", "NO_FUNDS")
    assert (await call).status == 603


@in_virtual_time
async def test_an_outcome_may_be_faster_than_the_acknowledgement():
    scene = Scene()
    scene.appender.is_holding = True
    call = scene.start("hundredhp", BET)
    await settle()
    scene.decide(0)
    await settle()
    assert not call.done()
    scene.appender.release()
    assert (await call).status == 200
    assert not scene.attempts._early


@in_virtual_time
async def test_early_outcomes_of_others_are_kept_no_longer_than_the_appends_before_them():
    scene = Scene()
    scene.appender.is_holding = True
    first = scene.start("hundredhp", BET)
    await settle()
    for offset in range(100, 150):
        scene.attempts.deliver([outcome("hundredhp", offset)])
    assert len(scene.attempts._early) == 50
    scene.appender.is_holding = False
    second = scene.start("playngo", PLAY)
    await settle()
    assert len(scene.attempts._early) == 50
    scene.appender.release()
    await settle()
    assert not scene.attempts._early
    scene.attempts.deliver([outcome("hundredhp", 200)])
    assert not scene.attempts._early
    scene.decide(0)
    scene.decide(1)
    await asyncio.gather(first, second)


def outcome(provider: str, offset: int) -> bytes:
    from tests.unit.gateway.scene import outcome_of

    return outcome_of(f"provider.{provider}.raw.v1", offset, "p-9", "POSTED", "BOOKED")


@in_virtual_time
async def test_the_same_bet_again_joins_the_first_attempt():
    scene = Scene()
    first, second = scene.start("hundredhp", BET), scene.start("hundredhp", BET, nonce=7)
    await settle()
    assert len(scene.appender.records) == 1
    scene.decide(0)
    assert (await first).status == (await second).status == 200
    assert scene.stats.endings == {"decided": 1, "joined": 1}


@in_virtual_time
async def test_a_joined_call_repeats_its_own_request():
    scene = Scene()
    calls = [
        scene.start("microgaming", CallOrder(Verb.BET, "p-1", "11", 150), nonce=nonce)
        for nonce in (1, 2)
    ]
    await settle()
    scene.decide(0)
    one, other = [(await call).body for call in calls]
    assert b'seq="00000000-0000-4000-8000-000000000001"' in one
    assert b'seq="00000000-0000-4000-8000-000000000002"' in other


@in_virtual_time
async def test_the_same_id_with_another_amount_waits_and_is_an_attempt_of_its_own():
    scene = Scene()
    first = scene.start("hundredhp", BET)
    await settle()
    other = scene.start("hundredhp", BET._replace(minor=999))
    await settle()
    assert len(scene.appender.records) == 1
    scene.decide(0)
    assert (await first).status == 200
    await settle()
    assert len(scene.appender.records) == 2
    scene.decide(1, "CONFLICT", "OTHER_CONTENT")
    assert (await other).status == 607


@in_virtual_time
async def test_a_win_does_not_wait_for_its_bet():
    scene = Scene()
    bet, win = scene.start("hundredhp", BET), scene.start("hundredhp", WIN)
    await settle()
    assert len(scene.appender.records) == 2
    scene.decide(0)
    scene.decide(1)
    await asyncio.gather(bet, win)


@pytest.mark.parametrize("provider", ["hundredhp", "playngo"])
@in_virtual_time
async def test_a_bet_that_is_late_is_taken_back_before_its_error(provider):
    scene = Scene(patience_ms=30)
    call = scene.start(provider, BET if provider == "hundredhp" else PLAY)
    await settle()
    scene.appender.is_holding = True  # the cancel is sent, and not acknowledged
    await asyncio.wait_for(scene.appender.second.wait(), 60)
    await settle()
    assert not call.done()
    topic, key, value, headers = scene.appender.records[1]
    assert (topic, key, value) == scene.appender.records[0][:3]
    assert headers == scene.appender.records[0][3] | {"cancel": f"{topic}-0@0".encode()}
    scene.decide(0)  # too late: the cancel stands behind it in the log
    await settle()
    assert not call.done()
    scene.appender.release()
    reply = await call
    assert b"balance" not in reply.body
    assert scene.stats.endings == {"taken back": 1}


@in_virtual_time
async def test_what_joined_a_late_bet_gets_its_error_too():
    scene = Scene(patience_ms=30)
    calls = [scene.start("hundredhp", BET, nonce=nonce) for nonce in (1, 2)]
    assert [(await call).status for call in calls] == [702, 702]
    assert len(scene.appender.records) == 2  # one attempt, one cancel


@in_virtual_time
async def test_a_late_win_is_not_taken_back():
    scene = Scene(patience_ms=30)
    assert (await scene.start("hundredhp", WIN)).status == 702
    assert len(scene.appender.records) == 1


@in_virtual_time
async def test_a_record_that_was_not_sent_in_time_is_withdrawn():
    scene = Scene(patience_ms=30)
    scene.appender.is_holding = True
    assert (await scene.start("hundredhp", BET)).status == 702
    [(_, pending)] = scene.appender.held
    assert pending.place.done()
    assert len(scene.appender.records) == 1
    assert not scene.attempts._appending


@in_virtual_time
async def test_what_was_sent_is_not_answered_before_its_place_is_known():
    scene = Scene(patience_ms=30)
    scene.appender.is_holding = True
    call = scene.start("hundredhp", BET)
    await settle()
    [(_, pending)] = scene.appender.held
    pending.is_sent = True
    await asyncio.sleep(0.08)
    assert not call.done()
    scene.appender.is_holding = False
    scene.appender.release()
    assert (await call).status == 702
    assert "cancel" in scene.appender.records[1][3]


@in_virtual_time
async def test_a_refused_append_is_an_error_and_no_attempt():
    scene = Scene()
    scene.appender.refuses = 1
    assert (await scene.start("hundredhp", BET)).status == 702
    assert not scene.attempts._appending
    again = scene.start("hundredhp", BET)
    await settle()
    scene.decide(0)
    assert (await again).status == 200


@in_virtual_time
async def test_where_a_cancel_is_refused_the_decision_is_waited_for():
    scene = Scene(patience_ms=30)
    call = scene.start("hundredhp", BET)
    await settle()
    scene.appender.refuses = 1
    await asyncio.sleep(0.08)
    assert not call.done()
    scene.decide(0)
    assert (await call).status == 200


@in_virtual_time
async def test_nothing_is_appended_without_a_signature():
    scene = Scene()
    secrets = dict.fromkeys(SECRETS["hundredhp"], "x" * 64)
    reply = await scene.desk.answer(*signed_call("hundredhp", BET, secrets=secrets))
    assert reply.status == 601
    assert not scene.appender.records
    assert scene.stats.endings == {"refused, not signed by its provider": 1}


@in_virtual_time
async def test_more_calls_than_may_be_in_flight_are_answered_at_once():
    scene = Scene(in_flight_max=1)
    first = scene.start("hundredhp", BET)
    await settle()
    assert (await scene.start("hundredhp", BET._replace(tx_id=TX7 + "2"))).status == 702
    scene.decide(0)
    assert (await first).status == 200
    third = scene.start("hundredhp", BET._replace(tx_id=TX7 + "3"))
    await settle()
    scene.decide(1)
    assert (await third).status == 200


@in_virtual_time
async def test_a_stop_refuses_new_calls_and_waits_for_answers():
    scene = Scene(drain_timeout_s=5.0)
    first = scene.start("hundredhp", BET)
    await settle()
    stopping = asyncio.ensure_future(scene.desk.drain())
    await settle()
    assert (await scene.start("hundredhp", BET._replace(tx_id=TX7 + "2"))).status == 702
    assert not stopping.done()
    scene.decide(0)
    assert (await first).status == 200
    await stopping


@in_virtual_time
async def test_a_stop_takes_back_what_stays_undecided():
    scene = Scene(drain_timeout_s=0.2, cancel_share_s=0.1)
    first = scene.start("hundredhp", BET)
    await settle()
    await scene.desk.drain()
    assert (await first).status == 702
    assert "cancel" in scene.appender.records[1][3]


@in_virtual_time
async def test_a_player_bets_no_faster_than_allowed_and_is_still_paid():
    scene = Scene(player_rate=1.0, player_burst=2.0)
    bets = [scene.start("hundredhp", BET._replace(tx_id=TX7 + str(n))) for n in range(4)]
    other = scene.start("hundredhp", BET._replace(player="p-2", tx_id=TX7 + "8"))
    win = scene.start("hundredhp", WIN._replace(tx_id=TX7 + "9", bet_id=TX7 + "9"))
    await settle()
    assert len(scene.appender.records) == 4
    for offset in range(4):
        scene.decide(offset)
    assert [(await bet).status for bet in bets] == [200, 200, 702, 702]
    assert (await other).status == (await win).status == 200
    assert scene.stats.endings["refused, above the rate of a player"] == 2


@in_virtual_time
async def test_a_provider_sends_no_faster_than_allowed():
    scene = Scene(provider_rate=2.0)
    calls = [scene.start("hundredhp", BET._replace(tx_id=TX7 + str(n))) for n in range(3)]
    await settle()
    assert len(scene.appender.records) == 2
    scene.decide(0)
    scene.decide(1)
    assert sorted([(await call).status for call in calls]) == [200, 200, 702]


@in_virtual_time
async def test_while_nothing_is_decided_calls_are_answered_at_once_and_one_is_tried():
    scene = Scene(patience_ms=30, late_max=2, trial_s=0.2)
    for number in (1, 2):
        assert (await scene.start("hundredhp", BET._replace(tx_id=TX7 + str(number)))).status == 702
    appended = len(scene.appender.records)
    assert (await scene.start("hundredhp", BET._replace(tx_id=TX7 + "3"))).status == 702
    assert len(scene.appender.records) == appended
    assert scene.stats.endings["refused, the circuit is open"] == 1
    await asyncio.sleep(0.25)
    tried = scene.start("hundredhp", BET._replace(tx_id=TX7 + "4"))
    await settle()
    scene.decide(appended)
    assert (await tried).status == 200
    after = scene.start("hundredhp", BET._replace(tx_id=TX7 + "5"))
    await settle()
    scene.decide(appended + 1)
    assert (await after).status == 200


@in_virtual_time
async def test_above_so_many_undecided_attempts_the_providers_take_turns():
    scene = Scene(undecided_max=2)
    bets = [scene.start("hundredhp", BET._replace(tx_id=TX7 + str(n))) for n in range(5)]
    await settle()
    other = scene.start("playngo", PLAY)
    await settle()
    assert len(scene.appender.records) == 2
    scene.decide(0)
    await settle()
    assert [topic.split(".")[1] for topic, *_ in scene.appender.records] == [
        "hundredhp",
        "hundredhp",
        "playngo",
    ]
    for offset in (1, 2):
        scene.decide(offset)
        await settle()
    for offset in (3, 4, 5):
        scene.decide(offset)
        await settle()
    assert [(await bet).status for bet in bets] == [200] * 5
    assert (await other).status == 200
    assert scene.stats.endings == {"decided": 6}


@in_virtual_time
async def test_a_call_whose_turn_does_not_come_is_not_appended_and_gives_its_place_back():
    scene = Scene(undecided_max=1, patience_ms=400)
    first = scene.start("hundredhp", BET)
    await settle()
    second = scene.start("hundredhp", BET._replace(tx_id=TX7 + "2"))
    same = scene.start("hundredhp", BET._replace(tx_id=TX7 + "2"), nonce=9)
    assert (await second).status == (await same).status == 702
    assert not first.done(), "the wait for a turn is a part of the patience"
    assert len(scene.appender.records) == 1
    scene.decide(0)
    assert (await first).status == 200
    third = scene.start("hundredhp", BET._replace(tx_id=TX7 + "3"))
    await settle()
    scene.decide(1)
    assert (await third).status == 200
    assert scene.stats.endings == {
        "decided": 2,
        "joined, unavailable": 1,
        "unavailable, its turn did not come": 1,
    }


@in_virtual_time
async def test_a_stop_answers_what_waits_for_its_turn():
    scene = Scene(undecided_max=1, drain_timeout_s=0.3, cancel_share_s=0.1)
    calls = [scene.start("hundredhp", BET._replace(tx_id=TX7 + str(n))) for n in range(3)]
    await settle()
    await scene.desk.drain()
    assert [(await call).status for call in calls] == [702] * 3
    assert [headers.get("cancel") is None for *_, headers in scene.appender.records] == [
        True,
        False,
    ]
