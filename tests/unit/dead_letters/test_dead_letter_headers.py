"""What a redrive and a drop say of themselves, and what becomes of it in the normaliser."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.dead_letters.headers import (
    DROP_MARK,
    DROP_OF,
    PARKED_BEHIND,
    REDRIVE_COUNT,
    REDRIVE_OF,
    drop_headers,
    format_position,
    parse_position,
    redrive_headers,
)
from schemas.causes import PARKED, REDRIVE
from schemas.errors import RejectCode
from schemas.events import Cause, Kind, Position
from schemas.topics import TRANSACTIONS
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser, RejectedItem
from streams.providers.registry import DIALECTS
from tests.support.dialect_records import raw_record

BET = json.dumps({"user": "p-1", "transaction_uuid": "t-1", "amount": 100000, "currency": "EUR"})
PATH = {"http-path": "/transaction/bet"}
SOURCE = Position("provider.hub88.raw.v1", 3, 41)


def read(headers: dict[str, Any]) -> AcceptedTransaction | RejectedItem:
    [item] = Normaliser(DIALECTS, {}).normalise(raw_record("hub88", BET, PATH | headers, offset=42))
    assert isinstance(item, AcceptedTransaction | RejectedItem)
    return item


@pytest.mark.parametrize("topic", ["provider.hub88.raw.v1", "ns_1.provider.a.raw.v1", "a-1-2"])
def test_a_place_is_written_and_read(topic):
    position = Position(topic, 3, 41)
    assert parse_position(format_position(position)) == position


@pytest.mark.parametrize(
    "text", ["", "t", "t-3", "t-3@", "t-x@1", "t-3@-1", "-3@1", "t-3@1 ", "t-3@1\n", "t-٣@1"]
)
def test_what_is_no_place_is_none(text):
    assert parse_position(text) is None


def test_a_redrive_keeps_the_headers_and_says_who_and_why():
    original = [("http-path", b"/transaction/bet"), ("empty", None), ("http-path", b"twice")]
    first = redrive_headers(original, SOURCE, "ann", "mapping repaired")
    assert first[:3] == original
    added = dict(first[3:])
    assert added[REDRIVE_OF] == b"provider.hub88.raw.v1-3@41"
    assert (added[REDRIVE_COUNT], added["redrive-by"], added["redrive-why"]) == (
        b"1",
        b"ann",
        b"mapping repaired",
    )
    second = redrive_headers(first, Position(SOURCE.topic, 3, 77), "bob", "again")
    assert second[:3] == original
    assert len(second) == len(first)
    assert (dict(second)[REDRIVE_COUNT], dict(second)[REDRIVE_OF]) == (
        b"2",
        b"provider.hub88.raw.v1-3@77",
    )


def test_a_redriven_event_says_who_redrove_it_and_is_otherwise_the_same():
    plain, late = read({}), read(dict(redrive_headers([], SOURCE, "ann", "mapping repaired")))
    assert isinstance(plain, AcceptedTransaction)
    assert isinstance(late, AcceptedTransaction)
    assert late.transaction.cause == Cause(
        REDRIVE, "provider.hub88.raw.v1-3@41", "ann", "mapping repaired"
    )
    assert (late.transaction.event_id, late.transaction.fingerprint) == (
        plain.transaction.event_id,
        plain.transaction.fingerprint,
    )
    assert late.transaction.decision_required


def test_an_event_that_had_to_wait_says_behind_what():
    late = read({PARKED_BEHIND: "provider.hub88.raw.v1-3@41"})
    assert isinstance(late, AcceptedTransaction)
    assert late.transaction.cause == Cause(PARKED, "provider.hub88.raw.v1-3@41")


def test_a_redriven_cancel_stays_the_cancel_of_its_connector():
    late = read({"cancel": "provider.hub88.raw.v1-3@7", REDRIVE_OF: "provider.hub88.raw.v1-3@41"})
    assert isinstance(late, AcceptedTransaction)
    assert late.transaction.cause is not None
    assert late.transaction.cause.type == "connector"


@pytest.mark.parametrize("header", [REDRIVE_OF, DROP_OF])
@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff",
        b"x",
        b"provider.hub88.raw.v1-2@41",
        b"provider.house.raw.v1-3@41",
        b"provider.hub88.raw.v1-3@42",
    ],
)
def test_a_redrive_or_drop_names_an_earlier_record_of_its_partition(header, value):
    item = read({header: value})
    assert isinstance(item, RejectedItem)
    assert item.code is RejectCode.BAD_FIELD


@pytest.mark.parametrize("value", [b"\xff", b"a\nb", b"x" * 65])
def test_a_name_that_cannot_be_shown_is_refused(value):
    item = read({REDRIVE_OF: b"provider.hub88.raw.v1-3@41", "redrive-by": value})
    assert isinstance(item, RejectedItem)
    assert item.code is RejectCode.BAD_FIELD


def test_a_drop_is_an_event_that_moves_nothing_and_tells_who_and_why():
    mark = raw_record(
        "hub88", DROP_MARK, dict(drop_headers(SOURCE, "ann", "test traffic")), offset=42
    )
    [item] = Normaliser(DIALECTS, {}).normalise(mark)
    assert isinstance(item, AcceptedTransaction)
    event = item.transaction
    assert [leg.kind for leg in event.legs] == [Kind.INFORMATIONAL]
    assert (event.operation, event.provider_tx_id) == (
        "dead_letter.dropped",
        "provider.hub88.raw.v1-3@41",
    )
    assert event.cause == Cause("drop", "provider.hub88.raw.v1-3@41", "ann", "test traffic")
    assert (event.player_id, item.topic, event.decision_required) == (None, TRANSACTIONS, False)


def test_the_header_of_a_drop_makes_no_message_vanish():
    bet = raw_record("hub88", BET, PATH | dict(drop_headers(SOURCE, "mallory", "gone")), offset=42)
    [item] = Normaliser(DIALECTS, {}).normalise(bet)
    assert isinstance(item, RejectedItem)
    assert item.code is RejectCode.BAD_FIELD
