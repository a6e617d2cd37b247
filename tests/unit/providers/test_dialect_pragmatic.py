from __future__ import annotations

import json
from contextlib import suppress
from hashlib import md5
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Attempt, Outcome, WalletOutcome
from streams.providers.dialect import Draft
from streams.providers.pragmatic import Pragmatic
from tests.support.dialect_records import raw_record

SECRET = "testSecret1"
KEY = {"secret": SECRET}
HEADERS: dict[str, bytes | None] = {"currency": b"EUR"}
FORM = {
    "providerId": "PragmaticPlay",
    "userId": "p-1001",
    "gameId": "vs20demo",
    "roundId": "7000001234",
    "amount": "1.50",
    "reference": "5f0a1b2c3d4e5f6a7b8c9d01",
    "timestamp": "1790000000123",
    "roundDetails": "spin",
}


def sign(form: dict[str, str], secret: str = SECRET) -> dict[str, str]:
    text = (
        "&".join(f"{name}={form[name]}" for name in sorted(form))
        .replace("\r", "")
        .replace("\n", "")
    )
    return {"hash": md5((text + secret).encode()).hexdigest(), **form}


def read(
    call: str,
    form: dict[str, str] | bytes = FORM,
    dialect: Pragmatic | None = None,
    material: dict[str, str] | None = None,
    headers: dict[str, bytes | None] = HEADERS,
) -> Draft:
    value = form if isinstance(form, bytes) else urlencode(form).encode()
    path = {"http-path": f"/pp/{call}.html".encode()}
    [draft] = (dialect or Pragmatic()).reader(material)(
        raw_record("pragmatic", value), headers | path
    )
    assert isinstance(draft, Draft)
    return draft


def reason(*args: Any, **kwargs: Any) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        read(*args, **kwargs)
    assert SECRET not in str(caught.value)
    return caught.value.reason


def money(draft: Draft) -> list[tuple[str, int | None, str | None]]:
    return [
        (leg.kind, leg.amount.unscaled if leg.amount else None, leg.currency) for leg in draft.legs
    ]


# --- the hash ---------------------------------------------------------------------------------------------------------


def test_the_hash_of_the_integrators() -> None:
    form = FORM | {"hash": "16301fb0a63e975ccf663cefb8917d5d"}
    assert read("bet", form, material=KEY).signature == "VALID"
    assert read("bet", dict(reversed(form.items())), material=KEY).signature == "VALID"
    assert read("bet", form | {"hash": form["hash"].upper()}, material=KEY).signature == "VALID"
    for name in FORM:
        assert (
            reason("bet", form | {name: form[name] + "1"}, material=KEY) is RejectCode.BAD_SIGNATURE
        )
    assert reason("bet", form | {"novelty": "1"}, material=KEY) is RejectCode.BAD_SIGNATURE
    assert reason("bet", FORM, material=KEY) is RejectCode.MISSING_SIGNATURE
    assert reason("bet", form | {"hash": "ü"}, material=KEY) is RejectCode.BAD_SIGNATURE
    with pytest.raises(UsageError):
        Pragmatic().reader({})


def test_the_hash_is_over_values_as_decoded_and_without_line_breaks() -> None:
    odd = FORM | {"roundDetails": "spin,\r\ntotalBet:1.5 &+%=ünï", "novelty": "x=y"}
    assert read("bet", sign(odd), material=KEY).signature == "VALID"


def test_empty_fields_may_or_may_not_count() -> None:
    form = FORM | {"bonusCode": "", "token": ""}
    assert read("bet", sign(form), material=KEY).signature == "VALID"
    assert (
        read("bet", sign(FORM) | {"bonusCode": "", "token": ""}, material=KEY).signature == "VALID"
    )
    assert reason("bet", sign(FORM) | {"bonusCode": "x"}, material=KEY) is RejectCode.BAD_SIGNATURE


# --- calls ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "legs", "waits"),
    [
        ("bet", [("BET", 150, "EUR")], True),
        ("result", [("WIN", 150, "EUR")], False),
        ("bonusWin", [("INFORMATIONAL", 150, "EUR")], False),
        ("jackpotWin", [("JACKPOT_WIN", 150, "EUR")], False),
        ("refund", [("ROLLBACK", None, None)], False),
        ("adjustment", [("ADJUSTMENT", 150, "EUR")], False),
        ("endRound", [("ROUND_CLOSE", None, "EUR")], False),
    ],
)
def test_calls(call: str, legs: list[Any], waits: bool) -> None:
    draft = read(call)
    assert money(draft) == legs
    assert (draft.operation, draft.player_id, draft.decision_required) == (call, "p-1001", waits)
    assert (draft.round_id, draft.game_id, draft.provider_at) == (
        "7000001234",
        "vs20demo",
        1790000000123,
    )
    assert draft.round_closed is (call == "endRound")


def test_a_refund_is_under_its_bets_reference() -> None:
    few = {name: FORM[name] for name in ("providerId", "userId", "reference")}
    draft = read("refund", few, headers={})
    assert draft.reference is not None
    assert (draft.reference.operation, draft.reference.tx_id, draft.provider_tx_id) == (
        "bet",
        *[FORM["reference"]] * 2,
    )
    assert (draft.round_id, draft.game_id, draft.provider_at) == (None, None, None)


def test_a_result_may_bring_a_prize() -> None:
    prize = {"promoWinAmount": "20", "promoWinReference": "x", "promoCampaignID": "1042"}
    draft = read("result", FORM | {"amount": "0"} | prize)
    assert money(draft) == [("WIN", 0, "EUR"), ("PROMO_WIN", 20, "EUR")]
    assert draft.legs[1].campaign_id == "1042"
    for nothing in ("", "0", "0.00"):
        assert money(read("result", FORM | {"promoWinAmount": nothing})) == [("WIN", 150, "EUR")]
    for wrong in ("-1", "x", "1e400"):
        assert reason("result", FORM | {"promoWinAmount": wrong}) is RejectCode.BAD_AMOUNT
    assert reason("result", FORM | {"promoWinAmount": "0.001"}) is RejectCode.AMOUNT_SCALE


def test_a_promotion_names_its_own_currency() -> None:
    form = {k: FORM[k] for k in ("providerId", "userId", "amount", "reference", "timestamp")}
    form |= {"campaignId": "c-1", "campaignType": "T", "currency": "sek"}
    draft = read("promoWin", form, headers={})
    assert money(draft) == [("PROMO_WIN", 150, "SEK")]
    assert (draft.legs[0].campaign_id, draft.round_id) == ("c-1", None)
    assert reason("promoWin", form | {"currency": ""}) is RejectCode.MISSING_FIELD


def test_bonus_win_pays_only_where_the_contract_says_so() -> None:
    assert money(read("bonusWin", dialect=Pragmatic(bonus_win_pays=True))) == [("WIN", 150, "EUR")]


def test_a_free_rounds_bet() -> None:
    code = {"bonusCode": "frb-1"}
    for amount, dialect, free in (
        ("0", Pragmatic(), True),
        ("0.00", Pragmatic(), True),
        ("1", Pragmatic(), False),
        ("1", Pragmatic(bonus_code_is_free=True), True),
    ):
        [leg] = read("bet", FORM | code | {"amount": amount}, dialect).legs
        assert (leg.is_free, leg.campaign_id) == (free, "frb-1")
    [leg] = read("bet", FORM | {"amount": "0"}).legs
    assert not leg.is_free


def test_an_adjustment_has_a_sign() -> None:
    assert money(read("adjustment", FORM | {"amount": "-0.50"})) == [("ADJUSTMENT", -50, "EUR")]
    for call in ("bet", "result", "bonusWin", "jackpotWin"):
        assert reason(call, FORM | {"amount": "-0.50"}) is RejectCode.BAD_AMOUNT


def test_the_end_of_a_round_is_the_players_own() -> None:
    first, again = (
        read("endRound"),
        read("endRound", FORM | {"timestamp": "", "roundDetails": "x", "win": "7"}),
    )
    other = read("endRound", FORM | {"userId": "p-1002"})
    assert first.provider_tx_id == again.provider_tx_id != other.provider_tx_id
    assert money(read("endRound", headers={})) == [("ROUND_CLOSE", None, None)]


def test_the_connector_says_the_currency() -> None:
    assert reason("bet", headers={}) is RejectCode.MISSING_FIELD
    assert reason("bet", headers={"currency": b"XQQ"}) is RejectCode.BAD_CURRENCY
    assert money(read("bet", headers={"currency": b"eur"})) == [("BET", 150, "EUR")]


@pytest.mark.parametrize("name", ["userId", "gameId", "roundId", "amount", "reference"])
def test_what_a_bet_cannot_do_without(name: str) -> None:
    assert reason("bet", {k: v for k, v in FORM.items() if k != name}) is RejectCode.MISSING_FIELD
    assert reason("bet", FORM | {name: ""}) is RejectCode.MISSING_FIELD
    if name != "amount":
        assert reason("bet", FORM | {name: "a\0b"}) is RejectCode.BAD_FIELD
        assert reason("bet", FORM | {name: "x" * 129}) is RejectCode.BAD_FIELD


@pytest.mark.parametrize("at", ["x", "-1", "1.5", "9" * 16, "\u0661", "1790000000123 "])
def test_what_is_no_time(at: str) -> None:
    assert reason("bet", FORM | {"timestamp": at}) is RejectCode.BAD_TIME


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", RejectCode.MALFORMED),
        (b"\xff=1", RejectCode.MALFORMED),
        (b"userId=%ff", RejectCode.MALFORMED),
        (b"&a=1" * 300, RejectCode.MALFORMED),
        (b"userId=p&userId=q", RejectCode.BAD_FIELD),
        (b"userId=p&user%49d=q", RejectCode.BAD_FIELD),
        (b"a=1", RejectCode.MISSING_FIELD),
    ],
)
def test_what_is_no_form_of_theirs(body: bytes, expected: RejectCode) -> None:
    assert reason("bet", body) is expected


@pytest.mark.parametrize(
    "path", [b"", b"/bet", b"/Bet.html", b"/balance.html", b"/bet.html/", b"/roundDetails.html"]
)
def test_any_other_path_is_no_wallet_transaction(path: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        Pragmatic().reader(None)(raw_record("pragmatic", urlencode(FORM)), {"http-path": path})
    assert caught.value.reason is RejectCode.UNKNOWN_OPERATION


def test_a_body_can_be_shown_without_its_session() -> None:
    for name in ("token", "%74oken", "tok%65n"):
        shown = Pragmatic().redact(f"userId=p&{name}=s3cret&x".encode())
        assert b"s3cret" not in shown
        assert shown.startswith(b"userId=p&")
        assert shown.endswith(b"&x")


# --- answers ----------------------------------------------------------------------------------------------------------


def outcome(
    call: str, what: str, why: str = "", balance: int | None = 123_456, scale: int = 2
) -> WalletOutcome:
    attempt = Attempt("provider.pragmatic.raw.v1", 3, 42)
    known = balance is not None
    return WalletOutcome(
        "e-1",
        "default",
        "pragmatic",
        call,
        "r",
        attempt,
        "p-1001",
        what,
        why,
        "No.",
        "EUR" if known else None,
        scale if known else None,
        balance,
        7 if known else None,
    )


def answer(call: str, result: WalletOutcome | Rejected, dialect: Pragmatic | None = None) -> bytes:
    request = raw_record("pragmatic", urlencode(FORM), {"http-path": f"/pp/{call}.html"})
    reply = (dialect or Pragmatic()).answer(request, [result])
    assert (reply.status, reply.content_type) == (200, "application/json")
    return reply.body


def test_a_success_tells_the_balance_exactly() -> None:
    body = answer("bet", outcome("bet", Outcome.POSTED))
    assert body == (
        b'{"transactionId":"e-1","currency":"EUR","cash":1234.56,"bonus":0,"usedPromo":0,"error":0,'
        b'"description":"Success"}'
    )
    exact = answer(
        "result", outcome("result", Outcome.EXISTS, balance=9_007_199_254_740_993, scale=8)
    )
    assert b'"cash":90071992.54740993,' in exact
    assert b"usedPromo" not in exact
    assert b'"cash":-0.05,' in answer(
        "adjustment", outcome("adjustment", Outcome.POSTED, balance=-5)
    )


def test_what_an_answer_leaves_out() -> None:
    assert set(json.loads(answer("refund", outcome("refund", Outcome.POSTED)))) == {
        "transactionId",
        "error",
        "description",
    }
    assert set(json.loads(answer("endRound", outcome("endRound", Outcome.INFORMATIONAL)))) == {
        "currency",
        "cash",
        "bonus",
        "error",
        "description",
    }
    assert "cash" not in json.loads(
        answer("result", outcome("result", Outcome.POSTED, balance=None))
    )


@pytest.mark.parametrize(
    ("call", "what", "why", "error"),
    [
        ("bet", "REFUSED_FUNDS", "NOT_ENOUGH_MONEY", 1),
        ("bet", "REFUSED_BLOCKED", "PLAYER_BLOCKED", 6),
        ("bet", "REFUSED_LIMIT", "BET_OVER_LIMIT", 50),
        ("bet", "REFUSED_EXPIRED", "", 3),
        ("bet", "CONFLICT", "OTHER_CONTENT_UNDER_SAME_ID", 120),
        ("bet", "TOMBSTONED", "ROLLBACK_PRECEDED", 120),
        ("bet", "CANCELLED", "CONNECTOR_TIMED_OUT", 120),
        ("bet", "EXISTS", "BOOKED", 0),
        ("result", "UNRESOLVED", "BALANCE_OUT_OF_RANGE", 120),
        ("result", "SOMETHING_NEW", "", 120),
        ("refund", "TOMBSTONED", "REFERENCE_NOT_SEEN_YET", 0),
        ("refund", "POSTED", "NOTHING_TO_REVERSE", 0),
        ("refund", "POSTED", "ALREADY_CLOSED", 0),
        ("refund", "REFUSED_REFERENCE", "BET_SETTLED", 120),
        ("bonusWin", "INFORMATIONAL", "NOTED", 0),
    ],
)
def test_errors(call: str, what: str, why: str, error: int) -> None:
    response = json.loads(answer(call, outcome(call, what, why)))
    assert response["error"] == error
    assert ("cash" in response) == (error == 0 and call != "refund")


def test_whether_an_unknown_bets_refund_succeeds_is_a_setting() -> None:
    strict = Pragmatic(unknown_refund_succeeds=False)
    unknown = outcome("refund", Outcome.TOMBSTONED, "REFERENCE_NOT_SEEN_YET")
    assert json.loads(answer("refund", unknown, strict))["error"] == 120


def test_rejections() -> None:
    assert json.loads(answer("bet", Rejected(RejectCode.BAD_SIGNATURE, "")))["error"] == 5
    assert json.loads(answer("bet", Rejected(RejectCode.MISSING_SIGNATURE, "")))["error"] == 5
    assert json.loads(answer("bet", Rejected(RejectCode.BAD_AMOUNT, "")))["error"] == 7


# --- anything at all --------------------------------------------------------------------------------------------------

CALLS = [
    "bet",
    "result",
    "bonusWin",
    "jackpotWin",
    "promoWin",
    "refund",
    "adjustment",
    "endRound",
    "other",
]
NAMES = [*FORM, "hash", "promoWinAmount", "campaignId", "currency", "bonusCode"]


@given(
    call=st.sampled_from(CALLS),
    fields=st.dictionaries(st.sampled_from(NAMES), st.text(max_size=140), max_size=3),
    keyed=st.booleans(),
)
def test_nothing_but_a_rejection_comes_of_any_field(
    call: str, fields: dict[str, str], keyed: bool
) -> None:
    with suppress(Rejected):
        draft = read(call, FORM | fields, material=KEY if keyed else None)
        assert draft.legs
        assert not keyed


@given(fields=st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=20), max_size=6))
def test_any_form_signed_as_they_sign_is_valid(fields: dict[str, str]) -> None:
    form = sign(
        FORM | {name: text for name, text in fields.items() if name not in FORM and name != "hash"}
    )
    assert dict(parse_qsl(urlencode(form), keep_blank_values=True)) == form
    assert read("refund", form, material=KEY).signature == "VALID"


PRIZE = {"promoWinAmount": "25.00", "promoCampaignID": "c-1"}


@pytest.mark.parametrize(
    "hidden",
    [
        {"promoCampaignID": "c-1&promoWinAmount=25.00"},
        {"promoCampaignID": "c-1", "promoWin\nAmount": "25.00"},
        {"promoCampaignID": "c-1\r&promoWin\rAmount=25.00"},
        {"promoCampaignID=c-1&promoWinAmount": "25.00"},
    ],
)
def test_a_hash_does_not_sign_a_form_in_which_a_field_is_hidden(hidden: dict[str, str]) -> None:
    signed = sign(FORM | PRIZE)
    assert money(read("result", signed, material=KEY)) == [
        ("WIN", 150, "EUR"),
        ("PROMO_WIN", 2500, "EUR"),
    ]
    forged = {"hash": signed["hash"], **FORM, **hidden}
    assert (
        sign({name: forged[name] for name in forged if name != "hash"})["hash"] == signed["hash"]
    ), "else no attack"
    assert reason("result", forged, material=KEY) is RejectCode.BAD_SIGNATURE


def test_a_signed_text_may_hold_ampersands() -> None:
    form = sign(FORM | {"roundDetails": "spin&bet=1.50&total=3", "userId": "a&b=c%20d+e"})
    assert read("bet", form, material=KEY).player_id == "a&b=c%20d+e"
