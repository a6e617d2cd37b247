"""A request becomes a raw record, or an answer without one."""

from __future__ import annotations

import pytest

from gateway.decisions.call_trace import CallTrace
from gateway.decisions.reading import (
    CallRecord,
    Received,
    Refusal,
    acknowledge,
    cancel_headers,
    key_of,
    read_call,
    waits_for_outcome,
)
from gateway.decisions.sessions import PlayerSession
from lab.conformance.calls import CallOrder
from lab.conformance.intents import Verb
from streams.providers.answers import Answers
from streams.providers.registry import DIALECTS
from tests.unit.gateway.scene import AT_MS, KEY, SECRETS, TABLE, TX7, signed_call

ANSWERS = Answers(DIALECTS, SECRETS)
BETS = {
    "hundredhp": CallOrder(Verb.BET, "p-1", TX7 + "1", 150),
    "microgaming": CallOrder(Verb.BET, "p-1", "11", 150),
    "pgsoft": CallOrder(Verb.SPIN, "p-1", "11", 150),
    "playngo": CallOrder(Verb.BET, "p-1", "11", 150),
    "pragmatic": CallOrder(Verb.BET, "p-1", "r-1", 150),
    "skylift": CallOrder(Verb.BET, "p-1", "s-1", 150),
}
WITH_SESSION = ("hundredhp", "microgaming", "pragmatic")


def read(route, received, find=KEY.read_token):
    return read_call(route, received, ANSWERS, find, "gateway-1")


@pytest.mark.parametrize("provider", BETS)
def test_a_signed_bet_becomes_a_record_under_its_player(provider):
    route, received = signed_call(provider, BETS[provider])
    call = read(route, received)
    assert (call.refusal, call.reply, call.is_decided) == (None, None, True)
    assert call.record.key == b"p-1"
    assert call.record.value == received.body
    assert [identity[:2] for identity in call.drafts] == [("", provider)]
    assert waits_for_outcome(route, call)


@pytest.mark.parametrize("provider", BETS)
def test_a_bet_that_is_signed_with_another_key_is_no_attempt(provider):
    other = {name: secret[::-1] + "00" for name, secret in SECRETS[provider].items()}
    call = read(*signed_call(provider, BETS[provider], secrets=other))
    assert call.refusal is Refusal.FORGED
    assert call.reply is not None
    assert call.record.key is None


@pytest.mark.parametrize("provider", BETS)
def test_no_header_of_a_request_speaks_for_the_connector(provider):
    names = ("player", "currency", "brand", "region", "cancel", "received-at", "http-path")
    forged = dict.fromkeys((*names, "redrive-of", "drop-of", "connector", "parked-behind"), "evil")
    route, received = signed_call(provider, BETS[provider], headers=forged)
    plain = read(*signed_call(provider, BETS[provider]))
    call = read(route, received)
    assert call.record.headers == plain.record.headers
    headers = dict(call.record.headers)
    assert not {"cancel", "brand", "region", "redrive-of"} & headers.keys()
    assert headers["received-at"] == b"%d" % AT_MS
    assert headers["connector"] == b"gateway-1"
    assert b"evil" not in b"".join(value or b"" for value in headers.values())


@pytest.mark.parametrize("provider", WITH_SESSION)
def test_player_and_currency_are_those_of_the_session(provider):
    call = read(*signed_call(provider, BETS[provider]))
    headers = dict(call.record.headers)
    assert (headers["player"], headers["currency"]) == (b"p-1", b"EUR")


@pytest.mark.parametrize("provider", WITH_SESSION)
@pytest.mark.parametrize(
    "token", ["unknown", "a.b", KEY.make_token(PlayerSession("p-1", "EUR", 1))[:-2]]
)
def test_a_call_of_an_unknown_session_is_no_attempt(provider, token):
    call = read(*signed_call(provider, BETS[provider]._replace(token=token)))
    assert call.refusal is Refusal.UNKNOWN_SESSION
    assert call.reply == DIALECTS[provider].answer_unknown_session(call.record)


@pytest.mark.parametrize("provider", WITH_SESSION)
def test_without_a_session_key_no_session_is_known(provider):
    call = read(*signed_call(provider, BETS[provider]), find=lambda _: None)
    assert call.refusal is Refusal.UNKNOWN_SESSION


@pytest.mark.parametrize("provider", WITH_SESSION)
def test_a_session_that_is_over_takes_no_bets_and_still_pays(provider):
    over = AT_MS // 1000
    bet = read(*signed_call(provider, BETS[provider], ends_s=over))
    assert bet.refusal is Refusal.UNKNOWN_SESSION
    win = Verb.PROMO_WIN if provider == "hundredhp" else Verb.WIN
    order = CallOrder(win, "p-1", "12", 150, bet_id="11")
    assert read(*signed_call(provider, order, ends_s=over)).refusal is None


def test_a_session_of_another_player_is_unknown():
    token = KEY.make_token(PlayerSession("p-2", "EUR", 4_000_000_000))
    call = read(*signed_call("pragmatic", BETS["pragmatic"]._replace(token=token)))
    assert call.refusal is Refusal.UNKNOWN_SESSION


def test_a_deposit_without_a_player_has_the_key_of_its_withdrawal():
    order = CallOrder(Verb.WIN, "p-1", TX7 + "1", 200, bet_id=TX7 + "1")
    call = read(*signed_call("hundredhp", order))
    assert call.record.key == (TX7 + "1").encode()
    assert not call.is_decided
    assert "player" not in dict(call.record.headers)


@pytest.mark.parametrize("provider", BETS)
@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"{", b"<", b"a=b", b"\x00" * 99])
def test_what_cannot_be_read_has_an_answer(provider, body):
    route, received = signed_call(provider, BETS[provider])
    call = read(route, received._replace(body=body))
    assert call.refusal in {Refusal.FORGED, Refusal.UNPROVEN, Refusal.UNKNOWN_SESSION}
    assert call.reply is not None


def test_an_unreadable_body_that_its_provider_signed_is_kept():
    import hmac

    route, received = signed_call("skylift", BETS["skylift"])
    body = b"not Avro"
    signature = hmac.digest(bytes.fromhex(SECRETS["skylift"]["hmac_hex"]), body, "sha512").hex()
    call = read(route, received._replace(body=body, headers={"x-skylift-signature": signature}))
    assert call.refusal is None
    assert not waits_for_outcome(route, call)


def test_a_notice_is_acknowledged_and_not_waited_for():
    order = CallOrder(Verb.DEPOSIT, "p-1", "PSP1", 500, deposit_id="d-1")
    route, received = signed_call("adyen", order)
    call = read(route, received)
    assert (call.refusal, waits_for_outcome(route, call)) == (None, False)
    assert acknowledge(call).body == b"[accepted]"


@pytest.mark.parametrize("body", [b"{", b'{"notificationItems":[{"NotificationRequestItem":{}}]}'])
def test_what_its_sender_takes_for_accepted_is_kept_whatever_it_is(body):
    route, received = signed_call("adyen", CallOrder(Verb.DEPOSIT, "p-1", "PSP1", 500))
    call = read(route, received._replace(body=body))
    assert call.refusal is None
    assert acknowledge(call).body == b"[accepted]"


def test_a_record_that_no_topic_takes_is_not_appended():
    route, received = signed_call("skylift", BETS["skylift"])
    long = received._replace(query="q" * 100_000)
    assert len(dict(read(route, long).record.headers)["http-query"] or b"") == 4_096
    large = Received(
        "POST", "", "text/xml", {}, b"<alive timestamp='1'/>" + b" " * 1_020_000, AT_MS
    )
    uof = TABLE.find("/uof")
    assert uof is not None
    assert read(uof, large).refusal is Refusal.UNAPPENDABLE


def test_a_cancel_names_its_attempt_behind_all_other_headers():
    record = CallRecord("provider.hub88.raw.v1", b"{}", [("player", b"p")], 0)
    record.set_place(3, 17, -1)
    assert cancel_headers(record) == [("player", b"p"), ("cancel", b"provider.hub88.raw.v1-3@17")]
    assert record.timestamp == 0


def test_items_without_any_reference_have_an_empty_key():
    assert key_of([]) == b""


def test_one_currency_for_all_is_stated_where_a_call_needs_one_and_has_no_session():
    route, received = signed_call("pragmatic", BETS["pragmatic"]._replace(token="none"))
    stated = route._replace(currency="EUR")
    call = read(stated, received)
    assert call.refusal is None
    assert dict(call.record.headers)["currency"] == b"EUR"
    assert "player" not in dict(call.record.headers)
    # It is not a player: 100HP's session says who it is.
    hundredhp, sent = signed_call("hundredhp", BETS["hundredhp"]._replace(token="none"))
    assert read(hundredhp._replace(currency="EUR"), sent).refusal is Refusal.UNKNOWN_SESSION
    playngo, bet = signed_call("playngo", BETS["playngo"])
    assert "currency" not in dict(read(playngo._replace(currency="EUR"), bet).record.headers)


def test_the_traceparent_of_a_record_is_ours_and_never_that_of_the_request():
    outside = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    _, plain = signed_call("playngo", BETS["playngo"])
    route, with_theirs = signed_call("playngo", BETS["playngo"], headers=outside)
    assert read(route, with_theirs).record.headers == read(route, plain).record.headers
    trace = CallTrace(7, 8, 0, is_sampled=True)
    call = read(route, with_theirs._replace(trace=trace))
    assert dict(call.record.headers)["traceparent"] == b"00-%032x-%016x-01" % (7, 8)
    assert call.trace is trace
    assert [one for one in call.record.headers if one[0] != "traceparent"] == [
        *read(route, plain).record.headers
    ]
