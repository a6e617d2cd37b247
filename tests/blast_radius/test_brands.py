"""Brands: one header more or less pays no bet twice, and players of two brands share no wallet."""

from __future__ import annotations

import orjson
import pytest
from msgspec.structs import replace

from ledger_sink.booking.messages import MessageEncoder
from ledger_sink.rules.book import Book
from ledger_sink.rules.posting import post
from pitboss.settings import read_settings, read_worker_settings, show_values
from schemas.errors import UsageError
from streams.normalise.mapping.normaliser import AcceptedTransaction, Normaliser, RejectedItem
from streams.providers.registry import DIALECTS
from tests.support.dialect_records import raw_record
from tests.support.ledger_events import (
    book_of,
    deposit,
    house,
    leg,
    log_event,
    outcomes,
    purse,
    transaction,
)


def hub88(operation, tx_id, amount, offset, *, brand=None, of=None, round_id="r-1"):
    """Return a call as a connector appends it, with or without the header."""
    body = {
        "user": "p-1",
        "transaction_uuid": tx_id,
        "supplier_user": "p-1",
        "round": round_id,
        "round_closed": False,
        "request_uuid": f"request-{offset}",
        "token": "t",
        "game_code": "g",
        "game_id": 1,
        "currency": "EUR",
        "amount": amount * 100_000,
        "is_free": False,
    }
    if of is not None:
        body["reference_transaction_uuid"] = of
    headers = {"http-path": f"/transaction/{operation}"}
    if brand is not None:
        headers["brand"] = brand
    return raw_record("hub88", orjson.dumps(body), headers, offset=offset)


def book_records(records, brands=None):
    """Normalise and book raw records; return the book and what was rejected."""
    settings = {} if brands is None else {"brands": brands}
    normaliser = Normaliser(DIALECTS, {}, **settings)
    book, rejected = Book(), []
    policy = DIALECTS["hub88"].policy
    for record in records:
        for item in normaliser.normalise(record):
            if isinstance(item, AcceptedTransaction):
                post(book, log_event(item.transaction, offset=record.offset), policy)
            else:
                assert isinstance(item, RejectedItem)
                rejected.append(item)
    return book, rejected


def first_deposit():
    body = {
        "operation": "adjustment",
        "id": "a-1",
        "at": "2026-09-21T00:00:00Z",
        "player_id": "p-1",
        "amount": "100.00",
        "currency": "EUR",
        "actor": "kim",
        "reason": "a test",
    }
    return raw_record("house", orjson.dumps(body), {"brand": "default"}, offset=0)


def bet_and_win(first, brand=None):
    return [
        hub88("bet", "b", 10, first, brand=brand),
        hub88("win", "w", 50, first + 1, brand=brand, of="b"),
    ]


def test_the_same_bet_and_win_under_two_brands_are_booked_once():
    book, rejected = book_records(
        [
            first_deposit(),
            *bet_and_win(1),
            hub88("win", "w", 50, 3, of="b"),
            hub88("win", "w", 50, 4, of="b", brand="acme"),
            *bet_and_win(5, "acme"),
        ]
    )
    assert rejected == []
    answers = [(one.answer.outcome, one.answer.reason) for one in book.decisions]
    assert answers == [
        ("POSTED", "BOOKED"),
        ("POSTED", "BOOKED"),
        ("POSTED", "BOOKED"),
        ("EXISTS", "BOOKED"),
        ("UNRESOLVED", "PLAYER_OF_OTHER_BRAND"),
        ("REFUSED_BLOCKED", "PLAYER_OF_OTHER_BRAND"),
        ("UNRESOLVED", "PLAYER_OF_OTHER_BRAND"),
    ]
    assert purse(book) == (14_000, 0, 0)


def test_an_event_of_another_brand_gives_a_signal_the_same_from_memory_and_tables():
    book, _ = book_records([first_deposit(), hub88("bet", "b", 10, 1, brand="acme")])
    decided = book.decisions[-1]
    event, answer = decided.log_event.event, decided.answer
    encoder = MessageEncoder("wallet.transactions.v1")
    message = encoder.encode_signal(decided)
    assert message is not None
    attempt = event.attempt
    row = (
        *(decided.log_event.source.offset, event.event_id, event.brand, event.provider),
        *(event.operation, event.provider_tx_id),
        *(attempt.topic, attempt.partition, attempt.offset, attempt.record_index),
        *(event.player_id, answer.outcome, answer.reason, answer.currency),
        *(answer.available_minor, answer.version, answer.decided_at, event.occurred_at),
    )
    assert encoder.encode_signal_row(row) == message
    assert b"OTHER_BRAND" in message[1]
    assert encoder.encode_signal(book.decisions[0]) is None


@pytest.mark.parametrize(
    ("brand", "codes"),
    [(None, ["UNKNOWN_BRAND"]), ("acmee", ["UNKNOWN_BRAND"]), ("acme", [])],
)
@pytest.mark.parametrize("named", ["hub88", "*"])
def test_a_missing_or_unlisted_brand_is_a_dead_letter_once_any_is_configured(brand, codes, named):
    brands = {named: frozenset({"acme", "zeta"}), "adyen": frozenset({"zeta"})}
    _, rejected = book_records([hub88("bet", "b", 10, 1, brand=brand)], brands)
    assert [item.code for item in rejected] == codes


def test_a_provider_without_a_list_has_no_brand_once_any_is_configured():
    brands = {"adyen": frozenset({"acme"})}
    _, [item] = book_records([hub88("bet", "b", 10, 1, brand="acme")], brands)
    assert (item.code, item.record_index) == ("UNKNOWN_BRAND", None)
    assert "PITBOSS_BRANDS" in item.detail


def of_brand(event, brand):
    return replace(event, brand=brand)


def test_money_of_another_brand_waits_in_suspense_and_statements_apply():
    block = house("player.blocked", "x", leg("PLAYER_STATE", None, None))
    book = book_of(
        deposit("d", 100),
        of_brand(deposit("e", 70), "zeta"),
        of_brand(block, "zeta"),
        transaction("bet", "b", leg("BET", 1), decide=True),
    )
    assert outcomes(book) == ["POSTED", "UNRESOLVED", "POSTED", "REFUSED_BLOCKED"]
    assert purse(book) == (100, 0, 0)
    accounts = [(row.debit, row.credit, row.amount_minor) for _, _, row in book.new_transfers]
    assert accounts[1:] == [("psp:adyen", "suspense:adyen", 70)]


def test_a_player_whose_first_event_moved_nothing_has_no_brand_yet():
    book = book_of(
        of_brand(transaction("bet", "b", leg("BET", 50), decide=True), "zeta"), deposit("d", 100)
    )
    assert outcomes(book) == ["REFUSED_FUNDS", "POSTED"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hub88:acme,hub8:acme", "no adapter is called 'hub8': did you mean 'hub88'"),
        ("hub88", "give providers with their brands"),
        ("hub88:", "give providers with their brands"),
        ("hub88:a,hub88:b", "give providers with their brands"),
    ],
)
def test_a_list_of_brands_that_is_wrong_is_refused(text, message):
    with pytest.raises(UsageError, match=message):
        read_worker_settings({"PITBOSS_BRANDS": text})


def test_doctor_prints_the_brands_as_they_are_written():
    text = "*:acme,hub88:acme|zeta"
    settings = read_settings({"PITBOSS_BRANDS": text})
    assert show_values(settings)["brands"] == text
    assert read_worker_settings({"PITBOSS_BRANDS": text}).brands["*"] == {"acme"}
