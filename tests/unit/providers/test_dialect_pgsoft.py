from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Attempt, Outcome, WalletOutcome
from schemas.money import EXPONENTS
from streams.providers.dialect import Draft
from streams.providers.pgsoft import EXPONENTS_OF_UNITS, PGSoft
from tests.support.dialect_records import raw_record

KEY = {"secret_key": "s3cret", "operator_token": "0per4tor"}
FORM = {
    **KEY,
    "operator_player_session": "sess1on",
    "player_name": "p-1001",
    "game_id": "65",
    "parent_bet_id": "1790000000001",
    "bet_id": "1790000000002",
    "currency_code": "EUR",
    "bet_amount": "1.50",
    "win_amount": "0.40",
    "transfer_amount": "-1.10",
    "transaction_id": "1790000000001-1790000000002-106-0",
    "create_time": "1790000000123",
    "updated_time": "1790000000456",
    "is_validate_bet": "False",
    "is_end_round": "True",
}
CORRECTION = {
    **KEY,
    "player_name": "p-1001",
    "currency_code": "EUR",
    "transfer_amount": "-25",
    "adjustment_id": "1",
    "adjustment_transaction_id": "a-1",
    "adjustment_time": "1790000000789",
    "transaction_type": "900",
    "bet_type": "1",
}


def read(
    form: dict[str, str] | bytes = FORM,
    call: str = "TransferInOut",
    material: dict[str, str] | None = None,
) -> Draft:
    value = form if isinstance(form, bytes) else urlencode(form).encode()
    headers: dict[str, bytes | None] = {"http-path": f"/pg/Cash/{call}".encode()}
    [draft] = PGSoft().reader(material)(raw_record("pgsoft", value), headers)
    assert isinstance(draft, Draft)
    return draft


def reason(*args: Any, **kwargs: Any) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        read(*args, **kwargs)
    assert not any(secret in str(caught.value) for secret in KEY.values())
    return caught.value.reason


def amounts(bet: str, win: str, net: str) -> dict[str, str]:
    return FORM | {"bet_amount": bet, "win_amount": win, "transfer_amount": net}


def money(draft: Draft) -> list[tuple[str, Decimal]]:
    legs = []
    for leg in draft.legs:
        assert leg.amount is not None
        assert leg.currency == "EUR"
        legs.append((leg.kind, Decimal(leg.amount.unscaled).scaleb(-leg.amount.scale)))
    return legs


def test_one_message_is_a_bet_and_its_win() -> None:
    draft = read()
    assert money(draft) == [("BET", Decimal("1.50")), ("WIN", Decimal("0.40"))]
    assert draft.decision_required
    assert (draft.player_id, draft.provider_tx_id) == (
        "p-1001",
        "1790000000001-1790000000002-106",
    )
    assert (draft.round_id, draft.round_closed, draft.game_id) == (
        FORM["parent_bet_id"],
        True,
        "65",
    )
    assert draft.provider_at == 1790000000456
    assert read(FORM | {"updated_time": ""}).provider_at == 1790000000123


def test_the_question_whether_a_bet_arrived_is_a_retry() -> None:
    repeated = read(
        FORM
        | {
            "is_validate_bet": "True",
            "updated_time": "1790000009999",
            "operator_player_session": "",
        }
    )
    first = read()
    assert (repeated.operation, repeated.provider_tx_id, repeated.legs) == (
        first.operation,
        first.provider_tx_id,
        first.legs,
    )
    assert (repeated.player_id, repeated.round_id, repeated.game_id) == (
        first.player_id,
        first.round_id,
        first.game_id,
    )


@pytest.mark.parametrize(
    ("bet", "win", "net"),
    [
        ("1.50", "0.40", "-1.1"),
        ("1.5", "1.50", "0"),
        ("1.5", "1.50", "-0.00"),
        ("0.1", "0.3", "0.2"),
        ("1.0E+7", "0", "-1E7"),
        ("1.0E+7", "2.5E-1", "-9999999.75"),
        ("10000000000000.01", "0", "-10000000000000.01"),
    ],
)
def test_sums_that_are_right(bet: str, win: str, net: str) -> None:
    assert money(read(amounts(bet, win, net))) == [("BET", Decimal(bet)), ("WIN", Decimal(win))]


@pytest.mark.parametrize(
    ("bet", "win", "net"),
    [
        ("1.50", "0.40", "1.10"),
        ("1.50", "0.40", "-1.11"),
        ("1.50", "0.40", "-1.100000000000000001"),
        ("10000000000000.01", "0", "-10000000000000"),
        ("0", "1", "0"),
        ("-1", "0", "1"),
        ("1", "-1", "-2"),
        ("1", "0", "-1 "),
        ("1e400", "0", "-1e400"),
        ("NaN", "0", "NaN"),
    ],
)
def test_sums_that_are_wrong(bet: str, win: str, net: str) -> None:
    assert reason(amounts(bet, win, net)) is RejectCode.BAD_AMOUNT


@given(
    bet=st.decimals(0, 10**9, places=2),
    win=st.decimals(0, 10**9, places=2),
    off=st.sampled_from(
        [Decimal(0), Decimal("0.01"), Decimal("-0.01"), Decimal("0.0001"), Decimal(1)]
    ),
)
def test_the_net_must_be_exact(bet: Decimal, win: Decimal, off: Decimal) -> None:
    form = amounts(str(bet), str(win), f"{win - bet + off:f}")
    if off:
        assert reason(form) is RejectCode.BAD_AMOUNT
    else:
        assert money(read(form)) == [
            leg for leg in (("BET", bet), ("WIN", win)) if leg != ("BET", Decimal(0))
        ]


def test_a_message_without_a_bet_is_a_win_without_a_decision() -> None:
    draft = read(amounts("0.00", "3", "3") | {"is_feature": "True"})
    assert money(draft) == [("WIN", Decimal(3))]
    assert not draft.decision_required
    assert money(read(amounts("0", "0", "0"))) == [("WIN", Decimal(0))]


def test_a_free_game() -> None:
    free = {"free_game_transaction_id": "f-1", "free_game_id": "12"}
    [win] = read(amounts("0", "3", "3") | free).legs
    assert (win.kind, win.is_free, win.campaign_id) == ("WIN", True, "f-1")
    printed = read(amounts("2", "3", "3") | free)
    assert [(leg.kind, leg.is_free) for leg in printed.legs] == [("BET", True), ("WIN", True)]
    assert printed.decision_required  # a block stops free play as well
    paid = read(amounts("2", "3", "1") | free)
    assert [(leg.kind, leg.is_free) for leg in paid.legs] == [("BET", False), ("WIN", True)]
    assert reason(amounts("2", "3", "3")) is RejectCode.BAD_AMOUNT
    assert reason(amounts("2", "3", "2") | free) is RejectCode.BAD_AMOUNT


def test_a_correction_has_a_sign() -> None:
    draft = read(CORRECTION, "Adjustment")
    assert money(draft) == [("ADJUSTMENT", Decimal(-25))]
    assert (draft.provider_tx_id, draft.provider_at, draft.decision_required) == (
        "a-1",
        1790000000789,
        False,
    )
    assert money(read(CORRECTION | {"transfer_amount": "2.5E+1"}, "Adjustment")) == [
        ("ADJUSTMENT", Decimal(25))
    ]


# --- units by currency ------------------------------------------------------------------------------------------------

THOUSANDS = sorted(EXPONENTS_OF_UNITS)


def money_in(currency: str, draft: Draft) -> list[tuple[str, Decimal]]:
    legs = []
    for leg in draft.legs:
        assert leg.amount is not None
        assert leg.currency == currency
        legs.append((leg.kind, Decimal(leg.amount.unscaled).scaleb(-leg.amount.scale)))
    return legs


def test_the_table_names_what_is_printed_in_thousands() -> None:
    assert len(THOUSANDS) == 21
    assert set(EXPONENTS_OF_UNITS.values()) == {3}
    assert set(EXPONENTS_OF_UNITS) <= set(EXPONENTS)


@pytest.mark.parametrize("currency", THOUSANDS)
@pytest.mark.parametrize("spelling", [str.upper, str.lower])
@pytest.mark.parametrize("real", [None, "-2500", "-2500.00", "-2.5E+3"])
def test_a_transfer_in_thousands_is_booked_as_money(
    currency: str, spelling: Callable[[str], str], real: str | None
) -> None:
    form = amounts("5.00", "2.5", "-2.50") | {"currency_code": spelling(currency)}
    if real is not None:
        form["real_transfer_amount"] = real
    assert money_in(currency, read(form)) == [("BET", Decimal(5000)), ("WIN", Decimal(2500))]
    correction = CORRECTION | {"currency_code": spelling(currency), "transfer_amount": "-2.50"}
    if real is not None:
        correction["real_transfer_amount"] = real
    assert money_in(currency, read(correction, "Adjustment")) == [("ADJUSTMENT", Decimal(-2500))]


def test_a_free_game_in_thousands() -> None:
    free = {"free_game_transaction_id": "f-1", "currency_code": "VND"}
    printed = read(amounts("2", "3", "3") | free | {"real_transfer_amount": "3000"})
    assert money_in("VND", printed) == [("BET", Decimal(2000)), ("WIN", Decimal(3000))]
    assert [leg.is_free for leg in printed.legs] == [True, True]


@pytest.mark.parametrize("currency", ["EUR", "JPY", "CLP", "VND", "IDR"])
@pytest.mark.parametrize("factor", ["0.001", "0.999", "1", "10", "100", "1000", "-1", "-1000"])
def test_both_amounts_of_a_message_must_be_the_same_money(currency: str, factor: str) -> None:
    unit = 10 ** EXPONENTS_OF_UNITS.get(currency, 0)
    forms = (amounts("5", "3", "-2"), CORRECTION | {"transfer_amount": "-2"})
    for form, call in zip(forms, ("TransferInOut", "Adjustment"), strict=True):
        real = {"real_transfer_amount": str(-2 * Decimal(factor)), "currency_code": currency}
        if Decimal(factor) == unit:
            assert read(form | real, call).legs
        else:
            assert reason(form | real, call) is RejectCode.BAD_AMOUNT


def test_a_real_amount_that_is_not_a_number() -> None:
    for call, form in (("TransferInOut", FORM), ("Adjustment", CORRECTION)):
        assert reason(form | {"real_transfer_amount": "x"}, call) is RejectCode.BAD_AMOUNT
        assert read(form | {"real_transfer_amount": ""}, call).legs
    huge = amounts("9E+18", "0", "-9E+18") | {"currency_code": "IDR"}
    assert reason(huge) is RejectCode.BAD_AMOUNT


# --- ids ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "identity"),
    [
        ("1001-1000-106-7", "1001-1000-106"),
        ("1001-1000-106-9", "1001-1000-106"),
        ("1001-1000-107-7", "1001-1000-107"),  # another type
        ("1002-1000-106-7", "1002-1000-106"),  # another spin of the round
        ("1001-1000-106", "1001-1000-106"),
        ("1001-1000", "1001-1000"),
        ("1001", "1001"),
        ("1001-1000-106-", "1001-1000-106-"),
        ("1001--106-7", "1001--106-7"),
        ("b1001-p1000-106-7", "b1001-p1000-106"),
        ("ünï-çødé-106-7", "ünï-çødé-106-7"),
        ("f81d4fae-7dec-41d0-a765-00a0c91e6bf6", "f81d4fae-7dec-41d0-a765-00a0c91e6bf6"),
    ],
)
def test_the_balance_id_is_not_part_of_the_identity(sent: str, identity: str) -> None:
    assert read(FORM | {"transaction_id": sent}).provider_tx_id == identity


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_a_line_break_after_the_form_belongs_to_no_field(ending: bytes) -> None:
    assert read(urlencode(FORM).encode() + ending) == read()


@pytest.mark.parametrize(
    "name",
    [
        "player_name",
        "parent_bet_id",
        "currency_code",
        "bet_amount",
        "win_amount",
        "transfer_amount",
        "transaction_id",
    ],
)
def test_what_a_transfer_cannot_do_without(name: str) -> None:
    assert reason({k: v for k, v in FORM.items() if k != name}) is RejectCode.MISSING_FIELD
    assert reason(FORM | {name: ""}) is RejectCode.MISSING_FIELD


def test_fields_that_cannot_be() -> None:
    assert reason(FORM | {"currency_code": "XQQ"}) is RejectCode.BAD_CURRENCY
    assert reason(amounts("1.005", "0", "-1.005")) is RejectCode.AMOUNT_SCALE
    assert reason(FORM | {"updated_time": "soon"}) is RejectCode.BAD_TIME
    assert reason(FORM | {"is_end_round": "maybe"}) is RejectCode.BAD_FIELD
    assert reason(FORM | {"player_name": "a\0b"}) is RejectCode.BAD_FIELD
    assert reason(FORM | {"transaction_id": "x" * 129}) is RejectCode.BAD_FIELD
    assert reason(b"{}") is RejectCode.MALFORMED
    assert reason(FORM, "Get") is RejectCode.UNKNOWN_OPERATION


def test_the_secrets() -> None:
    assert read().signature == "NOT_CHECKED"
    assert read(material=KEY).signature == "VALID"
    for name in KEY:
        assert reason(FORM | {name: "guess"}, material=KEY) is RejectCode.BAD_SIGNATURE
        assert reason(FORM | {name: "gäss"}, material=KEY) is RejectCode.BAD_SIGNATURE
        assert reason(FORM | {name: ""}, material=KEY) is RejectCode.MISSING_SIGNATURE
        with pytest.raises(UsageError):
            PGSoft().reader({k: v for k, v in KEY.items() if k != name})


def test_a_body_can_be_shown_without_its_secrets() -> None:
    body = urlencode(FORM).replace("operator_token", "operator%5Ftoken").encode()
    for value in (body, body[: body.index(b"s3cret") + 5], body[body.index(b"s3cret") - 11 :]):
        shown = PGSoft().redact(value)
        assert not any(secret in shown for secret in (b"s3cre", b"0per4tor", b"sess1on"))
    assert b"player_name=p-1001" in PGSoft().redact(body)


# --- answers ----------------------------------------------------------------------------------------------------------


def outcome(call: str, what: str, balance: int | None = 123_456, scale: int = 2) -> WalletOutcome:
    attempt = Attempt("provider.pgsoft.raw.v1", 3, 42)
    known = balance is not None
    return WalletOutcome(
        "e-1",
        "default",
        "pgsoft",
        call,
        "t",
        attempt,
        "p-1001",
        what,
        "",
        "No.",
        "EUR" if known else None,
        scale if known else None,
        balance,
        7 if known else None,
    )


def answer(
    call: str, result: WalletOutcome | Rejected, form: dict[str, str] | None = None
) -> bytes:
    body = form or (FORM if call == "TransferInOut" else CORRECTION)
    request = raw_record("pgsoft", urlencode(body), {"http-path": f"/pg/Cash/{call}"})
    reply = PGSoft().answer(request, [result])
    assert (reply.status, reply.content_type) == (200, "application/json")
    return reply.body


@pytest.mark.parametrize("what", ["POSTED", "EXISTS"])
def test_a_success_repeats_the_time_and_tells_the_balance_exactly(what: str) -> None:
    assert answer("TransferInOut", outcome("TransferInOut", what)) == (
        b'{"data":{"currency_code":"EUR","balance_amount":1234.56,"updated_time":1790000000456},"error":null}'
    )
    exact = answer("TransferInOut", outcome("TransferInOut", what, 9_007_199_254_740_993, 8))
    assert b'"balance_amount":90071992.54740993,' in exact


def test_answers_repeat_the_real_amounts() -> None:
    thousands = {"currency_code": "IDR", "real_transfer_amount": "-1100.00"}
    assert answer("TransferInOut", idr("TransferInOut"), FORM | thousands) == (
        b'{"data":{"currency_code":"IDR","balance_amount":1234.56,"updated_time":1790000000456,'
        b'"real_transfer_amount":-1100.00},"error":null}'
    )
    thousands["real_transfer_amount"] = "-25000"
    assert answer("Adjustment", idr("Adjustment"), CORRECTION | thousands) == (
        b'{"data":{"adjust_amount":-25,"balance_before":26234.56,"balance_after":1234.56,'
        b'"updated_time":1790000000789,"real_transfer_amount":-25000},"error":null}'
    )


def idr(call: str) -> WalletOutcome:
    return replace(outcome(call, "POSTED"), currency="IDR")


def test_a_correction_is_answered_with_both_balances() -> None:
    assert answer("Adjustment", outcome("Adjustment", "POSTED")) == (
        b'{"data":{"adjust_amount":-25,"balance_before":1259.56,"balance_after":1234.56,'
        b'"updated_time":1790000000789},"error":null}'
    )


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("REFUSED_FUNDS", "3202"),
        ("REFUSED_BLOCKED", "3033"),
        ("REFUSED_LIMIT", "3033"),
        ("CANCELLED", "3033"),
        ("CONFLICT", "3032"),
        ("REFUSED_REFERENCE", "3021"),
        ("UNRESOLVED", "1200"),
        ("SOMETHING_NEW", "1200"),
    ],
)
def test_errors(what: str, code: str) -> None:
    response = json.loads(answer("TransferInOut", outcome("TransferInOut", what)))
    assert response["data"] is None
    assert response["error"]["code"] == code


@pytest.mark.parametrize(
    ("why", "code"),
    [
        (RejectCode.BAD_SIGNATURE, "1204"),
        (RejectCode.MISSING_SIGNATURE, "1204"),
        (RejectCode.MISSING_FIELD, "3001"),
        (RejectCode.BAD_AMOUNT, "3073"),
        (RejectCode.MALFORMED, "1034"),
    ],
)
def test_rejections(why: RejectCode, code: str) -> None:
    assert json.loads(answer("TransferInOut", Rejected(why, "x")))["error"]["code"] == code


def test_a_success_without_a_balance_is_an_internal_error() -> None:
    response = json.loads(answer("TransferInOut", outcome("TransferInOut", Outcome.POSTED, None)))
    assert response["error"]["code"] == "1200"


@given(
    call=st.sampled_from(["TransferInOut", "Adjustment", "x"]),
    fields=st.dictionaries(
        st.sampled_from([*FORM, *CORRECTION, "free_game_transaction_id"]),
        st.text(max_size=140),
        max_size=3,
    ),
)
def test_nothing_but_a_rejection_comes_of_any_field(call: str, fields: dict[str, str]) -> None:
    with suppress(Rejected):
        assert read(FORM | CORRECTION | fields, call).legs
