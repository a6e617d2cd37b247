from __future__ import annotations

from contextlib import suppress
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Attempt, Outcome, WalletOutcome
from streams.providers.dialect import Draft, UnreadableItem
from streams.providers.microgaming import Microgaming
from streams.providers.xml_body import CALL_MAX_BYTES
from tests.support.dialect_records import raw_record

KEY = {"login": "l0gin", "password": "p4ssw0rd"}
HEADERS: dict[str, bytes | None] = {"player": b"p-1"}
CALL = {
    "seq": "df829722-9826-4540-8a58-1d1c0feada93",
    "playtype": "bet",
    "token": "t-1",
    "gameid": "20",
    "gamereference": "ACME_Demo",
    "actionid": "12157",
    "actiondesc": "",
    "amount": "225",
    "start": "false",
    "finish": "false",
    "offline": "false",
    "currency": "eur",
}
TIME = "2026/11/22 14:03:20.123"
TIME_MS = 1_795_356_200_123


def body(
    method: str = "play", time: str = TIME, auth: dict[str, str] = KEY, **attributes: str | None
) -> bytes:
    shown = {name: text for name, text in (CALL | attributes).items() if text is not None}
    call = " ".join(f"{name}={quoteattr(text)}" for name, text in shown.items())
    who = " ".join(f"{name}={quoteattr(text)}" for name, text in auth.items())
    return (
        f'<pkt><methodcall name="{method}" timestamp="{time}" system="casino"><auth {who}/>'
        f"<call {call}><extinfo/></call></methodcall></pkt>"
    ).encode()


def read(
    value: bytes,
    dialect: Microgaming | None = None,
    headers: dict[str, bytes | None] = HEADERS,
    material: dict[str, str] | None = None,
) -> Draft:
    [draft] = (dialect or Microgaming()).reader(material)(raw_record("microgaming", value), headers)
    assert isinstance(draft, Draft)
    return draft


def reason(*args: Any, **kwargs: Any) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        read(*args, **kwargs)
    for error in (caught.value, caught.value.__cause__):
        assert not any(secret in str(error) for secret in KEY.values())
    return caught.value.reason


# --- calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("playtype", "kind", "waits"),
    [
        ("bet", "BET", True),
        ("win", "WIN", False),
        ("progressivewin", "JACKPOT_WIN", False),
        ("refund", "ROLLBACK", False),
    ],
)
def test_play(playtype: str, kind: str, waits: bool) -> None:
    draft = read(body(playtype=playtype))
    [leg] = draft.legs
    assert leg.amount is not None
    assert (leg.kind, leg.amount.unscaled, leg.amount.scale, leg.currency) == (kind, 225, 2, "EUR")
    assert (draft.operation, draft.provider_tx_id, draft.player_id) == (playtype, "12157", "p-1")
    assert draft.decision_required is waits
    assert (draft.round_id, draft.round_closed, draft.game_id) == (
        "ACME_Demo:20",
        False,
        "ACME_Demo",
    )


def test_a_refund_is_under_its_bets_action() -> None:
    reference = read(body(playtype="refund")).reference
    assert reference is not None
    assert (reference.operation, reference.tx_id) == ("bet", "12157")


def test_seq_is_nobodys_identity() -> None:
    other = read(body(seq="another"))
    assert other == read(body())
    assert read(body(actionid="12158")).provider_tx_id != other.provider_tx_id


def test_a_refused_bet_may_come_again_with_another_amount() -> None:
    assert Microgaming().policy.refused_id_reusable
    refused, accepted = read(body(amount="20000")), read(body(amount="225"))
    assert (refused.operation, refused.provider_tx_id) == (
        accepted.operation,
        accepted.provider_tx_id,
    )
    assert refused.legs != accepted.legs


def test_the_end_of_a_round() -> None:
    value = body("endgame", playtype=None, actionid=None, amount=None, currency=None)
    draft = read(value)
    assert [(leg.kind, leg.amount, leg.currency) for leg in draft.legs] == [
        ("ROUND_CLOSE", None, None)
    ]
    assert (draft.operation, draft.provider_tx_id, draft.round_closed) == (
        "endgame",
        "p-1:ACME_Demo:20",
        True,
    )
    assert read(value, headers=HEADERS | {"currency": b"eur"}).legs[0].currency == "EUR"
    assert read(body(finish="true")).round_closed
    assert read(body(finish="TRUE")).round_closed


def test_a_free_game() -> None:
    marks: dict[str, Any] = {"freegame": "offer1", "freegameofferinstanceid": "1"}
    free = Microgaming(free_bets_cost=False)
    for playtype, amount, dialect, is_free in (
        ("bet", "225", None, False),
        ("bet", "0", None, True),
        ("win", "225", None, False),
        ("bet", "225", free, True),
        ("win", "225", free, True),
    ):
        [leg] = read(body(playtype=playtype, amount=amount, **marks), dialect).legs
        assert (leg.is_free, leg.campaign_id) == (is_free, "1")
    [leg] = read(body(freegame="offer1")).legs
    assert leg.campaign_id == "offer1"
    [leg] = read(body(amount="0")).legs
    assert (leg.is_free, leg.campaign_id) == (False, None)


@pytest.mark.parametrize("amount", ["", "-1", "+1", "1.5", "1e2", " 1", "9" * 20, "\u0661"])
def test_cents_are_whole_and_without_a_sign(amount: str) -> None:
    assert reason(body(amount=amount)) is (
        RejectCode.MISSING_FIELD if not amount else RejectCode.BAD_AMOUNT
    )


def test_currencies() -> None:
    assert read(body(currency="USD")).legs[0].currency == "USD"
    assert (
        read(body(currency=None), headers=HEADERS | {"currency": b"SEK"}).legs[0].currency == "SEK"
    )
    assert reason(body(currency=None)) is RejectCode.MISSING_FIELD
    assert reason(body(currency="XQQ")) is RejectCode.BAD_CURRENCY
    assert reason(body(currency="JPY", amount="150")) is RejectCode.AMOUNT_SCALE


def test_whether_actions_are_counted_for_each_player_is_a_setting() -> None:
    own = Microgaming(action_ids_per_player=True)
    bet, refund = read(body(), own), read(body(playtype="refund"), own)
    assert bet.provider_tx_id == "p-1:12157"
    assert refund.reference is not None
    assert refund.reference.tx_id == bet.provider_tx_id
    assert read(body(), own, {"player": b"p-2"}).provider_tx_id != bet.provider_tx_id


# --- whose it is ------------------------------------------------------------------------------------------------------


def test_whose_session_it_is_the_connector_says() -> None:
    assert reason(body(), headers={}) is RejectCode.MISSING_FIELD
    assert reason(body(), headers={"player": b"\xff"}) is RejectCode.BAD_FIELD
    with pytest.raises(UnreadableItem) as caught:
        read(body(amount="x"))
    assert caught.value.player_id == "p-1"


@pytest.mark.parametrize(
    ("token", "player"),
    [
        ("LD_77_20_12157", "LD_77"),
        ("LD_77_20", "LD_77"),
        ("20_20", "20"),
        ("p-9_20_12157", "p-9"),
        ("p_20_20_12157", "p_20"),
    ],
)
def test_an_offline_token_is_the_login_name_with_round_and_action_behind_it(
    token: str, player: str
) -> None:
    assert read(body(playtype="win", offline="true", token=token), headers={}).player_id == player
    with_header = read(body(playtype="win", offline="true", token=token))
    assert with_header.player_id == "p-1"


@pytest.mark.parametrize("token", ["LD_77", "_20", "LD_77_21", "LD_77_20_1", "LD_77_12157_20x"])
def test_an_offline_token_of_another_form_is_rejected(token: str) -> None:
    assert (
        reason(body(playtype="win", offline="true", token=token), headers={})
        is RejectCode.BAD_FIELD
    )


def test_an_offline_token_without_a_tail_is_a_setting() -> None:
    plain = Microgaming(offline_suffix=False)
    assert read(body(playtype="win", offline="true", token="LD_77"), plain, {}).player_id == "LD_77"


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "text", "at"),
    [
        ("UTC", TIME, TIME_MS),
        ("UTC", "2026/11/22 14:03:20", TIME_MS - 123),
        ("Europe/Malta", TIME, TIME_MS - 3_600_000),
        ("Asia/Manila", TIME, TIME_MS - 8 * 3_600_000),
        ("Europe/Malta", "2026/07/22 14:03:20.000", 1_784_721_800_000),
        ("UTC", "", None),
    ],
)
def test_a_time_is_that_of_the_configured_zone(zone: str, text: str, at: int | None) -> None:
    assert read(body(time=text), Microgaming(zone=zone)).provider_at == at


@pytest.mark.parametrize(
    "text", ["2026/13/01 00:00:00.000", "2026/02/30 00:00:00.000", "yesterday", "1790000000123"]
)
def test_what_is_no_time(text: str) -> None:
    assert reason(body(time=text)) is RejectCode.BAD_TIME


def test_a_zone_that_is_none() -> None:
    with pytest.raises(UsageError, match="Malte"):
        Microgaming(zone="Europe/Malte").reader(None)


def test_a_time_of_another_zone_is_not_believed() -> None:
    assert Microgaming().time_tolerance_ms < 15 * 60_000


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_login_and_password() -> None:
    assert read(body()).signature == "NOT_CHECKED"
    assert read(body(), material=KEY).signature == "VALID"
    for name in KEY:
        assert reason(body(auth=KEY | {name: "guess"}), material=KEY) is RejectCode.BAD_SIGNATURE
        assert reason(body(auth=KEY | {name: "gäss"}), material=KEY) is RejectCode.BAD_SIGNATURE
        assert reason(body(auth=KEY | {name: ""}), material=KEY) is RejectCode.MISSING_SIGNATURE
        with pytest.raises(UsageError):
            Microgaming().reader({k: v for k, v in KEY.items() if k != name})
    assert (
        reason(body().replace(b"<auth ", b"<other "), material=KEY) is RejectCode.MISSING_SIGNATURE
    )


@pytest.mark.parametrize(
    "value",
    [
        body(),
        body().replace(b'"p4ssw0rd"', b"'p4ssw0rd'").replace(b"password=", b"password =\n "),
        body()[: body().index(b"ssw0rd") + 4],
        body().replace(b'"p4ssw0rd"', b"p4ssw0rd"),
        body().decode().encode("utf-16"),
        body().decode().encode("utf-16-le"),
    ],
)
def test_a_body_can_be_shown_without_its_secrets(value: bytes) -> None:
    shown = Microgaming().redact(value).replace(b"\0", b"")
    assert b"l0gin" not in shown
    assert b"p4ss" not in shown
    assert b"not shown" in shown or b"<pkt>" in shown


# --- hostile bodies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"\xff\xfe\x00",
        b"<pkt/>",
        b"<pkt><methodcall/><methodcall/></pkt>",
        b'<methodcall name="play"/>',
        b"<!DOCTYPE pkt><pkt><methodcall/></pkt>",
        b'<!DOCTYPE p [<!ENTITY x SYSTEM "file:///etc/passwd">]><pkt><methodcall name="&x;"/></pkt>',
        b"<a>" * 10_000,
    ],
)
def test_what_is_no_call(value: bytes) -> None:
    assert reason(value) is RejectCode.MALFORMED


def test_a_body_longer_than_any_call_is_not_parsed() -> None:
    fits = body().replace(b"<pkt>", b"<pkt>" + b" " * (CALL_MAX_BYTES - len(body())))
    assert len(fits) == CALL_MAX_BYTES
    assert read(fits) == read(body())
    assert reason(fits + b" ") is RejectCode.TOO_LARGE
    with pytest.raises(Rejected):  # nor does the drift worker parse it
        Microgaming().payload(fits + b" ")


def test_other_methods_and_play_types_are_not_mapped() -> None:
    for value in (
        body("login"),
        body("getbalance"),
        body(playtype="admin"),
        body(playtype="endgame"),
        body(playtype=None),
    ):
        assert reason(value) is RejectCode.UNKNOWN_OPERATION
    assert reason(b'<pkt><methodcall name="play"/></pkt>') is RejectCode.UNKNOWN_OPERATION
    twice = body().replace(b"</methodcall>", b"<call/></methodcall>")
    assert reason(twice) is RejectCode.BAD_FIELD


@pytest.mark.parametrize("name", ["gameid", "actionid", "amount"])
def test_what_a_bet_cannot_do_without(name: str) -> None:
    for missing in (None, ""):
        attributes: dict[str, Any] = {name: missing}
        assert reason(body(**attributes)) is RejectCode.MISSING_FIELD


# --- answers ----------------------------------------------------------------------------------------------------------


def outcome(
    operation: str, what: str, why: str = "", balance: int | None = 77_500, scale: int = 2
) -> WalletOutcome:
    attempt = Attempt("provider.microgaming.raw.v1", 3, 42)
    return WalletOutcome(
        "e-1",
        "default",
        "microgaming",
        operation,
        "12157",
        attempt,
        "p-1",
        what,
        why,
        "No.",
        "EUR",
        scale,
        balance,
        7,
    )


def answer(
    value: bytes, result: WalletOutcome | Rejected, dialect: Microgaming | None = None
) -> dict[str, Any]:
    reply = (dialect or Microgaming()).answer(raw_record("microgaming", value), [result])
    assert (reply.status, reply.content_type) == (200, "application/xml")
    response = etree.fromstring(reply.body).find("methodresponse")
    assert response is not None
    result_element = response.find("result")
    assert result_element is not None
    assert result_element.find("extinfo") is not None
    attributes: Any = result_element.attrib
    return {"name": response.get("name"), "at": response.get("timestamp"), **attributes}


def test_a_success() -> None:
    assert answer(body(), outcome("bet", Outcome.POSTED)) == {
        "name": "play",
        "at": "2026/09/21 14:13:20.200",
        "seq": CALL["seq"],
        "token": "t-1",
        "balance": "77500",
        "bonusbalance": "0",
        "exttransactionid": "e-1",
    }
    ended = answer(body("endgame"), outcome("endgame", Outcome.INFORMATIONAL))
    assert ended["name"] == "endgame"
    assert "exttransactionid" not in ended
    assert answer(body(), outcome("bet", Outcome.POSTED), Microgaming(zone="Asia/Manila"))[
        "at"
    ].startswith("2026/09/21 22")


@pytest.mark.parametrize(
    ("balance", "scale", "cents"),
    [(1, 0, "100"), (1_239, 3, "123"), (-1_239, 3, "-123"), (0, 8, "0")],
)
def test_a_balance_is_in_cents(balance: int, scale: int, cents: str) -> None:
    assert (
        answer(body(), outcome("bet", Outcome.POSTED, balance=balance, scale=scale))["balance"]
        == cents
    )


def test_a_refund_of_what_never_came_succeeds() -> None:
    refund = body(playtype="refund")
    for result in (
        outcome("refund", Outcome.TOMBSTONED, "REFERENCE_NOT_SEEN_YET"),
        outcome("refund", Outcome.POSTED, "NOTHING_TO_REVERSE"),
    ):
        attributes = answer(refund, result)
        assert attributes["exttransactionid"] == "DEBIT-NOT-RECEIVED"
        assert attributes["balance"] == "77500"
    assert answer(refund, outcome("refund", Outcome.POSTED, "BOOKED"))["exttransactionid"] == "e-1"
    assert "balance" not in answer(refund, outcome("refund", Outcome.TOMBSTONED, balance=None))


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("REFUSED_FUNDS", "6503"),
        ("REFUSED_BLOCKED", "6102"),
        ("REFUSED_LIMIT", "6505"),
        ("CONFLICT", "6501"),
        ("TOMBSTONED", "6501"),
        ("CANCELLED", "6000"),
        ("UNRESOLVED", "6000"),
        ("SOMETHING_NEW", "6000"),
    ],
)
def test_errors(what: str, code: str) -> None:
    attributes = answer(body(), outcome("bet", what))
    assert (attributes["seq"], attributes["errorcode"]) == (CALL["seq"], code)
    assert attributes["errordescription"]
    assert not {"balance", "token", "exttransactionid"} & set(attributes)


def test_rejections() -> None:
    assert answer(body(), Rejected(RejectCode.BAD_SIGNATURE, ""))["errorcode"] == "6003"
    unreadable = answer(b"<pkt", Rejected(RejectCode.MALFORMED, ""))
    assert (unreadable["name"], unreadable["seq"], unreadable["errorcode"]) == ("", "", "6000")


def test_what_came_is_escaped_when_it_goes_back() -> None:
    assert answer(body(seq='<"&>'), outcome("bet", Outcome.POSTED))["seq"] == '<"&>'


# --- anything at all --------------------------------------------------------------------------------------------------

texts = st.text(
    st.characters(
        codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"
    ),
    max_size=140,
)


@given(
    method=st.sampled_from(["play", "endgame", "login"]),
    attributes=st.dictionaries(
        st.sampled_from([*CALL, "freegame", "freegameofferinstanceid"]), texts, max_size=3
    ),
    headers=st.dictionaries(
        st.sampled_from(["player", "currency"]), st.none() | st.binary(max_size=140)
    ),
)
def test_nothing_but_a_rejection_comes_of_any_attribute(
    method: str, attributes: dict[str, Any], headers: dict[str, bytes | None]
) -> None:
    with suppress(Rejected):
        assert read(body(method, **attributes), headers=HEADERS | headers).legs
