"""Events computed again from their raw records: what the log keeps, what the bytes say."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from replay.raw.recompute import EventRecomputer, find_without_twin
from schemas.events import Amount, Attempt
from schemas.topics import raw_topic
from streams.normalise.mapping.normaliser import Normaliser
from streams.normalise.mapping.renormalise import EventFinding, renormalise
from streams.providers.registry import DIALECTS
from tests.support.dialect_records import raw_record
from tests.support.ledger_events import deposit
from tests.support.memory_log import START_MS, MemoryLog, MemoryRecord

RAW = raw_topic("hub88")
COUNT = 5_000
"""More than a window holds."""
LATER_MS = START_MS + COUNT * 1_000 + 10**6


def body(number: int) -> bytes:
    text = {"user": "p-1", "transaction_uuid": f"t-{number}", "amount": 100_000, "currency": "EUR"}
    return json.dumps(text).encode()


@pytest.fixture(scope="module")
def normaliser() -> Normaliser:
    return Normaliser(DIALECTS, {})


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    headers = (("http-path", b"/transaction/bet"),)
    records = [
        MemoryRecord(number, START_MS + number * 1_000, b"p-1", body(number), headers)
        for number in range(COUNT)
    ]
    return MemoryLog({RAW: {0: records}}, append_time=True)


@pytest.fixture(scope="module")
def events(normaliser, log):
    return [
        event
        for row in log.records[RAW][0]
        for event in renormalise(
            normaliser,
            raw_record(
                "hub88",
                row.value,
                dict(row.headers),
                partition=0,
                offset=row.offset,
                timestamp=row.timestamp_ms,
            ),
        ).events
    ]


def test_what_the_same_adapter_made_comes_out_as_it_is(log, normaliser, events):
    recomputer = EventRecomputer(log, normaliser)
    assert [recomputer.recompute(event) for event in events] == events
    assert (recomputer.result.recomputed, recomputer.result.changed) == (COUNT, 0)
    assert recomputer.result.differences == []
    assert len(log.reads) < 10  # windows, not records one by one


def test_the_content_is_that_of_the_bytes_and_the_verdicts_are_the_logs(log, normaliser, events):
    wrong = replace(
        events[7],
        legs=[replace(events[7].legs[0], amount=Amount(1, 0))],
        signature="VALID",
    )
    recomputer = EventRecomputer(log, normaliser)
    again = recomputer.recompute(wrong)
    assert again == replace(events[7], signature="VALID")
    assert recomputer.result.changed == 1
    [difference] = recomputer.result.differences
    assert (difference.finding, difference.fields) == (EventFinding.CHANGED, ("legs",))


def test_an_event_that_the_record_does_not_mean_is_not_booked(log, normaliser, events):
    surplus = replace(deposit("x", 5), attempt=replace(events[3].attempt, record_index=1))
    recomputer = EventRecomputer(log, normaliser)
    assert recomputer.recompute(surplus) is None
    assert recomputer.result.surplus == 1


@pytest.mark.parametrize("attempt", [Attempt(RAW, 0, COUNT + 3), Attempt("away.raw.v1", 0, 0)])
def test_an_event_without_its_raw_record_is_booked_as_it_is(log, normaliser, events, attempt):
    event = replace(events[0], attempt=attempt)
    recomputer = EventRecomputer(log, normaliser)
    assert recomputer.recompute(event) == event
    assert recomputer.result.without_raw == 1
    assert recomputer.result.gone == [f"{attempt.topic}-0@{attempt.offset}"]


def test_raw_records_of_which_the_log_lacks_an_event_are_listed(log, normaliser, events):
    recomputer = EventRecomputer(log, normaliser)
    for event in [*events[:40], *events[41:]]:
        recomputer.recompute(event)
    [found] = find_without_twin(log, normaliser, [RAW, "away.raw.v1"], recomputer.seen, LATER_MS)
    assert (found.place, found.record_index) == (f"{RAW}-0@40", 0)
    assert found.event_id == events[40].event_id
    # What was appended in the minute before the moment may be on its way.
    at_ms = START_MS + 40 * 1_000 + 30_000
    assert not [*find_without_twin(log, normaliser, [RAW], recomputer.seen, at_ms)]


def test_a_record_that_the_adapter_rejects_is_listed_with_its_reason(normaliser):
    headers = (("http-path", b"/transaction/bet"),)
    broken = MemoryLog({RAW: {0: [MemoryRecord(0, START_MS, b"p-1", b"{", headers)]}})
    [found] = find_without_twin(broken, normaliser, [RAW], {}, LATER_MS)
    assert found.event_id is None
    assert found.reason.startswith("MALFORMED: ")
