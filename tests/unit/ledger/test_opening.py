"""Opening balances: the ledger compares them with its wallets, and makes no money."""

from __future__ import annotations

from ledger_sink.rules.book import Book, LogEvent
from ledger_sink.rules.posting import post
from schemas.events import Position
from schemas.policies import DEFAULT_POLICY
from tests.support.ledger_events import deposit, house, leg


def opened(cash: int, bonus: int = 0, held: int = 0, tx_id: str = "o"):
    kind = "OPENING_BALANCE"
    return house(
        "balance.opened", tx_id, leg(kind, cash), leg(kind, bonus), leg(kind, held), player="p-1"
    )


def decide(book: Book, *events) -> list[tuple[str, str]]:
    answers = [
        post(book, LogEvent(event, Position("log", 0, number), 1), DEFAULT_POLICY).answer
        for number, event in enumerate(events)
    ]
    return [(one.outcome, one.reason) for one in answers]


def test_a_balance_that_the_ledger_has_is_confirmed_and_moves_nothing():
    book = Book()
    assert decide(book, deposit("d", 500, player="p-1"), opened(500))[1] == (
        "INFORMATIONAL",
        "BALANCE_CONFIRMED",
    )
    assert book.wallets["p-1", "EUR"].version == 1
    assert book.open_items == {}


def test_another_balance_waits_for_a_person():
    for stated in ((501, 0, 0), (400, 100, 0), (500, 0, 1), (-500, 0, 0)):
        book = Book()
        last = decide(book, deposit("d", 500, player="p-1"), opened(*stated))[1]
        assert last == ("UNRESOLVED", "BALANCE_DIFFERS")
        assert book.wallets["p-1", "EUR"].cash_minor == 500
        assert len(book.open_items) == 1


def test_a_ledger_without_the_wallet_makes_no_money_of_a_signed_event():
    book = Book()
    assert decide(book, opened(500)) == [("UNRESOLVED", "BALANCE_DIFFERS")]
    assert book.new_transfers == []
