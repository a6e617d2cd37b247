"""Adyen's event codes: each has its place, and what is taken comes back once."""

from __future__ import annotations

import json
from itertools import permutations

import pytest

from replay.explain import RawBody, explain
from schemas.topics import raw_topic
from streams.drift.checking import DriftChecker
from tests.support.dialect_records import raw_record

AT = 1_795_305_600_000
MONEY = {
    "AUTHORISATION": "DEPOSIT",
    "REFUND": "DEPOSIT_REVERSAL",
    "CANCELLATION": "DEPOSIT_REVERSAL",
    "CANCEL_OR_REFUND": "DEPOSIT_REVERSAL",
    "TECHNICAL_CANCEL": "DEPOSIT_REVERSAL",
    "CAPTURE_FAILED": "DEPOSIT_REVERSAL",
    "CHARGEBACK": "DEPOSIT_REVERSAL",
    "REFUND_FAILED": "DEPOSIT",
    "REFUNDED_REVERSED": "DEPOSIT",
    "CHARGEBACK_REVERSED": "DEPOSIT",
    "SECOND_CHARGEBACK": "DEPOSIT_REVERSAL",
}
NOTICES = [
    "AUTHORISATION_ADJUSTMENT",
    "AUTORESCUE",
    "CANCEL_AUTORESCUE",
    "CAPTURE",
    "DISPUTE_DEFENSE_PERIOD_ENDED",
    "EXPIRE",
    "INFORMATION_SUPPLIED",
    "ISSUER_COMMENTS",
    "ISSUER_RESPONSE_TIMEFRAME_EXPIRED",
    "MANUAL_REVIEW_ACCEPT",
    "MANUAL_REVIEW_REJECT",
    "NOTIFICATION_OF_CHARGEBACK",
    "NOTIFICATION_OF_FRAUD",
    "POSTPONED_REFUND",
    "PREARBITRATION_ACCEPTED",
    "PREARBITRATION_DECLINED",
    "PREARBITRATION_ISSUER_WITHDRAWN",
    "PREARBITRATION_LOST",
    "PREARBITRATION_OPEN",
    "PREARBITRATION_WON",
    "REQUEST_FOR_INFORMATION",
    "SCHEME_ARBITRATION",
    "SCHEME_ARBITRATION_LOST",
    "SCHEME_ARBITRATION_WON",
    "VOID_PENDING_REFUND",
]
NOT_OURS = [
    "ACH_NOTIFICATION_OF_CHANGE",
    "DIRECT_DEBIT_NOTICE_OF_CHANGE_NOTIFICATION",
    "OFFER_CLOSED",
    "ORDER_CLOSED",
    "ORDER_OPENED",
    "PAIDOUT_REVERSED",
    "PAYOUT_DECLINE",
    "PAYOUT_EXPIRE",
    "PAYOUT_THIRDPARTY",
    "RECURRING_CONTRACT",
    "REFUND_WITH_DATA",
    "REPORT_AVAILABLE",
]
"""All 48 codes of Adyen/adyen-openapi, json/Webhooks-v1.json, of 2026-07-01."""

OPENED = {
    "operation": "deposit.opened",
    "id": "dep-1",
    "at": "2026-09-21T14:00:00Z",
    "player_id": "p-1",
    "amount": "100.00",
    "currency": "EUR",
    "psp": "adyen",
}


def notice(code: str, psp: str, value: int = 10_000, success: str = "true", **more):
    item = {
        "eventCode": code,
        "success": success,
        "pspReference": psp,
        "merchantAccountCode": "ACC",
        "merchantReference": "dep-1",
        "eventDate": "2026-11-20T10:00:00+01:00",
        "amount": {"currency": "EUR", "value": value},
    }
    return item if psp == "A1" else {**item, "originalReference": "A1", **more}


PAID = notice("AUTHORISATION", "A1")


def body_of(*items) -> str:
    return json.dumps(
        {"live": "true", "notificationItems": [{"NotificationRequestItem": i} for i in items]}
    )


def tell(*items):
    bodies = [("house", json.dumps(OPENED)), *(("adyen", body_of(item)) for item in items)]
    return explain(
        RawBody(f"{n}", raw_topic(provider), body.encode(), [], n, AT)
        for n, (provider, body) in enumerate(bodies)
    )


def balance_after(*items) -> str:
    told = tell(*items)
    assert told.rejected == []
    return told.balances()["p-1"]["EUR"]


def test_all_codes_of_adyens_list_have_a_place() -> None:
    assert len({*MONEY, *NOTICES, *NOT_OURS}) == len([*MONEY, *NOTICES, *NOT_OURS]) == 48


@pytest.mark.parametrize("code", [*MONEY, *NOTICES, *NOT_OURS])
def test_a_code_moves_what_its_description_says(code: str) -> None:
    told = tell(*([PAID] if code != "AUTHORISATION" else []), notice(code, "X1"))
    assert told.rejected == []
    event = told.events[-1].event
    assert [leg.kind for leg in event.legs] == [MONEY.get(code, "INFORMATIONAL")]
    referred = None if event.reference is None else event.reference.tx_id
    if code in MONEY and code != "AUTHORISATION":
        assert referred == "A1"
    else:
        assert referred == (None if code in NOT_OURS else "dep-1")


@pytest.mark.parametrize("code", [*MONEY, *NOTICES, *NOT_OURS])
def test_what_did_not_succeed_moves_nothing(code: str) -> None:
    told = tell(PAID, notice(code, "X1", success="false"))
    assert told.rejected == []
    assert [leg.kind for leg in told.events[-1].event.legs] == ["INFORMATIONAL"]
    assert told.balances() == {"p-1": {"EUR": "100.00"}}


@pytest.mark.parametrize("code", NOT_OURS)
def test_what_is_not_ours_is_noted_whatever_its_amount_says(code: str) -> None:
    odd = notice(code, "X1") | {
        "amount": {"currency": "XXQ", "value": -1},
        "merchantReference": "t",
    }
    assert balance_after(PAID, odd) == "100.00"


TAKEN_AND_GIVEN = [
    (("REFUND", "R1"), ("REFUND_FAILED", "R1")),
    (("REFUND", "R1"), ("REFUNDED_REVERSED", "R1")),
    (("CANCEL_OR_REFUND", "R1"), ("REFUND_FAILED", "R1")),
    (("CHARGEBACK", "D1"), ("CHARGEBACK_REVERSED", "D1")),
]


@pytest.mark.parametrize(("taken", "given"), TAKEN_AND_GIVEN)
def test_what_is_taken_comes_back_in_either_order(taken, given) -> None:
    taken, given = notice(*taken), notice(*given)
    assert balance_after(PAID, taken) == "0.00"
    assert balance_after(PAID, taken, given) == balance_after(PAID, given, taken) == "100.00"
    assert balance_after(PAID, taken, given, taken, given) == "100.00"


@pytest.mark.parametrize("order", list(permutations(["REFUND_FAILED", "REFUNDED_REVERSED"])))
def test_one_refund_that_came_back_under_two_codes_came_back_once(order) -> None:
    first, second = (notice(code, "R1") for code in order)
    assert balance_after(PAID, notice("REFUND", "R1"), first, second) == "100.00"


def test_a_dispute_is_one_reference_and_three_movements() -> None:
    codes = ("CHARGEBACK", "CHARGEBACK_REVERSED", "SECOND_CHARGEBACK")
    events = [notice(code, "D1") for code in codes]
    sums = [balance_after(PAID, *events[:n]) for n in range(4)]
    assert sums == ["100.00", "0.00", "100.00", "0.00"]
    news = [notice(code, "D1") for code in NOTICES]
    assert balance_after(PAID, *events, *news) == "0.00"


def test_two_refunds_of_one_payment_fail_each_for_itself() -> None:
    refunds = [notice("REFUND", "R1", 3000), notice("REFUND", "R2", 3000)]
    assert balance_after(PAID, *refunds, notice("REFUND_FAILED", "R2", 3000)) == "70.00"
    failed = [notice("REFUND_FAILED", f"R{n}", 3000) for n in (1, 2)]
    assert balance_after(PAID, *refunds, *failed) == "100.00"


def test_a_capture_that_failed_takes_what_it_would_have_brought() -> None:
    captured = notice("CAPTURE", "C1", 6000)
    assert balance_after(PAID, captured) == "100.00"
    assert balance_after(PAID, captured, notice("CAPTURE_FAILED", "C1", 6000)) == "40.00"


def test_what_gives_money_must_name_its_payment_and_be_signed() -> None:
    nameless = notice("REFUND_FAILED", "R1") | {"originalReference": ""}
    [(_, rejected)] = tell(PAID, nameless).rejected
    assert "originalReference" in rejected.detail


def test_unknown_fields_are_no_error() -> None:
    more = {"transactionLinkId": "t-1", "disputeStatus": "Whatever", "x": {"y": [1]}}
    grown = notice("REFUND", "R1", 3000, additionalData=more, brandNew={"a": None})
    assert balance_after(PAID, grown) == "70.00"


@pytest.mark.parametrize("name", ["disputeStatus", "fraudRiskLevel", "networkTxDate"])
def test_drift_knows_what_adyen_documents(name: str) -> None:
    grown = notice("CHARGEBACK", "D1", additionalData={name: "Undefended"})
    assert DriftChecker().check("adyen", raw_record("adyen", body_of(grown))) == []
