"""Records that cannot be booked: what a quarantine needs, what stands in their place, and what repeats get."""

from __future__ import annotations

import msgspec
import pytest

from ledger_sink.rules.book import Book, LogEvent
from ledger_sink.rules.posting import post
from ledger_sink.rules.quarantine import QuarantineSearch, quarantined_event
from schemas.errors import InvariantBroken
from schemas.events import Amount, Leg, Position
from schemas.identity import quarantined_record
from schemas.policies import DEFAULT_POLICY
from tests.support.ledger_events import (
    bet,
    book_of,
    call,
    deposit,
    log_event,
    quarantine,
    transaction,
    win,
)

PLACE = Position("wallet.transactions.v1", 0, 7)
RECORD = quarantined_record(PLACE, 0xBEEF)


def search(*events):
    searching = QuarantineSearch(PLACE, 0xBEEF)
    return [searching.observe(event) for event in events][-1]


def approved():
    return search(quarantine("proposed", RECORD, "ann"), quarantine("approved", RECORD, "bob"))


def answers(book):
    return [(one.answer.outcome, one.answer.reason) for one in book.decisions]


def test_a_record_is_named_by_place_and_checksum():
    assert RECORD == "wallet.transactions.v1-0@7#0000beef"


def test_two_people_quarantine_a_record():
    found = approved()
    assert (found.record, found.proposed_by, found.approved_by) == (RECORD, "ann", "bob")
    assert found.reason == "because"


@pytest.mark.parametrize(
    "events",
    [
        [quarantine("proposed", RECORD, "ann")],
        [quarantine("approved", RECORD, "bob")],
        [quarantine("approved", RECORD, "bob"), quarantine("proposed", RECORD, "ann")],
        [quarantine("proposed", RECORD, "ann"), quarantine("approved", RECORD, " ANN")],
        [quarantine("proposed", RECORD, "ann"), quarantine("approved", RECORD, "")],
        [quarantine("proposed", RECORD, "ann"), quarantine("proposed", RECORD, "bob")],
        [quarantine("proposed", RECORD[:-1] + "e", "ann"), quarantine("approved", RECORD, "bob")],
        [quarantine("proposed", RECORD, "ann"), quarantine("approved", RECORD[:-1] + "e", "bob")],
        [bet("b", 1), deposit("d", 1)],
    ],
)
def test_anything_less_is_none(events):
    assert search(*events) is None


def test_events_of_other_providers_are_none():
    forged = [
        msgspec.structs.replace(quarantine(what, RECORD, who), provider="hub88")
        for what, who in (("proposed", "ann"), ("approved", "bob"))
    ]
    assert search(*forged) is None


def test_a_quarantined_event_moves_nothing_and_its_repeats_get_its_answer():
    unknown = transaction("teleport", "t", Leg("TELEPORT", Amount(100, 2), "EUR"))
    book = book_of(deposit("d", 500))
    with pytest.raises(InvariantBroken, match="no posting rule"):
        post(book, log_event(unknown), DEFAULT_POLICY)
    post(book, quarantined_event(PLACE, 5, unknown, approved()), DEFAULT_POLICY)
    again = msgspec.structs.replace(
        unknown, attempt=msgspec.structs.replace(unknown.attempt, offset=10**6)
    )
    post(book, log_event(unknown), DEFAULT_POLICY)
    post(book, log_event(again), DEFAULT_POLICY)
    assert answers(book)[1:] == [("UNRESOLVED", "QUARANTINED")] * 3
    assert book.wallets["p-1", "EUR"].cash_minor == 500


def test_what_was_booked_before_under_the_same_id_stays_booked():
    book = book_of(deposit("d", 500), bet("b", 100))
    post(book, quarantined_event(PLACE, 5, bet("b", 100), approved()), DEFAULT_POLICY)
    assert len(book.entries[bet("b", 100).event_id]) == 1
    assert book.entries[bet("b", 100).event_id][0].answer.outcome == "POSTED"
    assert answers(book)[-1] == ("UNRESOLVED", "QUARANTINED")


def test_the_events_of_a_group_share_its_fate():
    first, second = call(
        transaction("teleport", "t", Leg("TELEPORT", Amount(100, 2), "EUR")), win("w", 100, "t")
    )
    book = book_of(deposit("d", 500))
    post(book, quarantined_event(PLACE, 5, first, approved()), DEFAULT_POLICY)
    post(book, log_event(second), DEFAULT_POLICY)
    assert answers(book)[1:] == [("UNRESOLVED", "QUARANTINED")] * 3
    assert book.wallets["p-1", "EUR"].cash_minor == 500


@pytest.mark.parametrize(
    "event",
    [
        None,
        win("w\0", 1, "b"),
        win("w", 1, "b", player="p" * 600),
        msgspec.structs.replace(win("w", 1, "b"), event_id="none"),
        msgspec.structs.replace(win("w", 1, "b"), event_id=win("w", 1, "b").event_id.upper()),
    ],
)
def test_a_stand_in_takes_the_place_of_what_no_table_holds(event):
    booked = quarantined_event(PLACE, 5, event, approved())
    assert booked.event.provider_tx_id == RECORD
    assert booked.event.event_id == approved().event_id
    assert booked.event.player_id is None
    if event is not None:
        assert booked.event.attempt == event.attempt
    book = Book()
    post(book, booked, DEFAULT_POLICY)
    assert answers(book) == [("UNRESOLVED", "QUARANTINED")]


def test_the_ledger_answers_proposals_and_approvals_when_it_comes_to_them():
    proposed, approval = (
        quarantine("proposed", RECORD, "ann"),
        quarantine("approved", RECORD, "bob"),
    )
    late, other = quarantine("approved", RECORD, "cy"), quarantine("approved", RECORD[:-1], "bob")
    unknown = transaction("teleport", "t", Leg("TELEPORT"))
    book = Book()
    post(book, quarantined_event(PLACE, 5, unknown, search(proposed, approval)), DEFAULT_POLICY)
    for offset, event in enumerate((proposed, approval, late, other), 8):
        post(book, LogEvent(event, Position(PLACE.topic, 0, offset)), DEFAULT_POLICY)
    assert answers(book)[1:] == [
        ("INFORMATIONAL", "NOTED"),
        ("POSTED", "RECORD_QUARANTINED"),
        ("POSTED", "ALREADY_CLOSED"),
        ("REFUSED_REFERENCE", "RECORD_NOT_WAITING"),
    ]


def test_a_quarantine_of_a_good_event_changes_nothing():
    book = book_of(deposit("d", 500))
    before = msgspec.msgpack.encode(list(book.wallets.values()))
    for what, who in (("proposed", "ann"), ("approved", "bob")):
        post(book, log_event(quarantine(what, RECORD, who)), DEFAULT_POLICY)
    assert answers(book)[1:] == [("REFUSED_REFERENCE", "RECORD_NOT_WAITING")] * 2
    assert msgspec.msgpack.encode(list(book.wallets.values())) == before
    assert book.closings == {}
