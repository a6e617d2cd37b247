"""What the normaliser tells risk: signatures that are wrong, and right ones from outside their window."""

from __future__ import annotations

import hmac
import json
from typing import Any

import msgspec
import pytest

from schemas import codec
from schemas.errors import RejectCode
from schemas.events import Position, RiskSignal, SignalKind
from schemas.topics import SIGNALS, TRANSACTIONS
from streams.normalise.batch import NormalisedBatch
from streams.normalise.mapping.normaliser import Normaliser
from streams.normalise.mapping.signals import ATTRIBUTE_CHARACTERS_MAX, signal_key
from streams.normalise.stats import NormaliseStats
from streams.providers.registry import DIALECTS
from tests.support.dialect_records import APPENDED_AT, raw_record

KEY = "ab" * 32
NORMALISER = Normaliser(DIALECTS, {"house": {"hmac_hex": KEY}})
BODY = json.dumps(
    {
        "operation": "deposit.opened",
        "id": "d-1",
        "at": "2026-11-22T00:00:00Z",
        "player_id": "p-1",
        "amount": "1.00",
        "currency": "EUR",
        "psp": "adyen",
    }
)


def batch_of(body: str = BODY, *, offset: int = 42, **headers: Any) -> NormalisedBatch:
    record = raw_record(
        "house",
        body,
        {name.replace("_", "-"): value for name, value in headers.items()},
        offset=offset,
    )
    batch = NormalisedBatch("house")
    batch.add_results([(record, NORMALISER.normalise(record))])
    return batch


def signals_of(batch: NormalisedBatch) -> list[RiskSignal]:
    return [
        codec.decoder(RiskSignal)(value)
        for _, value, _, _ in batch.outgoing[SIGNALS]
        if value is not None
    ]


def test_a_wrong_signature_is_a_dead_letter_and_a_signal() -> None:
    batch = batch_of(
        x_house_signature="00", brand="acme", connector="c-7", received_at=str(APPENDED_AT - 80)
    )
    [rejection] = batch.rejections
    [signal] = signals_of(batch)
    assert rejection.code == RejectCode.BAD_SIGNATURE
    assert (signal.kind, signal.provider, signal.brand) == ("BAD_SIGNATURE", "house", "acme")
    assert signal.source == Position("provider.house.raw.v1", 3, 42)
    assert (signal.record_index, signal.player_id) == (None, None)
    assert signal.occurred_at == APPENDED_AT - 80
    assert signal.attributes == {"detail": rejection.detail, "connector": "c-7"}
    [(key, _, headers, timestamp)] = batch.outgoing[SIGNALS]
    assert (key, headers, timestamp) == (b"house", (), None)


def test_wrong_signatures_of_a_provider_are_in_one_partition_whomever_they_name() -> None:
    """They are counted by provider, and nothing that a forged record names is believed."""
    [forged] = signals_of(batch_of(x_house_signature="00"))
    forged = msgspec.structs.replace(forged, player_id="p-1")
    assert signal_key(forged) == b"house"
    stale = msgspec.structs.replace(forged, kind=SignalKind.STALE_SIGNATURE.value)
    assert signal_key(stale) == b"p-1"
    assert signal_key(msgspec.structs.replace(stale, player_id=None)) == b"house"


def test_a_right_one_a_missing_one_and_a_broken_body_are_none() -> None:
    right = hmac.digest(bytes.fromhex(KEY), BODY.encode(), "sha256").hex()
    good = batch_of(x_house_signature=right)
    assert (signals_of(good), len(good.outgoing[TRANSACTIONS])) == ([], 1)
    for batch in (batch_of(), batch_of("", x_house_signature="00")):
        assert len(batch.rejections) == 1
        assert signals_of(batch) == []


def test_the_same_record_says_the_same_thing_once() -> None:
    one, again = (signals_of(batch_of(x_house_signature=text))[0] for text in ("00", "11"))
    [other] = signals_of(batch_of(x_house_signature="00", offset=43))
    assert one.signal_id == again.signal_id != other.signal_id


@pytest.mark.parametrize("brand", [b"\x1b[2J", "a\u202eb".encode()])
def test_nothing_of_such_a_record_is_shown_as_it_is(brand: bytes) -> None:
    # The brand would be refused later; the signature is checked first only where the headers are usable.
    record = raw_record("house", BODY, {"x-house-signature": "00", "connector": brand + b"x" * 500})
    batch = NormalisedBatch("house")
    batch.add_results([(record, NORMALISER.normalise(record))])
    [signal] = signals_of(batch)
    assert signal.attributes["connector"].isprintable()
    assert len(signal.attributes["connector"]) <= 2 * ATTRIBUTE_CHARACTERS_MAX


def test_a_clock_ahead_of_the_broker_is_not_believed() -> None:
    [signal] = signals_of(batch_of(x_house_signature="00", received_at=str(APPENDED_AT + 10)))
    assert signal.occurred_at == APPENDED_AT


def test_each_forged_item_of_a_batch_is_told() -> None:
    items = [
        {
            "eventCode": "CAPTURE",
            "success": "true",
            "pspReference": name,
            "additionalData": {"hmacSignature": "x"},
        }
        for name in "ab"
    ]
    value = json.dumps(
        {"live": "true", "notificationItems": [{"NotificationRequestItem": item} for item in items]}
    )
    record = raw_record("adyen", value)
    batch, stats = NormalisedBatch("adyen"), NormaliseStats()
    batch.add_results(
        [(record, Normaliser(DIALECTS, {"adyen": {"hmac_hex": KEY}}).normalise(record))]
    )
    batch.count_into(stats)
    assert [signal.record_index for signal in signals_of(batch)] == [0, 1]
    assert len({signal.signal_id for signal in signals_of(batch)}) == 2
    assert stats.sent == {SIGNALS: 2}
