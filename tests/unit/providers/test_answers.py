"""The answers to the first four providers: their bytes, by outcome and by rejection."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lxml import etree

from schemas.errors import RejectCode, Rejected
from schemas.events import Attempt, Outcome, WalletOutcome
from streams.providers.adyen import Adyen
from streams.providers.dialect import Dialect, Reply
from streams.providers.house import House
from streams.providers.hub88 import Hub88
from streams.providers.playngo import PlayNGo
from tests.support.dialect_records import raw_record

HUB88_BET = (
    '{"user":"p-1","request_uuid":"r-1","transaction_uuid":"t-1","amount":150000,"currency":"EUR"}'
)


def outcome(word: str, reason: str = "", operation: str = "bet", **changes: Any) -> WalletOutcome:
    fields: dict[str, Any] = {
        "event_id": "e-1",
        "brand": "acme",
        "provider": "x",
        "operation": operation,
        "provider_tx_id": "t-1",
        "attempt": Attempt("provider.x.raw.v1", 0, 1),
        "player_id": "p-1",
        "outcome": word,
        "reason": reason,
        "message": "Fine.",
        "currency": "EUR",
        "scale": 2,
        "balance_minor": 123456,
        "version": 7,
    }
    return WalletOutcome(**(fields | changes))


def nothing_known(word: str, operation: str = "bet") -> WalletOutcome:
    return outcome(
        word, operation=operation, currency=None, scale=None, balance_minor=None, version=None
    )


def reply(dialect: Dialect, body: str | bytes, *results: WalletOutcome | Rejected) -> Reply:
    return dialect.answer(raw_record(dialect.provider, body), results)


# --- Hub88 ------------------------------------------------------------------------------------------------------------


def test_hub88_hears_its_request_again_with_status_and_balance() -> None:
    answer = reply(Hub88(), HUB88_BET, outcome("POSTED", "BOOKED"))
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert json.loads(answer.body) == {
        "user": "p-1",
        "status": "RS_OK",
        "request_uuid": "r-1",
        "currency": "EUR",
        "balance": 123456000,
    }


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (outcome("POSTED", "BOOKED_INTO_DEBT"), "RS_OK"),
        (outcome("EXISTS", "BOOKED"), "RS_OK"),
        (outcome("INFORMATIONAL", "NOTED"), "RS_OK"),
        (outcome("CONFLICT"), "RS_ERROR_DUPLICATE_TRANSACTION"),
        (outcome("REFUSED_FUNDS"), "RS_ERROR_NOT_ENOUGH_MONEY"),
        (outcome("REFUSED_BLOCKED"), "RS_ERROR_USER_DISABLED"),
        (outcome("REFUSED_LIMIT"), "RS_ERROR_LIMIT_REACHED"),
        (outcome("REFUSED_CURRENCY"), "RS_ERROR_WRONG_CURRENCY"),
        (outcome("REFUSED_EXPIRED"), "RS_ERROR_UNKNOWN"),
        (
            outcome("REFUSED_REFERENCE", "BET_NOT_FOUND", "win"),
            "RS_ERROR_TRANSACTION_DOES_NOT_EXIST",
        ),
        (
            outcome("REFUSED_REFERENCE", "BET_ROLLED_BACK", "win"),
            "RS_ERROR_TRANSACTION_DOES_NOT_EXIST",
        ),
        (outcome("TOMBSTONED", "REFERENCE_NOT_SEEN_YET", "rollback"), "RS_OK"),
        (outcome("TOMBSTONED", "ROLLBACK_PRECEDED"), "RS_ERROR_UNKNOWN"),
        (outcome("EXISTS", "ROLLBACK_PRECEDED"), "RS_ERROR_UNKNOWN"),
        (outcome("CANCELLED", "CONNECTOR_TIMED_OUT"), "RS_ERROR_UNKNOWN"),
        (nothing_known("UNRESOLVED"), "RS_ERROR_UNKNOWN"),
        (outcome("SOMETHING_NEW"), "RS_ERROR_UNKNOWN"),
        (Rejected(RejectCode.BAD_SIGNATURE, ""), "RS_ERROR_INVALID_SIGNATURE"),
        (Rejected(RejectCode.MISSING_SIGNATURE, ""), "RS_ERROR_INVALID_SIGNATURE"),
        (Rejected(RejectCode.MALFORMED, ""), "RS_ERROR_WRONG_SYNTAX"),
        (Rejected(RejectCode.BAD_AMOUNT, ""), "RS_ERROR_WRONG_TYPES"),
        (Rejected(RejectCode.BAD_CURRENCY, ""), "RS_ERROR_WRONG_CURRENCY"),
        (Rejected(RejectCode.TOO_LARGE, ""), "RS_ERROR_UNKNOWN"),
    ],
)
def test_hub88_status(result: WalletOutcome | Rejected, status: str) -> None:
    assert json.loads(reply(Hub88(), HUB88_BET, result).body)["status"] == status


def test_every_outcome_has_been_thought_of() -> None:
    shown = {
        case[0].outcome for case in _cases(test_hub88_status) if isinstance(case[0], WalletOutcome)
    }
    assert set(Outcome) <= shown


def _cases(test: Any) -> list[Any]:
    return [case for mark in test.pytestmark for case in mark.args[1]]


def test_hub88_may_want_to_hear_of_a_rollback_without_a_bet() -> None:
    result = outcome("TOMBSTONED", "REFERENCE_NOT_SEEN_YET", "rollback")
    answer = json.loads(reply(Hub88(unknown_rollback_succeeds=False), HUB88_BET, result).body)
    assert answer["status"] == "RS_ERROR_TRANSACTION_DOES_NOT_EXIST"


@pytest.mark.parametrize(
    ("currency", "scale", "minor", "units"),
    [
        ("EUR", 2, 0, 0),
        ("EUR", 2, -150, -150000),
        ("JPY", 0, 150, 15000000),
        ("KWD", 3, 1, 100),
        ("BTC", 8, 123456, 123),
        ("EUR", 2, 2**62, 2**62 * 1000),
    ],
)
def test_hub88_balance_is_in_its_own_units_and_never_more_than_there_is(
    currency: str, scale: int, minor: int, units: int
) -> None:
    answer = reply(
        Hub88(), HUB88_BET, outcome("POSTED", currency=currency, scale=scale, balance_minor=minor)
    )
    assert json.loads(answer.body)["balance"] == units


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'{"user":"\xff"}', b"[" * 100_000, b'{"user":{"a":[1]}}']
)
def test_hub88_answers_what_it_cannot_read(body: bytes) -> None:
    answer = json.loads(reply(Hub88(), body, Rejected(RejectCode.MALFORMED, "no")).body)
    assert answer["status"] == "RS_ERROR_WRONG_SYNTAX"
    assert "balance" not in answer


def test_an_unknown_balance_is_left_out_for_hub88() -> None:
    answer = json.loads(reply(Hub88(), HUB88_BET, nothing_known("POSTED")).body)
    assert answer == {"user": "p-1", "status": "RS_OK", "request_uuid": "r-1", "currency": "EUR"}


# --- Play'n GO --------------------------------------------------------------------------------------------------------


def playngo(result: WalletOutcome | Rejected, root: str = "reserve") -> tuple[str, dict[str, str]]:
    answer = reply(PlayNGo(), f"\n<{root}><externalId>p-1</externalId></{root}>", result)
    assert (answer.status, answer.content_type) == (200, "application/xml")
    element = etree.fromstring(answer.body)
    return str(element.tag), {str(child.tag): child.text or "" for child in element}


@pytest.mark.parametrize("root", ["reserve", "release", "cancelReserve"])
def test_playngo_hears_its_own_element_with_code_and_balance(root: str) -> None:
    assert playngo(outcome("POSTED", "BOOKED", root), root) == (
        root,
        {
            "statusCode": "0",
            "statusMessage": "",
            "externalTransactionId": "e-1",
            "real": "1234.56",
            "currency": "EUR",
        },
    )


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (outcome("EXISTS", "BOOKED", "reserve"), "0"),
        (outcome("CONFLICT", "", "reserve"), "12"),
        (outcome("REFUSED_FUNDS", "", "reserve"), "7"),
        (outcome("REFUSED_BLOCKED", "", "reserve"), "4"),
        (outcome("REFUSED_LIMIT", "", "reserve"), "12"),
        (outcome("REFUSED_REFERENCE", "BET_NOT_FOUND", "release"), "9"),
        (outcome("TOMBSTONED", "REFERENCE_NOT_SEEN_YET", "cancelReserve"), "0"),
        (outcome("TOMBSTONED", "ROLLBACK_PRECEDED", "reserve"), "12"),
        (outcome("EXISTS", "ROLLBACK_PRECEDED", "reserve"), "12"),
        (nothing_known("UNRESOLVED", "release"), "12"),
        (outcome("SOMETHING_NEW", "", "reserve"), "12"),
        (Rejected(RejectCode.BAD_SIGNATURE, ""), "1"),
        (Rejected(RejectCode.MISSING_SIGNATURE, ""), "1"),
        (Rejected(RejectCode.MALFORMED, ""), "12"),
    ],
)
def test_playngo_status_code(result: WalletOutcome | Rejected, code: str) -> None:
    assert playngo(result)[1]["statusCode"] == code


@pytest.mark.parametrize("body", [b"", b"<", b"nope", b"<script>1</script>", b"\xff<reserved/>"])
def test_playngo_answers_what_it_cannot_read(body: bytes) -> None:
    answer = reply(PlayNGo(), body, Rejected(RejectCode.MALFORMED, "no"))
    assert etree.fromstring(answer.body).tag == "response"


# --- Adyen ------------------------------------------------------------------------------------------------------------

FORGED = Rejected(RejectCode.BAD_SIGNATURE, "")


@pytest.mark.parametrize(
    ("results", "status"),
    [
        ((outcome("POSTED"),), 200),
        ((nothing_known("UNRESOLVED"), outcome("CONFLICT")), 200),
        ((Rejected(RejectCode.UNKNOWN_OPERATION, ""),), 200),
        ((FORGED, outcome("POSTED")), 200),
        ((FORGED,), 401),
        ((FORGED, Rejected(RejectCode.MISSING_SIGNATURE, "")), 401),
    ],
)
def test_adyen_hears_accepted_unless_nothing_was_adyens(results: Any, status: int) -> None:
    answer = reply(Adyen(), "{}", *results)
    assert (answer.status, answer.body) == (status, b"[accepted]" if status == 200 else b"")


# --- the house --------------------------------------------------------------------------------------------------------


def test_the_cashier_hears_the_outcome_as_it_is() -> None:
    answer = reply(
        House(), "{}", outcome("POSTED", "BOOKED", currency="BTC", scale=8, balance_minor=123456)
    )
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert json.loads(answer.body) == {
        "outcome": "POSTED",
        "reason": "BOOKED",
        "message": "Fine.",
        "event_id": "e-1",
        "currency": "BTC",
        "balance": "0.00123456",
    }
    assert "balance" not in json.loads(reply(House(), "{}", nothing_known("UNRESOLVED")).body)


@pytest.mark.parametrize(
    ("code", "status"), [(RejectCode.BAD_SIGNATURE, 401), (RejectCode.MISSING_FIELD, 400)]
)
def test_the_cashier_hears_what_was_rejected(code: RejectCode, status: int) -> None:
    answer = reply(House(), "{}", Rejected(code, "player_id is missing"))
    assert answer.status == status
    assert json.loads(answer.body) == {
        "outcome": "REJECTED",
        "reason": code,
        "message": "player_id is missing",
    }
