"""Who waits behind whom, for how long, and how they go on: without servers."""

from __future__ import annotations

import hmac
import json
from dataclasses import replace

import pytest

from runtime.dead_letters.headers import drop_headers
from runtime.dead_letters.key_holds import ParkLimits
from runtime.security import BrokerAddress
from schemas.errors import UsageError
from schemas.events import Position
from streams.normalise.mapping.normaliser import Normaliser
from streams.normalise.parking import holding_code
from streams.normalise.settings import NormaliseSettings, ParkSettings, parked_providers
from streams.providers.registry import DIALECTS
from tests.support.dialect_records import house_signature, hub88_signature, keyring, raw_record
from tests.support.parking_story import PARTITION, TOPIC, Story


def test_later_records_of_a_player_wait_behind_their_own_dead_letter_only():
    story = Story()
    for key, value in [("p", "a"), ("p", "bad-1"), ("p", "b"), ("q", "c"), ("p", "d")]:
        story.append(key, value)
    story.handle()
    assert [offset for offset, _ in story.emitted] == [0, 3]
    assert story.store.still_waiting() == [2, 4]
    assert story.letters == {1: "BAD_AMOUNT"}


def test_a_redrive_lets_the_poison_go_first_and_the_others_after_it_in_their_order():
    story = Story()
    for key, value in [("p", "bad-1"), ("p", "b"), ("p", "c")]:
        story.append(key, value)
    story.handle()
    story.repaired.add(b"bad-1")
    redriven = story.redrive(0)
    story.append("p", "d")
    story.handle()
    assert story.emitted == [(redriven, True), (1, True), (2, True), (4, False)]
    assert story.store.still_waiting() == []


def test_a_record_between_the_redrive_and_its_reading_waits_with_the_others():
    story = Story()
    story.append("p", "bad-1")
    story.handle()
    story.append("p", "b")
    story.repaired.add(b"bad-1")
    story.redrive(0)
    story.append("p", "d")
    story.handle(1)
    story.handle()
    assert [offset for offset, _ in story.emitted] == [2, 1, 3]


def test_a_redrive_that_is_rejected_again_goes_on_holding_up():
    story = Story()
    story.append("p", "bad-1")
    story.append("p", "b")
    again = story.redrive(0)
    story.append("p", "c")
    story.handle()
    assert story.emitted == []
    assert story.letters == {0: "BAD_AMOUNT", again: "BAD_AMOUNT"}
    assert story.store.holds[0].waits_for == again
    story.repaired.add(b"bad-1")
    story.redrive(0)  # the old letter is not what is waited for any more
    last = story.redrive(again)
    story.handle()
    assert story.emitted[0] == (last, True)
    assert story.first_emissions("p") == [last, 1, 3, 4]


def test_a_second_poison_among_the_waiting_holds_up_those_behind_it():
    story = Story()
    for value in ("bad-1", "b", "bad-2", "c"):
        story.append("p", value)
    story.handle()
    story.repaired.add(b"bad-1")
    story.redrive(0)
    story.append("p", "d")
    story.handle()
    assert [offset for offset, _ in story.emitted] == [4, 1]
    assert story.letters[2] == "BAD_AMOUNT"
    assert story.store.still_waiting() == [3, 5]
    story.drop(2)
    story.handle()
    assert [offset for offset, _ in story.emitted] == [4, 1, 6, 3, 5]


def test_a_drop_lets_the_waiting_go_on_without_the_poison():
    story = Story()
    story.append("p", "bad-1")
    story.append("p", "b")
    mark = story.drop(0)
    story.append("p", "c")
    story.handle()
    assert [offset for offset, _ in story.emitted] == [mark, 1, 3]


def test_no_player_waits_behind_a_wrong_signature_or_a_stranger():
    story = Story()
    story.append("p", "forged")
    story.append("p", "b")
    story.handle()
    assert [offset for offset, _ in story.emitted] == [1]
    elsewhere = Story(providers=frozenset({"house"}))
    elsewhere.append("p", "bad-1")
    elsewhere.append("p", "b")
    elsewhere.handle()
    assert [offset for offset, _ in elsewhere.emitted] == [1]


def test_what_waits_goes_on_also_where_parking_was_switched_off():
    story = Story()
    story.append("p", "bad-1")
    story.append("p", "b")
    story.handle()
    story.providers = frozenset()
    story.crash(story.next_offset)
    story.drop(0)
    story.append("p", "bad-2")
    story.append("p", "c")
    story.handle()
    assert [offset for offset, _ in story.emitted] == [2, 1, 4]


@pytest.mark.parametrize("limits", [ParkLimits(records_max=2), ParkLimits(bytes_max=2)])
def test_no_more_wait_than_the_limit_and_the_rest_is_rejected(limits):
    story = Story(limits)
    story.append("p", "bad-1")
    for value in "bcde":
        story.append("p", value)
    story.handle(3)
    story.handle()
    assert story.store.still_waiting() == [1, 2]
    assert story.letters == {0: "BAD_AMOUNT", 3: "PARK_FULL", 4: "PARK_FULL"}
    story.crash(0)
    story.handle()
    assert story.store.still_waiting() == [1, 2]
    assert story.emitted == []


def test_no_player_waits_for_longer_than_the_log_says():
    story = Story(ParkLimits(age_max_ms=1_000))
    story.append("p", "bad-1")
    story.append("p", "b", after_ms=1_000)
    story.handle()
    assert story.store.still_waiting() == [1]
    story.append(
        "q", "c", after_ms=1
    )  # the clock is the broker's, and any record of the partition tells it
    story.append("p", "d")
    story.handle()
    assert [offset for offset, _ in story.emitted] == [1, 2, 3]
    assert story.store.holds[0].ended_by == "EXPIRY"


def test_a_poison_among_what_has_waited_too_long_holds_no_player_up():
    story = Story(ParkLimits(age_max_ms=1_000))
    for value in ("bad-1", "b", "bad-2", "c"):
        story.append("p", value)
    story.append("p", "d", after_ms=2_000)
    story.handle()
    assert [offset for offset, _ in story.emitted] == [1, 3, 4]
    assert story.letters.keys() == {0, 2}


def test_a_repaired_normaliser_that_reads_the_poison_again_needs_no_redrive():
    story = Story()
    story.append("p", "bad-1")
    story.append("p", "b")
    for step, _ in enumerate(story.steps(2)):
        if step == 2:
            break  # the hold is saved, and the dead letter was never written
    story.crash(0)
    story.repaired.add(b"bad-1")
    story.handle()
    assert story.first_emissions("p") == [0, 1]
    assert story.store.still_waiting() == []


def test_a_failed_try_leaves_nothing_behind_in_memory():
    story = Story()
    story.append("q", "a")
    story.append("p", "bad-1")
    story.append("p", "b")
    story.handle(1)
    next(story.steps(2))  # sorted, and then the broker or the database was away
    story.repaired.add(b"bad-1")
    story.handle(2)
    assert story.store.holds == {}
    assert [offset for offset, _ in story.emitted] == [0, 1, 2]


def test_a_redrive_that_brought_the_next_poison_to_light_does_not_wait_when_it_is_read_again():
    story = Story()
    story.append("p", "bad-1")
    story.append("p", "bad-2")
    story.append("p", "b")
    story.handle()
    story.repaired.add(b"bad-1")
    story.redrive(0)
    story.handle()
    story.crash(3)
    story.handle()
    assert story.store.still_waiting() == [2]
    assert [offset for offset, _ in story.emitted] == [3, 3]


def test_a_record_that_waits_is_counted_once_however_often_it_is_read():
    story = Story(ParkLimits(records_max=2))
    story.append("p", "bad-1")
    story.append("p", "b")
    story.handle()
    story.crash(0)
    story.handle()
    story.append("p", "c")
    story.handle()
    assert story.store.still_waiting() == [1, 2]


def test_parking_needs_a_key_of_the_provider():
    park = ParkSettings("postgresql://", frozenset({"hub88", "house"}))
    settings = NormaliseSettings(BrokerAddress(""), "", "", {"hub88": {}}, park=park)
    with pytest.raises(UsageError, match="players of house"):
        parked_providers(settings)
    assert (
        parked_providers(
            NormaliseSettings(BrokerAddress(""), "", "", {"hub88": {}, "house": {}}, park=park)
        )
        == park.providers
    )


def test_a_message_with_the_header_of_a_drop_lets_nothing_go_on():
    story = Story()
    story.append("p", "bad-1")
    story.append("p", "b")
    story.append("p", "c", drop_headers(Position(TOPIC, PARTITION, 0), "mallory", "now"))
    story.handle()
    assert story.emitted == []
    assert story.store.still_waiting() == [1, 2]


# --- what the dialects tell of what they reject -----------------------------------------------------------------------

NORMALISER = Normaliser(DIALECTS, keyring() | {"sumsub": {"secret": "s3cret"}})
BET = {"user": "p-1", "transaction_uuid": "t-1", "amount": 150_000, "currency": "EUR"}
PAID = {
    "operation": "withdrawal.requested",
    "id": "w-1",
    "player_id": "p-1",
    "at": "2026-09-21T14:13:20Z",
}
REVIEW = {
    "type": "applicantReviewed",
    "applicantId": "a-1",
    "externalUserId": "p-1",
    "correlationId": "c-1",
}


def holding_code_of(provider, body, headers=None, *, key=b"p-1"):
    value = body if isinstance(body, bytes) else json.dumps(body).encode()
    digest = hmac.digest(b"s3cret", value, "sha256").hex().encode()
    signed = {
        "x-hub88-signature": hub88_signature(value),
        "x-house-signature": house_signature(value),
        "x-payload-digest": digest,
        "x-payload-digest-alg": b"HMAC_SHA256_HEX",
        "http-path": b"/transaction/bet",
    }
    record = replace(raw_record(provider, value, signed | (headers or {})), key=key)
    return holding_code(record, NORMALISER.normalise(record))


@pytest.mark.parametrize(
    ("provider", "body", "headers", "code"),
    [
        ("hub88", BET, {}, None),
        ("hub88", BET | {"amount": 1.5}, {}, "BAD_AMOUNT"),
        ("hub88", BET | {"amount": "150000"}, {}, "BAD_AMOUNT"),
        ("hub88", BET | {"currency": 978}, {}, "BAD_CURRENCY"),
        ("hub88", {"user": "p-1"}, {}, "MISSING_FIELD"),
        ("hub88", BET | {"transaction_uuid": ""}, {}, "BAD_FIELD"),
        ("hub88", BET, {"http-path": b"/transaction/tip"}, "UNKNOWN_OPERATION"),
        ("hub88", BET, {"http-path": None}, "UNKNOWN_OPERATION"),
        ("house", PAID | {"amount": "1.00", "currency": "EUR"}, {}, None),
        ("house", PAID | {"amount": 1.0, "currency": "EUR"}, {}, "BAD_AMOUNT"),
        ("house", PAID | {"amount": "1.00"}, {}, "MISSING_FIELD"),
        ("house", PAID | {"amount": "1.00", "currency": "EUR", "at": "soon"}, {}, "BAD_TIME"),
        ("house", PAID | {"operation": "withdrawal.imagined"}, {}, "UNKNOWN_OPERATION"),
        (
            "house",
            PAID | {"amount": "1.00", "currency": "EUR", "at": "0001-01-01T00:00:00+14:00"},
            {},
            "BAD_TIME",
        ),
        ("sumsub", REVIEW, {}, None),
        ("sumsub", REVIEW | {"reviewResult": {"reviewAnswer": 7}}, {}, "BAD_FIELD"),
    ],
)
def test_a_signed_message_of_a_form_that_no_dialect_knows_holds_up_its_player(
    provider, body, headers, code
):
    assert holding_code_of(provider, body, headers) == code
    assert holding_code_of(provider, body, headers, key=b"p-2") is None
    # Without the provider's signature a record does not count as the player's.
    unsigned = {"x-hub88-signature": b"", "x-house-signature": b"", "x-payload-digest": b""}
    forged = {"x-hub88-signature": b"AAAA", "x-house-signature": b"aa", "x-payload-digest": b"aa"}
    assert holding_code_of(provider, body, headers | unsigned) is None
    assert holding_code_of(provider, body, headers | forged) is None


@pytest.mark.parametrize(
    "body", [b"", b"nope", b"[]", b'{"user":"p-1","player_id":"p-1"', b'"p-1"']
)
def test_what_is_not_json_holds_no_player_up(body):
    for provider in ("hub88", "house", "sumsub"):
        assert holding_code_of(provider, body) is None
