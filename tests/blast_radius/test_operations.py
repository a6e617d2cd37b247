"""A signature that covers no operation: a signed bet that comes again as a win pays nothing."""

from __future__ import annotations

import orjson
import pytest

from ledger_sink.booking.messages import MessageEncoder
from ledger_sink.rules.book import Book
from ledger_sink.rules.posting import post
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser
from streams.providers.registry import DIALECTS
from tests.blast_radius.test_brands import first_deposit, hub88
from tests.support.dialect_records import raw_record
from tests.support.ledger_events import log_event, purse


def as_operation(record, operation, offset):
    return raw_record(
        "hub88", record.value, {"http-path": f"/transaction/{operation}"}, offset=offset
    )


def book_records(*records):
    normaliser, book = Normaliser(DIALECTS, {}), Book()
    for record in records:
        [item] = normaliser.normalise(record)
        assert isinstance(item, AcceptedTransaction), item
        post(book, log_event(item.transaction, offset=record.offset), DIALECTS["hub88"].policy)
    return book


def test_the_bytes_of_a_bet_under_the_path_of_a_win_are_refused_with_a_signal():
    bet = hub88("bet", "b", 10, 1)
    book = book_records(first_deposit(), bet, as_operation(bet, "win", 2))
    assert [(one.answer.outcome, one.answer.reason) for one in book.decisions[1:]] == [
        ("POSTED", "BOOKED"),
        ("UNRESOLVED", "ID_OF_OTHER_OPERATION"),
    ]
    assert purse(book) == (9_000, 0, 0)
    signals = [MessageEncoder("log").encode_signal(one) for one in book.decisions]
    assert [signal is not None for signal in signals] == [False, False, True]
    assert signals[2] is not None
    assert b"OTHER_OPERATION" in signals[2][1]


def test_a_win_under_the_path_of_a_bet_is_refused_and_stays_refused():
    win = hub88("win", "w", 10, 1)
    forged = as_operation(win, "bet", 2)
    book = book_records(first_deposit(), win, forged, as_operation(win, "bet", 3))
    answers = [(one.answer.outcome, one.answer.reason) for one in book.decisions[2:]]
    assert answers == [("REFUSED_REFERENCE", "ID_OF_OTHER_OPERATION")] * 2
    assert purse(book) == (11_000, 0, 0)


@pytest.mark.parametrize("again", [1, 2])
def test_what_was_refused_does_not_stop_the_real_one(again):
    bet = hub88("bet", "b", 10, 1)
    forged = [as_operation(bet, "win", 1 + number) for number in range(again)]
    retry = as_operation(bet, "bet", 9)
    book = book_records(first_deposit(), bet, *forged, retry, hub88("win", "w", 50, 10, of="b"))
    assert [one.answer.outcome for one in book.decisions[-2:]] == ["EXISTS", "POSTED"]
    assert purse(book) == (14_000, 0, 0)


def test_body_is_the_same():
    bet = hub88("bet", "b", 10, 1)
    assert as_operation(bet, "win", 2).value == bet.value
    assert orjson.loads(bet.value)["transaction_uuid"] == "b"
