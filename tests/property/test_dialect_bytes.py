"""What holds for any bytes, any spelling of a retry and any batching, over all dialects."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from msgspec.structs import replace

from schemas import codec
from schemas.errors import RejectCode
from schemas.events import WalletTransaction
from schemas.money import EXPONENTS
from schemas.topics import TRANSACTIONS, UNRESOLVED
from streams.normalise.mapping.normaliser import (
    AcceptedTransaction,
    ItemResult,
    Normaliser,
    RejectedItem,
)
from streams.providers.registry import DIALECTS
from tests.support.dialect_records import (
    APPENDED_AT,
    PROVIDERS,
    Vector,
    adyen_signature,
    house_signature,
    hub88_signature,
    keyring,
    raw_record,
    vectors,
)
from tests.support.examples import examples

OPEN = Normaliser(DIALECTS, {})
KEYED = Normaliser(DIALECTS, keyring())
DECODE = codec.decoder(WalletTransaction)
SECRETS = [entry for material in keyring().values() for entry in material.values()]


def check(items: list[ItemResult]) -> None:
    """What every outcome promises, whatever came in."""
    assert items
    for item in items:
        if isinstance(item, RejectedItem):
            assert item.code in RejectCode
            assert item.detail.isprintable()
            assert not any(secret in item.detail for secret in SECRETS)
            continue
        assert isinstance(item, AcceptedTransaction)
        event = item.transaction
        assert item.topic in {TRANSACTIONS, UNRESOLVED}
        assert item.key
        assert (event.player_id is None) == (item.key != (event.player_id or "").encode())
        assert event.occurred_at <= event.appended_at
        assert event.legs
        assert DECODE(item.value) == event
        for leg in event.legs:
            if leg.amount is not None:
                assert leg.currency in EXPONENTS
                assert leg.amount.unscaled >= 0 or event.operation in {
                    "adjustment",
                    "adjustment.proposed",
                }


# --- any bytes ------------------------------------------------------------------------------------------------------

header_values = st.one_of(
    st.none(), st.binary(max_size=40), st.sampled_from([b"/transaction/bet", b"0", b"x"])
)
header_names = st.sampled_from(
    [
        "http-path",
        "brand",
        "region",
        "received-at",
        "cancel",
        "x-hub88-signature",
        "x-house-signature",
        "other",
    ]
)
header_maps = st.dictionaries(header_names, header_values, max_size=8)


@given(
    provider=st.sampled_from(PROVIDERS),
    body=st.binary(max_size=400),
    headers=header_maps,
    keyed=st.booleans(),
)
def test_no_bytes_raise(provider: str, body: bytes, headers: dict[str, Any], keyed: bool) -> None:
    check((KEYED if keyed else OPEN).normalise(raw_record(provider, body, headers)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def _paths(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    pairs = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    for key, child in pairs:
        found += _paths(child, (*path, key))
    return found


def _set(node: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value


GOOD = [
    v for v in vectors() if v.schema is not None and all("event" in result for result in v.results)
]
GOOD_JSON = [v for v in GOOD if v.provider != "playngo"]


@examples(400)
@given(vector=st.sampled_from(GOOD_JSON), data=st.data())
def test_a_good_body_with_any_one_field_changed(vector: Vector, data: st.DataObject) -> None:
    assert vector.record.value is not None
    body = json.loads(vector.record.value)
    _set(body, data.draw(st.sampled_from(_paths(body))), data.draw(json_values))
    record = raw_record(vector.provider, json.dumps(body), dict(vector.record.headers))
    check(OPEN.normalise(record))
    check(KEYED.normalise(record))


@examples(400)
@given(vector=st.sampled_from(GOOD), data=st.data())
def test_a_good_body_with_any_bytes_changed(vector: Vector, data: st.DataObject) -> None:
    assert vector.record.value is not None
    body = bytearray(vector.record.value)
    start = data.draw(st.integers(0, len(body) - 1))
    end = data.draw(st.integers(start, min(len(body), start + 12)))
    body[start:end] = data.draw(st.binary(max_size=12))
    record = raw_record(vector.provider, bytes(body), dict(vector.record.headers))
    check(OPEN.normalise(record))
    check(KEYED.normalise(record))


@given(
    vector=st.sampled_from([v for v in GOOD if v.provider in {"hub88", "house"}]), data=st.data()
)
def test_a_signed_body_with_one_bit_changed_is_never_valid(
    vector: Vector, data: st.DataObject
) -> None:
    assert vector.record.value is not None
    body = bytearray(vector.record.value)
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    [item] = KEYED.normalise(raw_record(vector.provider, bytes(body), dict(vector.record.headers)))
    assert isinstance(item, RejectedItem)
    assert item.code is RejectCode.BAD_SIGNATURE


# --- a retry is the same event, however it is spelt -----------------------------------------------------------------


def _respelt(vector: Vector, rng: Random) -> bytes:
    assert vector.record.value is not None
    if vector.provider == "playngo":
        root = etree.fromstring(vector.record.value)
        children = list(root)
        rng.shuffle(children)
        for child in children:
            child.tail = rng.choice(["", "\n  ", "\t"])
        root[:] = children
        spelt = etree.tostring(
            root, xml_declaration=rng.random() < 0.5, encoding=rng.choice(["UTF-8", "UTF-16"])
        )
        assert isinstance(spelt, bytes)
        return spelt
    body = json.loads(vector.record.value)
    items = list(body.items())
    rng.shuffle(items)
    again = dict(items) | (
        {"request_uuid": f"again-{rng.random()}"} if vector.provider == "hub88" else {}
    )
    return json.dumps(
        again, indent=rng.choice([None, 1, 4]), ensure_ascii=rng.random() < 0.5
    ).encode()


RETRIED = [v for v in GOOD if v.provider != "adyen" and "cancel" not in dict(v.record.headers)]


@given(vector=st.sampled_from(RETRIED), seed=st.integers(0, 2**32), offset=st.integers(43, 10**9))
def test_a_retry_is_the_same_event(vector: Vector, seed: int, offset: int) -> None:
    body = _respelt(vector, Random(seed))
    headers = dict(vector.record.headers) | {"received-at": str(APPENDED_AT + 900).encode()}
    if vector.provider == "hub88":
        headers["x-hub88-signature"] = hub88_signature(body)
    if vector.provider == "house":
        headers["x-house-signature"] = house_signature(body)
    [again] = KEYED.normalise(
        raw_record(
            vector.provider,
            body,
            headers,
            partition=5,
            offset=offset,
            timestamp=APPENDED_AT + 1_000,
        )
    )
    assert isinstance(again, AcceptedTransaction)
    first = vector.results[0]["event"]
    assert again.transaction.event_id == first["event_id"]
    assert again.transaction.fingerprint == first["fingerprint"]


# --- a batch is only an envelope ------------------------------------------------------------------------------------

references = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=12
)


@st.composite
def adyen_items(draw: st.DrawFn) -> dict[str, Any]:
    item = {
        "eventCode": draw(
            st.sampled_from(["AUTHORISATION", "CAPTURE", "REFUND", "CANCELLATION", "CHARGEBACK"])
        ),
        "success": draw(st.sampled_from(["true", "false"])),
        "pspReference": draw(references),
        "originalReference": draw(references),
        "merchantAccountCode": "Acme",
        "merchantReference": draw(references),
        "amount": {
            "currency": draw(st.sampled_from(["EUR", "JPY", "KWD"])),
            "value": draw(st.integers(0, 10**12)),
        },
        "eventDate": "2026-09-21T16:13:20+02:00",
    }
    item["additionalData"] = {"hmacSignature": adyen_signature(item)}
    if draw(st.integers(0, 5)) == 0:
        item["amount"] = draw(st.sampled_from([None, 1.5, {"currency": "EUR", "value": 1}]))
    return item


def _facts(batches: list[list[dict[str, Any]]]) -> list[tuple[Any, ...]]:
    facts: list[tuple[Any, ...]] = []
    for items in batches:
        body = orjson.dumps(
            {
                "live": "true",
                "notificationItems": [{"NotificationRequestItem": item} for item in items],
            }
        )
        results = KEYED.normalise(raw_record("adyen", body))
        assert len(results) == len(items)
        check(results)
        for item in results:
            if isinstance(item, AcceptedTransaction):
                nowhere = replace(item.transaction.attempt, record_index=0)
                facts.append((item.topic, item.key, replace(item.transaction, attempt=nowhere)))
            else:
                assert isinstance(item, RejectedItem)
                facts.append((item.code, item.detail))
    return sorted(facts, key=repr)


@given(items=st.lists(adyen_items(), min_size=1, max_size=6), data=st.data())
def test_items_keep_their_identity_in_any_order_and_batching(
    items: list[dict[str, Any]], data: st.DataObject
) -> None:
    other = data.draw(st.permutations(items))
    cut = data.draw(st.integers(0, len(other)))
    batches = [batch for batch in (other[:cut], other[cut:]) if batch]
    assert _facts(batches) == _facts([items])


# --- money is exact or rejected -------------------------------------------------------------------------------------

decimals = st.decimals(
    allow_nan=False, allow_infinity=False, min_value=0, max_value=10**13, places=None
)


@given(
    number=decimals,
    currency=st.sampled_from(sorted(EXPONENTS)),
    provider=st.sampled_from(["house", "playngo"]),
)
def test_decimal_text_becomes_exactly_that_number(
    number: Decimal, currency: str, provider: str
) -> None:
    text = str(number)
    if provider == "house":
        fields = {
            "operation": "withdrawal.requested",
            "id": "1",
            "player_id": "p",
            "at": "2026-09-21T14:13:20Z",
        }
        body = json.dumps(fields | {"amount": text, "currency": currency})
    else:
        elements = {"externalId": "p", "transactionId": "1", "real": text, "currency": currency}
        body = f"<reserve>{''.join(f'<{k}>{v}</{k}>' for k, v in elements.items())}</reserve>"
    _exact_or_rejected(raw_record(provider, body), number, currency)


@given(units=st.integers(0, 10**16), currency=st.sampled_from(sorted(EXPONENTS)))
def test_hub88_units_become_exactly_that_number(units: int, currency: str) -> None:
    body = json.dumps({"user": "p", "transaction_uuid": "1", "amount": units, "currency": currency})
    record = raw_record("hub88", body, {"http-path": "/transaction/bet"})
    _exact_or_rejected(record, Decimal(units).scaleb(-5), currency)


def _exact_or_rejected(record: Any, number: Decimal, currency: str) -> None:
    [item] = OPEN.normalise(record)
    if isinstance(item, RejectedItem):
        assert item.code in {RejectCode.AMOUNT_SCALE, RejectCode.BAD_AMOUNT}
        if item.code is RejectCode.AMOUNT_SCALE:
            assert number != round(number, EXPONENTS[currency])
        else:
            digits, exponent = number.as_tuple().digits, number.as_tuple().exponent
            assert isinstance(exponent, int)
            assert len(digits) + abs(exponent) > 12  # only what may not fit 64 bits
        return
    assert isinstance(item, AcceptedTransaction)
    amount = item.transaction.legs[0].amount
    assert amount is not None
    assert Decimal(amount.unscaled).scaleb(-amount.scale) == number
    assert number == round(number, EXPONENTS[currency])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_large_body_of_nonsense_is_rejected(provider: str) -> None:
    for body in (b"[" * 900_000, b"<a>" * 300_000, b'{"a":' * 180_000, b'"' + b"a" * 900_000):
        headers = {"http-path": "/transaction/bet"}
        [item] = OPEN.normalise(raw_record(provider, body, headers))
        assert isinstance(item, RejectedItem)
        assert len(item.detail) < 400
