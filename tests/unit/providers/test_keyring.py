"""Keys over time: which are good for a record is judged by when it was first seen, and stays so."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import pytest

from schemas.errors import RejectCode, UsageError
from streams.normalise.mapping.normaliser import (
    AcceptedTransaction,
    ItemResult,
    Normaliser,
    RejectedItem,
)
from streams.providers.adyen import Adyen
from streams.providers.house import House
from streams.providers.keyring import reader_of
from streams.providers.registry import DIALECTS, by_provider
from streams.providers.times import ms_of_text
from tests.support.dialect_records import raw_record

OLD, NEW, LEAKED = "aa" * 32, "bb" * 32, "cc" * 32
ENTRY = [
    {"id": "old", "hmac_hex": OLD, "valid_until": "2026-11-22T12:00:00Z"},
    {"id": "new", "hmac_hex": NEW, "valid_from": "2026-11-22"},
    {
        "id": "leaked",
        "hmac_hex": LEAKED,
        "valid_from": "2026-01-01",
        "valid_until": "2026-02-01T01:00:00+01:00",
    },
]
BODY = json.dumps({"operation": "heartbeat", "id": "h-1", "at": "2026-11-22T00:00:00Z"}).encode()
NORMALISER = Normaliser(DIALECTS, {"house": ENTRY})


def beat(
    key_hex: str, seen: str, *, appended: str | None = None, normaliser: Normaliser = NORMALISER
) -> ItemResult:
    signature = hmac.digest(bytes.fromhex(key_hex), BODY, "sha256").hex()
    headers = {"x-house-signature": signature}
    if appended is not None:
        headers["received-at"] = str(ms_of_text(seen))
    [item] = normaliser.normalise(
        raw_record("house", BODY, headers, timestamp=ms_of_text(appended or seen))
    )
    return item


def verdict(item: ItemResult) -> str:
    assert isinstance(item, AcceptedTransaction | RejectedItem)
    return item.code if isinstance(item, RejectedItem) else item.transaction.signature


@pytest.mark.parametrize(
    ("key", "seen", "expected"),
    [
        (OLD, "2026-11-21T23:59:59Z", "VALID"),
        (OLD, "2026-11-22T11:59:59.999Z", "VALID"),
        (OLD, "2026-11-22T12:00:00Z", RejectCode.BAD_SIGNATURE),
        (NEW, "2026-11-21T23:59:59.999Z", RejectCode.BAD_SIGNATURE),
        (NEW, "2026-11-22T00:00:00Z", "VALID"),
        (NEW, "2036-11-22T00:00:00Z", "VALID"),
        (LEAKED, "2026-01-31T23:59:59Z", "VALID"),
        (LEAKED, "2026-02-01T00:00:00Z", RejectCode.BAD_SIGNATURE),
        ("dd" * 32, "2026-11-22T06:00:00Z", RejectCode.BAD_SIGNATURE),
    ],
)
def test_a_key_is_good_in_its_window(key: str, seen: str, expected: str) -> None:
    assert verdict(beat(key, seen)) == expected


def test_read_again_after_the_rotation_a_record_keeps_its_verdict() -> None:
    # Judged by the broker's append, however much later it is read.
    assert verdict(beat(OLD, "2026-11-22T11:30:00Z", appended="2026-11-22T12:15:00Z")) == "VALID"
    assert (
        verdict(beat(NEW, "2026-11-21T23:30:00Z", appended="2026-11-22T00:15:00Z"))
        == RejectCode.BAD_SIGNATURE
    )


def test_a_key_out_of_its_window_is_named_and_no_secret_is() -> None:
    item = beat(LEAKED, "2026-11-22T06:00:00Z")
    assert isinstance(item, RejectedItem)
    assert item.detail == "signed with key 'leaked', which was not valid then"
    unknown = beat("dd" * 32, "2026-11-22T06:00:00Z")
    assert isinstance(unknown, RejectedItem)
    assert unknown.detail == "no key signs this record: 'new', 'old'"


def test_where_no_key_is_valid_nothing_is() -> None:
    normaliser = Normaliser(DIALECTS, {"house": [ENTRY[2]]})
    item = beat("dd" * 32, "2026-11-22T06:00:00Z", normaliser=normaliser)
    assert isinstance(item, RejectedItem)
    assert (item.code, "none was valid then" in item.detail) == (RejectCode.BAD_SIGNATURE, True)


def test_other_rejections_are_the_dialects() -> None:
    [item] = NORMALISER.normalise(raw_record("house", BODY))
    assert isinstance(item, RejectedItem)
    assert item.code is RejectCode.MISSING_SIGNATURE


def test_one_entry_is_as_before() -> None:
    plain = Normaliser(DIALECTS, {"house": {"hmac_hex": NEW}})
    assert verdict(beat(NEW, "1999-01-01T00:00:00Z", normaliser=plain)) == "VALID"


def sign(key_hex: str, reference: str) -> dict[str, Any]:
    item: dict[str, Any] = {"eventCode": "CAPTURE", "success": "true", "pspReference": reference}
    text = f"{reference}::::::CAPTURE:true".encode()
    signature = base64.b64encode(hmac.digest(bytes.fromhex(key_hex), text, "sha256")).decode()
    return {"NotificationRequestItem": item | {"additionalData": {"hmacSignature": signature}}}


def test_an_old_key_spoils_its_own_items_and_not_their_batch() -> None:
    """During a rotation: an unsigned notice that may come, one of the key that went, one of the key that came."""
    unsigned = {
        "eventCode": "CHARGEBACK",
        "success": "true",
        "pspReference": "u",
        "originalReference": "o",
    }
    money = {"amount": {"currency": "EUR", "value": 100}}
    items = [
        {"NotificationRequestItem": unsigned | money},
        sign(OLD, "a"),
        sign("dd" * 32, "b"),
        sign(NEW, "c"),
    ]
    keys = [
        {"id": "old", "hmac_hex": OLD, "valid_until": "2026-09-01"},
        {"id": "new", "hmac_hex": NEW, "valid_from": "2026-08-01"},
    ]
    lax = Adyen(unsigned_allowed=frozenset({"CHARGEBACK"}))
    normaliser = Normaliser(by_provider([lax]), {"adyen": keys})
    for batch in (items, items[:2], items[1:3], items[1:2]):
        value = json.dumps({"live": "true", "notificationItems": batch})
        results = normaliser.normalise(
            raw_record("adyen", value, timestamp=ms_of_text("2026-11-22T06:00:00Z"))
        )
        expected = {
            "u": "MISSING_ALLOWED",
            "a": RejectCode.BAD_SIGNATURE,
            "b": RejectCode.BAD_SIGNATURE,
            "c": "VALID",
        }
        names = [item["NotificationRequestItem"]["pspReference"] for item in batch]
        assert [verdict(item) for item in results] == [expected[name] for name in names]
        details = {
            item.record_index: item.detail for item in results if isinstance(item, RejectedItem)
        }
        assert details[names.index("a")] == "signed with key 'old', which was not valid then"
        assert (
            "b" not in names or details[names.index("b")] == "hmacSignature does not sign this item"
        )


def test_items_of_a_batch_may_be_signed_with_different_keys() -> None:
    items = [sign(OLD, "a"), sign(NEW, "b"), sign("dd" * 32, "c"), sign(OLD, "d")]
    value = json.dumps({"live": "true", "notificationItems": items})
    keys = [{"id": "1", "hmac_hex": OLD}, {"id": "2", "hmac_hex": NEW}]
    results = Normaliser(DIALECTS, {"adyen": keys}).normalise(raw_record("adyen", value))
    assert [verdict(item) for item in results] == [
        "VALID",
        "VALID",
        RejectCode.BAD_SIGNATURE,
        "VALID",
    ]
    assert [
        item.transaction.provider_tx_id for item in results if isinstance(item, AcceptedTransaction)
    ] == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ([], "must be an object, or a list"),
        ("aabb", "must be an object, or a list"),
        (["aabb"], "must be an object, or a list"),
        ([{"hmac_hex": OLD}], "key 1 needs an id"),
        ([{"id": 7, "hmac_hex": OLD}], "key 1 needs an id"),
        ([{"id": "a", "hmac_hex": OLD}, {"id": "a", "hmac_hex": NEW}], "the same id"),
        (
            [{"id": "a", "hmac_hex": OLD, "valid_from": "tomorrow"}],
            "key 'a': valid_from must be a time",
        ),
        ([{"id": "a", "hmac_hex": OLD, "valid_until": 7}], "key 'a': valid_until must be a time"),
        (
            [{"id": "a", "hmac_hex": OLD, "valid_from": "2026-02-01", "valid_until": "2026-02-01"}],
            "is never valid",
        ),
        ([{"id": "a"}], "needs 'hmac_hex'"),
        ([{"id": "a", "hmac_hex": "zz"}], "not hexadecimal"),
    ],
)
def test_an_entry_that_cannot_be_used(entry: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message) as refusal:
        reader_of(House(), entry)
    assert OLD not in str(refusal.value)
