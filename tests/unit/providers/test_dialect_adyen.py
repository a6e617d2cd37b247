from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.errors import RejectCode, Rejected, UsageError
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser, RejectedItem
from streams.providers.adyen import Adyen
from streams.providers.dialect import Draft
from streams.providers.registry import DIALECTS
from tests.support.dialect_records import adyen_signature, keyring, raw_record

ITEM: dict[str, Any] = {
    "eventCode": "AUTHORISATION",
    "success": "true",
    "pspReference": "PSP1",
    "merchantAccountCode": "Acme",
    "merchantReference": "dep-1",
    "amount": {"currency": "EUR", "value": 1500},
    "eventDate": "2026-09-21T16:13:20.25+02:00",
}


def sign(item: dict[str, Any]) -> dict[str, Any]:
    return item | {"additionalData": {"hmacSignature": adyen_signature(item)}}


def read(
    *items: dict[str, Any], dialect: Adyen | None = None, key: bool = False, live: str = "true"
) -> Any:
    batch = {
        "live": live,
        "notificationItems": [{"NotificationRequestItem": item} for item in items],
    }
    reader = (dialect or Adyen()).reader(keyring()["adyen"] if key else None)
    return reader(raw_record("adyen", json.dumps(batch)), {})


def one(item: dict[str, Any], **how: Any) -> Draft:
    [draft] = read(item, **how)
    assert isinstance(draft, Draft), draft
    return draft


def codes(*items: dict[str, Any], **how: Any) -> list[RejectCode | None]:
    return [item.reason if isinstance(item, Rejected) else None for item in read(*items, **how)]


# event code, success -> kind, operation of the reference
MEANINGS = [
    ("AUTHORISATION", "true", "DEPOSIT", "deposit.opened"),
    ("AUTHORISATION", "false", "INFORMATIONAL", "deposit.opened"),
    ("CAPTURE", "true", "INFORMATIONAL", "deposit.opened"),
    ("CAPTURE", "false", "INFORMATIONAL", "deposit.opened"),
    ("REFUND", "true", "DEPOSIT_REVERSAL", "AUTHORISATION"),
    ("REFUND", "false", "INFORMATIONAL", "deposit.opened"),
    ("CANCELLATION", "true", "DEPOSIT_REVERSAL", "AUTHORISATION"),
    ("CANCELLATION", "false", "INFORMATIONAL", "deposit.opened"),
    ("CHARGEBACK", "true", "DEPOSIT_REVERSAL", "AUTHORISATION"),
    ("CHARGEBACK", "false", "INFORMATIONAL", "deposit.opened"),
]


@pytest.mark.parametrize(("code", "success", "kind", "referred"), MEANINGS)
def test_only_what_succeeded_moves_money(code: str, success: str, kind: str, referred: str) -> None:
    draft = one(ITEM | {"eventCode": code, "success": success, "originalReference": "PSP0"})
    assert [leg.kind for leg in draft.legs] == [kind]
    assert draft.reference is not None
    assert draft.reference.operation == referred
    assert draft.reference.tx_id == ("dep-1" if referred == "deposit.opened" else "PSP0")
    assert (draft.player_id, draft.decision_required) == (None, False)


def test_a_refusal_and_a_later_success_are_two_events() -> None:
    # Seen live with PayPal: adyen-commercetools #1324.
    refused, succeeded = one(ITEM | {"success": "false"}), one(ITEM)
    assert refused.provider_tx_id == succeeded.provider_tx_id
    assert (refused.operation, succeeded.operation) == ("AUTHORISATION:false", "AUTHORISATION")


def test_the_time_is_the_events_own() -> None:
    assert one(ITEM).provider_at == 1_790_000_000_250
    assert one({k: v for k, v in ITEM.items() if k != "eventDate"}).provider_at is None


@pytest.mark.parametrize(
    ("currency", "scale"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("ISK", 2), ("IDR", 0), ("CLP", 2)]
)
def test_the_decimals_are_adyens(currency: str, scale: int) -> None:
    amount = one(ITEM | {"amount": {"currency": currency, "value": 27900}}).legs[0].amount
    assert amount is not None
    assert (amount.unscaled, amount.scale) == (27900, scale)


def test_nothing_is_escaped_before_signing() -> None:
    for reference in (r"\:/\/slashes", "14-08-2020-09:53:00", "ünïcode"):
        assert one(sign(ITEM | {"merchantReference": reference}), key=True).signature == "VALID"


def test_a_missing_signature_is_not_a_wrong_one() -> None:
    chargeback = ITEM | {"eventCode": "CHARGEBACK", "originalReference": "PSP0"}
    lax = Adyen(unsigned_allowed=frozenset({"CHARGEBACK"}))
    for unsigned in (chargeback, chargeback | {"additionalData": {"hmacSignature": ""}}):
        assert one(unsigned, key=True, dialect=lax).signature == "MISSING_ALLOWED"
        assert codes(unsigned, key=True) == [RejectCode.MISSING_SIGNATURE]
    forged = chargeback | {"additionalData": {"hmacSignature": "x"}}
    assert codes(forged, key=True, dialect=lax) == [RejectCode.BAD_SIGNATURE]
    assert codes(ITEM, key=True, dialect=lax) == [RejectCode.MISSING_SIGNATURE]


@pytest.mark.parametrize(
    "change",
    [
        {"pspReference": "PSP2"},
        {"originalReference": "PSP0"},
        {"merchantAccountCode": "Other"},
        {"merchantReference": "dep-2"},
        {"amount": {"currency": "EUR", "value": 1501}},
        {"amount": {"currency": "USD", "value": 1500}},
        {"eventCode": "CAPTURE"},
        {"success": "false"},
    ],
)
def test_every_signed_field_counts(change: dict[str, Any]) -> None:
    assert codes(sign(ITEM) | change, key=True) == [RejectCode.BAD_SIGNATURE]


def test_a_bad_item_does_not_spoil_its_batch() -> None:
    items = [
        ITEM,
        ITEM | {"amount": 5},
        {},
        ITEM | {"pspReference": "PSP2"},
        ITEM | {"eventDate": "soon"},
    ]
    assert codes(*items) == [
        None,
        RejectCode.BAD_AMOUNT,
        RejectCode.MISSING_FIELD,
        None,
        RejectCode.BAD_TIME,
    ]


def test_an_entry_of_another_form_does_not_spoil_its_batch_either() -> None:
    good = json.dumps({"NotificationRequestItem": ITEM})
    entries = ["{}", good, "null", "7", "[]", '{"NotificationRequestItem":null}', good]
    entries += ['{"NotificationRequestItem":{"eventCode":"AUTHORISATION","success":"true"}}']
    batch = f'{{"live":"true","notificationItems":[{",".join(entries)}]}}'
    items = Adyen().reader(None)(raw_record("adyen", batch), {})
    assert [item.reason if isinstance(item, Rejected) else None for item in items] == [
        RejectCode.MISSING_FIELD,
        None,
        *[RejectCode.MALFORMED] * 4,
        None,
        RejectCode.MISSING_FIELD,
    ]
    results = Normaliser(DIALECTS, {}).normalise(raw_record("adyen", batch))
    assert [
        item.transaction.attempt.record_index
        for item in results
        if isinstance(item, AcceptedTransaction)
    ] == [1, 6]
    assert [item.record_index for item in results if isinstance(item, RejectedItem)] == [
        0,
        2,
        3,
        4,
        5,
        7,
    ]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999-14:00"])
def test_a_time_that_no_reader_can_print_is_none(at: str) -> None:
    assert codes(ITEM | {"eventDate": at}, ITEM) == [RejectCode.BAD_TIME, None]


def test_a_test_notice_is_kept_out_unless_the_installation_says_so() -> None:
    with pytest.raises(Rejected) as caught:
        read(ITEM, live="false")
    assert caught.value.reason is RejectCode.BAD_FIELD
    assert one(ITEM, dialect=Adyen(accept_test=True), live="false").provider_tx_id == "PSP1"


@pytest.mark.parametrize("material", [{}, {"hmac_hex": "no hex"}, {"hmac_hex": " "}])
def test_a_key_that_is_none_ends_the_start_without_showing_it(material: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        Adyen().reader(material)
    assert "no hex" not in str(caught.value)


@pytest.mark.parametrize(
    "moved",
    [
        {
            "pspReference": "PSP1:",
            "originalReference": "Acme",
            "merchantAccountCode": "dep",
            "merchantReference": "1",
        },
        {"originalReference": ":Acme", "merchantAccountCode": "dep", "merchantReference": "1"},
        {"originalReference": "", "merchantAccountCode": "Acme:dep", "merchantReference": "1"},
    ],
)
def test_one_signature_signs_one_reading_of_a_reference_with_a_colon(moved: dict[str, str]) -> None:
    item = sign(ITEM | {"merchantReference": "dep:1"})
    assert one(item, key=True).provider_tx_id == "PSP1"
    assert adyen_signature(ITEM | moved) == adyen_signature(
        ITEM | {"merchantReference": "dep:1"}
    ), "else no attack"
    assert codes(item | moved, key=True) == [RejectCode.BAD_SIGNATURE]
