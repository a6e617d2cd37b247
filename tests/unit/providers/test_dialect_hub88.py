from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.errors import RejectCode, Rejected, UsageError
from streams.providers.dialect import Draft, UnreadableItem
from streams.providers.hub88 import Hub88
from tests.support.dialect_records import hub88_signature, keyring, raw_record

BET: dict[str, Any] = {
    "user": "p-1",
    "transaction_uuid": "t-1",
    "round": "R-1",
    "round_closed": False,
    "amount": 150000,
    "currency": "EUR",
    "game_code": "acme",
}


def read(
    body: dict[str, Any] | bytes, path: str = "/transaction/bet", dialect: Hub88 | None = None
) -> Draft:
    value = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers: dict[str, bytes | None] = {"http-path": path.encode()}
    [draft] = (dialect or Hub88()).reader(None)(raw_record("hub88", value), headers)
    assert isinstance(draft, Draft)
    return draft


@pytest.mark.parametrize(
    ("operation", "waits"), [("bet", True), ("win", False), ("rollback", False)]
)
def test_only_a_bet_awaits_our_answer(operation: str, waits: bool) -> None:
    draft = read(BET | {"reference_transaction_uuid": "t-0"}, f"/transaction/{operation}")
    assert draft.operation == operation
    assert draft.decision_required is waits


def test_more_than_32_bits_of_money() -> None:
    amount = read(BET | {"amount": 21_474_840_000_000}).legs[0].amount
    assert amount is not None
    assert (amount.unscaled, amount.scale) == (21_474_840_000_000, 5)


@pytest.mark.parametrize(
    ("fields", "game"),
    [
        ({"game_code": "acme", "game_id": 7}, "acme"),
        ({"game_code": "", "game_id": 7}, "7"),
        ({"game_code": None, "game_id": None}, None),
    ],
)
def test_the_game_is_its_code_else_its_number(fields: dict[str, Any], game: str | None) -> None:
    assert read(BET | fields).game_id == game


def test_null_flags_and_empty_ids_are_missing_ones() -> None:
    draft = read(BET | {"is_free": None, "round_closed": None, "round": "", "reward_uuid": ""})
    assert (draft.round_id, draft.round_closed) == (None, False)
    assert (draft.legs[0].is_free, draft.legs[0].campaign_id) == (False, None)


PRIZE = BET | {"transaction_uuid": "w-1", "amount": 500000, "is_supplier_promo": True}
INFO = {"supplier_promo_info": {"promo_reference": "T-9"}}


@pytest.mark.parametrize("flag", [True, "true"])
@pytest.mark.parametrize("more", [{}, {"is_free": None}, {"is_free": False}, {"is_free": True}])
@pytest.mark.parametrize("path", ["/transaction/win", "/transaction/bet"])
def test_what_the_supplier_pays_is_free(flag: Any, more: dict[str, Any], path: str) -> None:
    [leg] = read(PRIZE | {"is_supplier_promo": flag} | more, path).legs
    assert leg.is_free
    assert leg.campaign_id is None


@pytest.mark.parametrize("flag", [False, "false", None])
def test_any_other_win_is_as_ever(flag: Any) -> None:
    fields = {"is_supplier_promo": flag, "reference_transaction_uuid": "t-0", "meta": INFO}
    draft = read(PRIZE | fields, "/transaction/win")
    assert (draft.legs[0].is_free, draft.legs[0].campaign_id) == (False, None)
    assert draft.reference is not None


@pytest.mark.parametrize("flag", ["TRUE", "yes", "", 1, 0, [], {}])
def test_a_flag_that_is_neither_true_nor_false_is_rejected(flag: Any) -> None:
    with pytest.raises(Rejected) as caught:
        read(PRIZE | {"is_supplier_promo": flag}, "/transaction/win")
    assert caught.value.reason is RejectCode.BAD_FIELD
    assert "is_supplier_promo" in caught.value.detail


@pytest.mark.parametrize("path", ["/transaction/win", "/transaction/bet"])
def test_what_is_not_billed_moves_the_same_money(path: str) -> None:
    as_ever = read(BET, path)
    assert as_ever.is_billable
    for flag in (True, "true", None):
        assert read(BET | {"is_billable": flag}, path) == as_ever
    for flag in (False, "false"):
        draft = read(BET | {"is_billable": flag}, path)
        assert not draft.is_billable
        assert draft.legs == as_ever.legs
    with pytest.raises(Rejected) as caught:
        read(BET | {"is_billable": "no"}, path)
    assert (caught.value.reason, "is_billable" in caught.value.detail) == (
        RejectCode.BAD_FIELD,
        True,
    )


def test_a_prize_does_not_depend_on_a_bet() -> None:
    draft = read(PRIZE | {"reference_transaction_uuid": "t-0"}, "/transaction/win")
    assert draft.reference is None


@pytest.mark.parametrize(
    ("fields", "campaign"),
    [
        ({"meta": INFO}, "T-9"),
        ({"meta": INFO, "reward_uuid": ""}, "T-9"),
        ({"meta": INFO, "reward_uuid": "r-1"}, "r-1"),
        ({"meta": {"supplier_promo_info": {"promo_reference": 17, "new": []}, "x": 1}}, "17"),
        ({"meta": {"supplier_promo_info": {"promo_reference": ""}}}, None),
        ({"meta": {"supplier_promo_info": {}}}, None),
        ({"meta": {"supplier_promo_info": None}}, None),
        ({"meta": {"supplier_promo_info": "T-9"}}, None),
        ({"meta": {"supplier_promo_info": {"promo_reference": ["T-9"]}}}, None),
        ({"meta": {}}, None),
        ({"meta": None}, None),
        ({"meta": "T-9"}, None),
        ({"meta": [1]}, None),
        ({}, None),
    ],
)
def test_the_campaign_of_a_prize(fields: dict[str, Any], campaign: str | None) -> None:
    assert read(PRIZE | fields, "/transaction/win").legs[0].campaign_id == campaign


@pytest.mark.parametrize("meta", [None, "x", 7, [1], {"deep": [{}]}])
def test_the_meta_of_other_messages_is_not_read(meta: Any) -> None:
    for path in ("/transaction/bet", "/transaction/win", "/transaction/rollback"):
        fields = {"meta": meta, "reference_transaction_uuid": "t-0"}
        assert read(BET | fields, path) == read(BET | fields | {"meta": None}, path)


def test_unknown_fields_are_tolerated() -> None:
    new = {"is_aggregated": True, "supplier_transaction_id": "s", "x": {}}
    assert read(BET | new) == read(BET)


def test_what_a_rollback_refers_to_is_a_setting() -> None:
    body = {"user": "p-1", "transaction_uuid": "t-2", "reference_transaction_uuid": "t-1"}
    draft = read(body, "/transaction/rollback", Hub88(rollback_of="win"))
    assert draft.reference is not None
    assert (draft.reference.operation, draft.reference.tx_id) == ("win", "t-1")


def test_a_rollbacks_own_amount_is_not_used() -> None:
    draft = read(BET | {"reference_transaction_uuid": "t-1"}, "/transaction/rollback")
    assert draft.legs[0].amount is None


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/user/balance",
        "/user/info",
        "/transaction",
        "/transaction/",
        "/transaction/bet/x",
        "bet",
    ],
)
def test_any_other_path_is_no_wallet_transaction(path: str) -> None:
    with pytest.raises(Rejected) as caught:
        read(BET, path)
    assert caught.value.reason is RejectCode.UNKNOWN_OPERATION


def test_no_path_at_all() -> None:
    with pytest.raises(Rejected) as caught:
        Hub88().reader(None)(raw_record("hub88", json.dumps(BET)), {})
    assert caught.value.reason is RejectCode.UNKNOWN_OPERATION


@pytest.mark.parametrize(
    "field",
    [
        "user",
        "transaction_uuid",
        "round",
        "game_code",
        "game_id",
        "reward_uuid",
        "reference_transaction_uuid",
    ],
)
def test_no_id_holds_what_a_database_cannot(field: str) -> None:
    with pytest.raises(Rejected) as caught:
        read(
            {k: v for k, v in BET.items() if k != "game_code"} | {field: "a\0b"}, "/transaction/win"
        )
    assert caught.value.reason is RejectCode.BAD_FIELD
    assert field in caught.value.detail


def test_the_player_is_known_once_the_body_is() -> None:
    with pytest.raises(UnreadableItem) as caught:
        read(BET | {"amount": -1})
    assert caught.value.player_id == "p-1"


def test_the_signature_is_over_the_exact_bytes() -> None:
    reader = Hub88().reader(keyring()["hub88"])
    body = json.dumps(BET).encode()
    headers: dict[str, bytes | None] = {
        "http-path": b"/transaction/bet",
        "x-hub88-signature": hub88_signature(body),
    }
    [draft] = reader(raw_record("hub88", body), headers)
    assert isinstance(draft, Draft)
    assert draft.signature == "VALID"
    with pytest.raises(Rejected) as caught:
        reader(raw_record("hub88", body + b" "), headers)
    assert caught.value.reason is RejectCode.BAD_SIGNATURE


@pytest.mark.parametrize("material", [{}, {"public_key_pem": ""}, {"public_key_pem": "hunter2"}])
def test_a_key_that_is_none_ends_the_start_without_showing_it(material: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        Hub88().reader(material)
    assert "hunter2" not in str(caught.value)
