"""What is taken from a payment is never more than the payment, however many notices say so."""

from __future__ import annotations

import pytest

from ledger_sink.booking.messages import MessageEncoder
from tests.support.ledger_events import book_of, deposit, last, purse
from tests.unit.ledger.test_payments import CARDS, house_sums, later


def reasons(book):
    return [one.answer.reason for one in book.decisions]


def test_a_second_reversal_of_the_whole_payment_waits_for_a_person():
    book = book_of(
        deposit("d", 300),
        deposit("e", 900),
        later("REFUND", "r", 300),
        later("CHARGEBACK", "c", 300),
        later("CHARGEBACK", "other", 900, reference=("AUTHORISATION", "e")),
        policy=CARDS,
    )
    assert reasons(book)[2:] == ["BOOKED", "ABOVE_PAYMENT", "BOOKED"]
    assert purse(book) == (0, 0, 0)
    assert house_sums(book)["suspense:adyen", "EUR"] == -300
    assert MessageEncoder("log").encode_alert(book.decisions[3]) is not None


@pytest.mark.parametrize("first", ["REFUND", "CHARGEBACK"])
def test_parts_are_taken_up_to_the_payment(first):
    parts = [later(first, f"p{number}", 100) for number in range(4)]
    book = book_of(deposit("d", 300), *parts, policy=CARDS)
    assert reasons(book)[1:] == ["BOOKED", "BOOKED", "BOOKED", "ABOVE_PAYMENT"]
    assert purse(book) == (0, 0, 0)


def test_what_came_back_can_be_taken_again():
    book = book_of(
        deposit("d", 300),
        later("CHARGEBACK", "c", 300),
        later("CHARGEBACK_REVERSED", "c", 300),
        later("REFUND", "r", 300),
        policy=CARDS,
    )
    assert reasons(book)[1:] == ["BOOKED"] * 3
    assert purse(book) == (0, 0, 0)


def test_what_comes_back_fills_what_waits_in_suspense_first():
    book = book_of(
        deposit("d", 300),
        later("CHARGEBACK", "a", 200),
        later("CHARGEBACK", "b", 150),
        later("CHARGEBACK", "c", 100),
        later("CHARGEBACK_REVERSED", "c", 100),
        later("CHARGEBACK_REVERSED", "b", 150),
        later("CHARGEBACK_REVERSED", "a", 200),
        policy=CARDS,
    )
    assert reasons(book)[1:4] == ["BOOKED", "ABOVE_PAYMENT", "BOOKED"]
    assert purse(book) == (300, 0, 0)
    assert house_sums(book) == {("psp:adyen", "EUR"): -300}


def test_what_was_taken_before_the_payment_came_counts():
    book = book_of(
        later("REFUND", "r", 300), deposit("d", 300), later("CHARGEBACK", "c", 1), policy=CARDS
    )
    assert last(book).answer.reason == "ABOVE_PAYMENT"
    assert purse(book) == (0, 0, 0)
