from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.errors import RejectCode, Rejected, UsageError
from schemas.events import Cause
from schemas.identity import HOUSE_REFERENCES
from streams.providers.dialect import Draft
from streams.providers.house import House
from tests.support.dialect_records import raw_record

COMMON: dict[str, Any] = {"id": "i-1", "player_id": "p-1", "at": "2026-09-21T14:13:20.250Z"}
MONEY = {"amount": "25.00", "currency": "EUR"}
WHO = {"actor": "kim", "reason": "because"}
WITHDRAWAL = {"withdrawal_id": "wd-1"}
BONUS = MONEY | {"campaign_id": "C-1"}

# operation, its own fields, kind, has money, reference
OPERATIONS: list[tuple[str, dict[str, Any], str, bool, str | None]] = [
    ("deposit.opened", MONEY | {"psp": "adyen"}, "INFORMATIONAL", True, None),
    ("withdrawal.requested", MONEY, "WITHDRAWAL", True, None),
    ("withdrawal.approved", WITHDRAWAL, "INFORMATIONAL", False, "withdrawal.requested"),
    ("withdrawal.paid", WITHDRAWAL, "WITHDRAWAL", False, "withdrawal.requested"),
    (
        "withdrawal.refused",
        WITHDRAWAL | {"reason": "x"},
        "WITHDRAWAL_REVERSAL",
        False,
        "withdrawal.requested",
    ),
    ("adjustment", MONEY | WHO, "ADJUSTMENT", True, None),
    ("adjustment.proposed", MONEY | WHO, "INFORMATIONAL", True, None),
    (
        "adjustment.approved",
        {"actor": "lee", "proposal_id": "wd-1"},
        "ADJUSTMENT",
        False,
        "adjustment.proposed",
    ),
    ("bonus.granted", BONUS, "BONUS_GRANT", True, None),
    ("bonus.released", BONUS, "BONUS_RELEASE", True, None),
    ("bonus.forfeited", BONUS, "BONUS_FORFEIT", True, None),
    ("player.blocked", WHO, "PLAYER_STATE", False, None),
    ("player.held", WHO, "PLAYER_STATE", False, None),
    ("player.released", WHO, "PLAYER_STATE", False, None),
    ("player.limited", MONEY | WHO, "PLAYER_STATE", True, None),
]


def read(operation: str, **fields: Any) -> Draft:
    body = {"operation": operation} | COMMON | fields
    [draft] = House().reader(None)(raw_record("house", json.dumps(body)), {})
    assert isinstance(draft, Draft)
    return draft


def reason(operation: str, **fields: Any) -> RejectCode:
    with pytest.raises(Rejected) as caught:
        read(operation, **fields)
    return caught.value.reason


@pytest.mark.parametrize(("operation", "fields", "kind", "has_money", "referred"), OPERATIONS)
def test_what_each_operation_means(
    operation: str, fields: dict[str, Any], kind: str, has_money: bool, referred: str | None
) -> None:
    draft = read(operation, **fields)
    [leg] = draft.legs
    assert (draft.operation, draft.provider_tx_id, draft.player_id, leg.kind) == (
        operation,
        "i-1",
        "p-1",
        kind,
    )
    assert (leg.amount is not None, leg.currency) == (has_money, "EUR" if has_money else None)
    assert leg.campaign_id == fields.get("campaign_id")
    assert (draft.reference.operation if draft.reference else None) == referred
    assert draft.provider_at == 1_790_000_000_250
    assert draft.decision_required is (operation == "withdrawal.requested")


@pytest.mark.parametrize(("operation", "fields"), [(o[0], o[1]) for o in OPERATIONS])
def test_no_field_of_an_operation_can_be_left_out(operation: str, fields: dict[str, Any]) -> None:
    for name in (*fields, *COMMON):
        body = {"operation": operation} | COMMON | fields
        del body[name]
        with pytest.raises(Rejected) as caught:
            House().reader(None)(raw_record("house", json.dumps(body)), {})
        assert caught.value.reason is RejectCode.MISSING_FIELD, name


def test_a_heartbeat_names_no_player() -> None:
    body = {"operation": "heartbeat", "id": "hb-1", "at": COMMON["at"]}
    [draft] = House().reader(None)(raw_record("house", json.dumps(body)), {})
    assert isinstance(draft, Draft)
    assert (draft.player_id, draft.legs[0].kind) == (None, "HEARTBEAT")


def test_who_is_the_cause() -> None:
    assert read("player.blocked", **WHO).cause == Cause("operator", "i-1", "kim", "because")
    assert read("player.blocked", **WHO, alert_id="A-1").cause == Cause(
        "alert", "A-1", "kim", "because"
    )
    assert read("adjustment", **MONEY, **WHO).cause == Cause("operator", "i-1", "kim", "because")
    assert read("deposit.opened", **MONEY, psp="adyen").cause == Cause("psp", "adyen")


def test_a_block_may_name_its_owner() -> None:
    assert read("player.released", **WHO, source="kyc").cause == Cause(
        "kyc", "i-1", "kim", "because"
    )
    assert read("adjustment.approved", actor="lee", proposal_id="a").cause == Cause(
        "operator", "i-1", "lee", "approved"
    )
    with pytest.raises(Rejected):
        read("player.released", **WHO, source="somebody")


def test_a_limit_is_taken_away_currency_by_currency() -> None:
    [leg] = read("player.unlimited", **WHO, currency="eur").legs
    assert (leg.amount, leg.currency) == (None, "EUR")


def test_what_has_to_be_wagered_stands_beside_the_grant() -> None:
    grant, wagering = read("bonus.granted", **BONUS, wagering_amount="875.00").legs
    assert (grant.kind, wagering.kind, wagering.currency, wagering.campaign_id) == (
        "BONUS_GRANT",
        "WAGERING",
        "EUR",
        "C-1",
    )
    assert wagering.amount is not None
    assert wagering.amount.unscaled == 875 * 10**wagering.amount.scale
    for amount in ("-1", "0.001"):
        with pytest.raises(Rejected):
            read("bonus.granted", **BONUS, wagering_amount=amount)


def test_only_an_adjustment_may_be_below_zero() -> None:
    below = {"amount": "-0.01", "currency": "EUR"}
    leg = read("adjustment", **below, **WHO).legs[0]
    assert leg.amount is not None
    assert leg.amount.unscaled == -1
    for operation, fields, *_ in OPERATIONS:
        if "amount" in fields and not operation.startswith("adjustment"):
            assert reason(operation, **(fields | below)) is RejectCode.BAD_AMOUNT, operation


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00+14:00", "1969-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999-14:00"]
)
def test_a_time_that_no_reader_can_print_is_none(at: str) -> None:
    assert reason("deposit.opened", **MONEY, psp="adyen", at=at) is RejectCode.BAD_TIME


@pytest.mark.parametrize("amount", ["1.005", "0.001", "1e-3"])
def test_no_part_of_a_cent(amount: str) -> None:
    assert reason("withdrawal.requested", amount=amount, currency="EUR") is RejectCode.AMOUNT_SCALE


@pytest.mark.parametrize("amount", ["1.50", "1.5000", "15e-1", "+1.5"])
def test_an_amount_is_what_is_printed(amount: str) -> None:
    leg = read("withdrawal.requested", amount=amount, currency="EUR").legs[0]
    assert leg.amount is not None
    assert leg.amount.unscaled * 2 == 3 * 10**leg.amount.scale


@pytest.mark.parametrize(
    "amount", ["", " ", "1,5", "0x1", "Infinity", "1_0", chr(0x661), "9" * 40, "1e30"]
)
def test_what_is_no_amount(amount: str) -> None:
    assert reason("withdrawal.requested", amount=amount, currency="EUR") is RejectCode.BAD_AMOUNT


@pytest.mark.parametrize("amount", [1, 1.5, True, None, [], {}])
def test_an_amount_is_text(amount: Any) -> None:
    assert reason("withdrawal.requested", amount=amount, currency="EUR") is RejectCode.BAD_AMOUNT


def test_the_references_of_payment_providers_are_operations_here() -> None:
    assert {operation for operation, *_ in OPERATIONS} >= HOUSE_REFERENCES


def test_a_key_that_is_none_ends_the_start() -> None:
    with pytest.raises(UsageError):
        House().reader({})


def test_a_reason_that_postgresql_could_not_store_is_written_otherwise_and_books_all_the_same() -> (
    None
):
    for operation, more in [
        ("adjustment.proposed", MONEY | WHO),
        ("withdrawal.refused", WITHDRAWAL),
        ("player.held", WHO),
    ]:
        cause = read(operation, **more | {"reason": "ошибка\0in\nline 2"}).cause
        assert cause is not None
        assert cause.reason == r"ошибка\x00in\nline 2"
