"""Money in suspense: a person gives it to its player or back, once; what is open, and who may act alone."""

from __future__ import annotations

import msgspec
import pytest

from ledger_sink.rules.book import Book
from ledger_sink.store.reading import collect_read_set
from schemas.causes import PART
from schemas.events import Cause
from schemas.identity import ENTRY
from schemas.policies import LedgerPolicy
from tests.support.ledger_events import (
    book_of,
    deposit,
    house,
    leg,
    limit_events,
    log_event,
    transaction,
    win,
)

UNKNOWN = deposit("d-1", 5_000, player=None)
CARD = LedgerPolicy(reversal_beyond_payment="SUSPENSE", opened_amount_differs="SUSPENSE")


def by(actor: str) -> Cause:
    return Cause("operator", "o", actor, "a letter from the bank")


def assign(name, event, player="p-1", actor="ann"):
    return house(
        "suspense.assigned",
        name,
        leg("SUSPENSE_ASSIGNMENT", None, None),
        player=player,
        reference=(ENTRY, event.event_id),
        cause=by(actor),
    )


def give_back(name, event, actor="ann"):
    return house(
        "suspense.returned",
        name,
        leg("SUSPENSE_RETURN", None, None),
        player=None,
        reference=(ENTRY, event.event_id),
        cause=by(actor),
    )


def answer(name, event):
    return house(
        "item.answered",
        name,
        leg("ANSWER", None, None),
        player=None,
        reference=(ENTRY, event.event_id),
        cause=by("ann"),
    )


def propose(name, event, player="p-1", actor="ann"):
    act = "return" if player is None else "assignment"
    return house(
        f"suspense.{act}.proposed",
        name,
        leg("PROPOSAL", None, None),
        player=player,
        reference=(ENTRY, event.event_id),
        cause=by(actor),
    )


def approve(name, proposal, player="p-1", actor="bob"):
    act, kind = ("return", "RETURN") if player is None else ("assignment", "ASSIGNMENT")
    return house(
        f"suspense.{act}.approved",
        name,
        leg(f"SUSPENSE_{kind}", None, None),
        player=player,
        reference=(f"suspense.{act}.proposed", proposal),
        cause=by(actor),
    )


def reasons(book: Book) -> list[str]:
    return [f"{one.answer.outcome} {one.answer.reason}" for one in book.decisions]


def house_money(book: Book, account: str, currency: str = "EUR") -> int:
    moves = [transfer for _, _, transfer in book.new_transfers if transfer.currency == currency]
    given = sum(one.amount_minor for one in moves if one.credit == account)
    return given - sum(one.amount_minor for one in moves if one.debit == account)


def cash(book: Book, player: str = "p-1") -> int:
    return book.wallet(player, "EUR").cash_minor


def test_what_stands_in_suspense_is_given_to_its_player_once():
    book = book_of(
        *limit_events(5_000), UNKNOWN, assign("s-1", UNKNOWN), assign("s-2", UNKNOWN, player="p-2")
    )
    assert reasons(book)[2:] == [
        "UNRESOLVED PLAYER_UNKNOWN",
        "POSTED BOOKED",
        "REFUSED_REFERENCE ITEM_CLOSED",
    ]
    assert (cash(book), cash(book, "p-2")) == (5_000, 0)
    assert (house_money(book, "suspense:adyen"), house_money(book, "psp:adyen")) == (0, -5_000)
    assert not book.open_items


def test_above_the_limit_it_takes_two_people_whoever_asks():
    alone = assign("s-1", UNKNOWN)
    book = book_of(
        UNKNOWN,
        alone,
        propose("q-1", UNKNOWN),
        approve("a-1", "q-1", actor="Ann "),
        approve("a-2", "q-1"),
        approve("a-3", "q-1"),
    )
    assert reasons(book) == [
        "UNRESOLVED PLAYER_UNKNOWN",
        "REFUSED_LIMIT SECOND_PERSON_REQUIRED",
        "INFORMATIONAL NOTED",
        "REFUSED_REFERENCE SELF_APPROVAL",
        "POSTED BOOKED",
        "POSTED ALREADY_CLOSED",
    ]
    assert cash(book) == 5_000


def test_a_correction_of_one_person_above_the_limit_is_refused_by_the_ledger():
    def adjust(name, minor):
        return house("adjustment", name, leg("ADJUSTMENT", minor), cause=by("ann"))

    book = book_of(
        adjust("a-1", 1),
        *limit_events(100),
        adjust("a-2", 100),
        adjust("a-3", -101),
        *limit_events(10),
        adjust("a-4", 11),
        transaction("adjustment", "g-1", leg("ADJUSTMENT", 9_999), provider="pragmatic"),
    )
    assert [reason for reason in reasons(book) if "NOTED" not in reason] == [
        "REFUSED_LIMIT SECOND_PERSON_REQUIRED",
        "POSTED BOOKED",
        "POSTED BOOKED",
        "REFUSED_LIMIT SECOND_PERSON_REQUIRED",
        "POSTED BOOKED",
        "REFUSED_LIMIT SECOND_PERSON_REQUIRED",
        "POSTED BOOKED",
    ]
    assert cash(book) == 100 + 9_999


def test_a_limit_takes_two_people_and_holds_for_its_currency():
    proposed, approved = limit_events(100)
    itself = house(
        "limit.approved",
        "self",
        leg("OPERATOR_LIMIT", None, None),
        player=None,
        reference=("limit.proposed", proposed.provider_tx_id),
        cause=by("ANN"),
    )
    book = book_of(proposed, itself, approved)
    assert reasons(book) == [
        "INFORMATIONAL NOTED",
        "REFUSED_REFERENCE SELF_APPROVAL",
        "POSTED BOOKED",
    ]
    assert book.operator_limits["EUR"].amount_minor == 100
    assert "USD" not in book.operator_limits


def test_it_goes_back_to_the_payment_provider():
    book = book_of(*limit_events(5_000), UNKNOWN, give_back("r-1", UNKNOWN), assign("s-1", UNKNOWN))
    assert reasons(book)[3:] == ["POSTED BOOKED", "REFUSED_REFERENCE ITEM_CLOSED"]
    assert (house_money(book, "suspense:adyen"), house_money(book, "psp:adyen")) == (0, 0)
    two = book_of(UNKNOWN, propose("q", UNKNOWN, player=None), approve("a", "q", player=None))
    assert reasons(two)[1:] == ["INFORMATIONAL NOTED", "POSTED BOOKED"]


def test_a_chargeback_in_suspense_is_taken_from_its_player():
    back = transaction(
        "CHARGEBACK", "c", leg("DEPOSIT_REVERSAL", 700), provider="adyen", player=None
    )
    book = book_of(*limit_events(700), back, assign("s-1", back))
    assert reasons(book)[2:] == ["UNRESOLVED PLAYER_UNKNOWN", "POSTED BOOKED_INTO_DEBT"]
    assert cash(book) == -700
    assert (house_money(book, "suspense:adyen"), house_money(book, "psp:adyen")) == (0, 700)


def whole(minor: int = 10_000):
    return transaction("CRDT", "w-1", leg("DEPOSIT", minor), provider="camt", player=None)


def division(minor: int = 10_000):
    return transaction(
        "CRDT:DTLS",
        "w-1",
        leg("ROLLBACK", minor),
        provider="camt",
        player=None,
        reference=("CRDT", "w-1"),
        cause=Cause("divided", "w-1", reason="DEPOSIT"),
    )


def part(name: str, minor: int, player: str | None):
    cause = Cause(PART, "w-1", reason="CRDT")
    return transaction(
        "CRDT", name, leg("DEPOSIT", minor), provider="camt", player=player, cause=cause
    )


@pytest.mark.parametrize("act", [assign, give_back])
def test_parts_of_a_whole_that_a_person_has_moved_move_nothing_and_are_open(act):
    parts = (part("x", 3_000, "p-2"), part("y", 7_000, None))
    book = book_of(*limit_events(10_000), whole(), act("s-1", whole()), *parts, division())
    assert reasons(book)[3:] == ["POSTED BOOKED"] + ["UNRESOLVED WHOLE_MOVED"] * 3
    assert house_money(book, "suspense:camt") == 0
    assert cash(book, "p-2") == 0
    assert sorted(item.amount_minor or 0 for item in book.open_items.values()) == [
        3_000,
        7_000,
        10_000,
    ]
    assert not any(item.in_suspense for item in book.open_items.values())


def test_a_part_that_comes_under_another_brand_than_its_players_is_not_suspended_again():
    """Its whole is where a person has put it, so the money in suspense would not exist."""
    of_other_brand = msgspec.structs.replace(deposit("d-2", 100, player="p-2"), brand="zeta")
    moved = (*limit_events(10_000), whole(), assign("s-1", whole()))
    book = book_of(of_other_brand, *moved, part("x", 3_000, "p-2"))
    assert reasons(book)[-1] == "UNRESOLVED WHOLE_MOVED"
    assert house_money(book, "suspense:camt") == 0
    assert not any(item.in_suspense for item in book.open_items.values())


@pytest.mark.parametrize("provider", ["house", "hub88"])
def test_an_event_of_the_log_without_a_leg_is_read_for_and_noted(provider):
    empty = transaction("o", "e-1", provider=provider, reference=("bet", "b-1"), cause=by("ann"))
    assert collect_read_set([log_event(empty)], {}).event_ids == {empty.event_id}
    assert reasons(book_of(empty)) == ["INFORMATIONAL NOTED"]


def test_a_whole_that_was_divided_first_is_not_there_to_be_assigned():
    book = book_of(*limit_events(10_000), whole(), division(), assign("s-1", whole()))
    assert reasons(book)[3:] == ["POSTED BOOKED", "REFUSED_REFERENCE ITEM_CLOSED"]
    assert not book.open_items
    assert house_money(book, "suspense:camt") == 0


def test_a_payment_that_was_given_to_its_player_can_be_charged_back():
    opened = house("deposit.opened", "dep", leg("INFORMATIONAL", 900), cause=Cause("psp", "adyen"))
    paid = deposit("d", 1_000, reference=("deposit.opened", "dep"))
    back = transaction(
        "CHARGEBACK",
        "c",
        leg("DEPOSIT_REVERSAL", 1_000),
        provider="adyen",
        reference=("AUTHORISATION", "d"),
    )
    book = book_of(*limit_events(1_000), opened, paid, assign("s-1", paid), back, policy=CARD)
    assert reasons(book)[3:] == [
        "UNRESOLVED OPENED_AMOUNT_DIFFERS",
        "POSTED BOOKED",
        "POSTED BOOKED",
    ]
    assert (cash(book), house_money(book, "suspense:adyen")) == (0, 0)
    before = book_of(opened, paid, back, policy=CARD)
    assert reasons(before)[2:] == ["UNRESOLVED PAYMENT_IN_SUSPENSE"]


def test_what_moved_nothing_is_answered_once_and_what_moved_money_is_not():
    lost = win("w", 400, "b", player=None, provider="hundredhp")
    book = book_of(
        lost,
        UNKNOWN,
        answer("a", lost),
        answer("b", lost),
        answer("c", UNKNOWN),
        answer("d", deposit("never", 1)),
    )
    assert reasons(book)[2:] == [
        "POSTED BOOKED",
        "REFUSED_REFERENCE ITEM_CLOSED",
        "REFUSED_REFERENCE MONEY_IN_SUSPENSE",
        "REFUSED_REFERENCE ITEM_NOT_FOUND",
    ]
    assert list(book.open_items) == [UNKNOWN.event_id]
    nothing = book_of(lost, assign("s", lost))
    assert reasons(nothing)[1:] == ["REFUSED_REFERENCE NOTHING_IN_SUSPENSE"]


def test_an_event_whose_player_is_found_is_open_no_longer_unless_a_person_answered_it():
    lost = win("w", 400, "b", player=None, provider="hundredhp")
    found = win("w", 400, "b", player="p-1", provider="hundredhp")
    found = msgspec.structs.replace(found, fingerprint=lost.fingerprint)
    book = book_of(lost, found)
    assert reasons(book) == ["UNRESOLVED PLAYER_UNKNOWN", "POSTED BOOKED"]
    assert not book.open_items
    answered = book_of(lost, answer("a", lost), found)
    assert reasons(answered)[2:] == ["UNRESOLVED PLAYER_UNKNOWN"]
    assert cash(answered) == 0
