"""Stored raw records read again: what the installed adapter means otherwise than the log has it."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from schemas.events import Amount, Leg
from streams.normalise.mapping.normaliser import Normaliser
from streams.normalise.mapping.renormalise import (
    EventFinding,
    compare_record,
    differences,
    renormalise,
)
from streams.providers.registry import DIALECTS
from tests.support.dialect_records import raw_record, vectors
from tests.support.ledger_events import bet, deposit

BET = json.dumps({"user": "p-1", "transaction_uuid": "t-1", "amount": 100000, "currency": "EUR"})
RECORD = raw_record("hub88", BET, {"http-path": "/transaction/bet"})


@pytest.fixture(scope="module")
def normaliser() -> Normaliser:
    return Normaliser(DIALECTS, {})


@pytest.mark.parametrize("vector", vectors(), ids=lambda one: f"{one.provider}-{one.name}")
def test_what_the_same_adapter_made_is_the_same(normaliser, vector):
    again = renormalise(normaliser, vector.record)
    stored = renormalise(normaliser, vector.record).events
    found = compare_record(again, stored)
    assert [one.finding for one in found] == [EventFinding.SAME] * len(stored)
    assert differences(found) == []


def test_an_amount_that_was_read_wrongly_is_a_changed_event(normaliser):
    again = renormalise(normaliser, RECORD)
    [event] = again.events
    wrong = replace(event, legs=[replace(event.legs[0], amount=Amount(1, 0))])
    [found] = differences(compare_record(again, [wrong]))
    assert (found.finding, found.fields) == (EventFinding.CHANGED, ("legs",))
    assert (found.stored, found.again) == (wrong, event)


def test_an_event_that_is_not_in_the_log_is_missing_and_one_too_many_is_surplus(normaliser):
    again = renormalise(normaliser, RECORD)
    [missing] = compare_record(again, [])
    assert (missing.finding, missing.again) == (EventFinding.MISSING, again.events[0])
    more = replace(deposit("x", 5), attempt=replace(again.events[0].attempt, record_index=1))
    same, surplus = compare_record(again, [*again.events, more])
    assert (same.finding, surplus.finding, surplus.stored) == (
        EventFinding.SAME,
        EventFinding.SURPLUS,
        more,
    )


def test_an_event_under_another_identity_is_one_changed_event(normaliser):
    again = renormalise(normaliser, RECORD)
    wrong = replace(again.events[0], event_id=bet("other", 1).event_id, provider_tx_id="other")
    [found] = compare_record(again, [wrong])
    assert found.finding is EventFinding.CHANGED
    assert found.fields == ("event_id", "provider_tx_id")


def test_an_identity_that_moved_in_its_record_is_not_a_change(normaliser):
    again = renormalise(normaliser, RECORD)
    [event] = again.events
    moved = replace(event, attempt=replace(event.attempt, record_index=4))
    assert differences(compare_record(again, [moved])) == []


def test_copies_of_one_event_and_the_fields_of_its_day_are_not_differences(normaliser):
    again = renormalise(normaliser, RECORD)
    [event] = again.events
    stored = replace(event, signature="VALID", provider_version="0")
    assert differences(compare_record(again, [stored, stored])) == []


def test_a_player_whom_the_resolver_has_found_is_not_a_difference(normaliser):
    again = renormalise(normaliser, RECORD)
    parked = replace(again, events=[replace(again.events[0], player_id=None)])
    assert differences(compare_record(parked, again.events)) == []


def test_what_the_adapter_rejects_now_is_surplus(normaliser):
    [event] = renormalise(normaliser, RECORD).events
    again = renormalise(normaliser, raw_record("hub88", "{", {"http-path": "/transaction/bet"}))
    assert len(again.rejected) == 1
    [found] = compare_record(again, [event])
    assert found.finding is EventFinding.SURPLUS
    assert found.stored is not None
    assert found.stored.legs == [Leg("BET", Amount(100000, 5), "EUR")]
