"""Records that go through the normaliser's steps together come to what each comes to by itself, in their order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.errors import RejectCode
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser, RejectedItem
from streams.providers.registry import DIALECTS
from tests.support.dialect_records import raw_record

NOTICE = {
    "eventCode": "REFUND",
    "success": "true",
    "originalReference": "p-0",
    "amount": {"currency": "EUR", "value": 1},
}


def bet(number: int, **changes):
    body = {
        "user": f"p-{number}",
        "transaction_uuid": f"t-{number}",
        "amount": 100_000,
        "currency": "EUR",
    }
    return raw_record("hub88", json.dumps(body | changes), {"http-path": "/transaction/bet"})


def notices(number: int):
    items = [
        {"NotificationRequestItem": {**NOTICE, "pspReference": f"r-{number}-{n}"}} for n in range(3)
    ]
    items[1] = {"NotificationRequestItem": {}}
    return raw_record("adyen", json.dumps({"live": "false", "notificationItems": items}), {})


@pytest.mark.parametrize("count", [0, 1, 6, 64, 200])
def test_together_is_as_one_by_one(count):
    normaliser = Normaliser(DIALECTS, {})
    kinds: list[Any] = [
        bet,
        lambda n: bet(n, amount="100"),  # the wrong type of one field
        lambda n: bet(n, transaction_uuid="\ud800"),  # fails where it is written, if not before
        lambda n: raw_record("hub88", "{", {"http-path": "/transaction/bet"}),
        lambda n: raw_record("nobody", "{}", {}),
        notices,
    ]
    records = [kinds[number % len(kinds)](number) for number in range(count)]
    together = normaliser.normalise_all(records)
    assert together == [normaliser.normalise(record) for record in records]
    if count >= len(kinds):
        codes = [
            [getattr(item, "code", None) for item in items] for items in together[: len(kinds)]
        ]
        assert [len(items) for items in together[: len(kinds)]] == [1, 1, 1, 1, 1, 3]
        assert codes[0] == [None]
        assert isinstance(together[0][0], AcceptedTransaction)
        assert codes[1] == [RejectCode.BAD_AMOUNT]
        assert isinstance(together[5][1], RejectedItem)
        assert together[5][1].record_index == 1
