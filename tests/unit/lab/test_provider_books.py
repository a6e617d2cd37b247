"""A provider's books follow its answers: a bet stands once, and never again after its rollback."""

from __future__ import annotations

import pytest

from lab.conformance.books import ProviderBooks, differing_books, moved_minor
from lab.conformance.intents import FREE_VERBS, Identity, Intent, IntentLeg, Verb
from schemas.identity import event_id

BET: Identity = ("aurora", "hub88", "bet", "t-1")
WIN: Identity = ("aurora", "hub88", "win", "t-2")


def intent(verb: Verb, minor: int | None, identity: Identity = BET) -> Intent:
    return Intent(verb, identity, "p-1", (IntentLeg("BET", minor, "EUR", verb in FREE_VERBS),))


@pytest.mark.parametrize(
    ("verb", "moved"),
    [
        (Verb.BET, -150),
        (Verb.FREE_BET, 0),
        (Verb.WIN, 150),
        (Verb.FREE_WIN, 150),
        (Verb.DEPOSIT, 150),
        (Verb.DEPOSIT_REFUSED, 0),
        (Verb.CAPTURE, 0),
        (Verb.REFUND, -150),
        (Verb.REFUND_RETURNED, 150),
        (Verb.CHARGEBACK, -150),
        (Verb.WITHDRAWAL_REQUESTED, 0),
        (Verb.WITHDRAWAL_REFUSED, 0),
        (Verb.PLAYER_BLOCKED, 0),
    ],
)
def test_what_an_accepted_intent_moves(verb, moved):
    assert moved_minor(intent(verb, 150)) == moved


def test_a_payout_pays_what_was_requested():
    requested = intent(Verb.WITHDRAWAL_REQUESTED, 700)
    assert moved_minor(intent(Verb.WITHDRAWAL_PAID, None), requested) == -700


def test_a_bet_is_booked_once_and_its_rollback_is_final():
    books = ProviderBooks()
    books.note_accepted(BET, -150)
    books.note_accepted(BET, -150)
    books.note_accepted(WIN, 200)
    assert books.stands(BET)
    assert books.moved_by_event() == {"hub88": {event_id(*BET): -150, event_id(*WIN): 200}}
    books.note_taken_back(BET)
    books.note_accepted(BET, -150)  # the answer to an earlier sending, after the rollback's
    assert not books.stands(BET)
    assert books.moved_by_event() == {"hub88": {event_id(*WIN): 200}}
    assert books.accepted == {WIN}


def test_books_that_agree_and_every_way_in_which_they_do_not():
    books = {"hub88": {"e-1": -150, "e-2": 200}}
    assert differing_books(books, {"hub88": {"e-2": 200, "e-1": -150}}) == []
    assert differing_books(books, {}) == [
        "hub88: the ledger moved -150 for event e-1, and by its answers the provider has 0",
        "hub88: the ledger moved 200 for event e-2, and by its answers the provider has 0",
    ]
    [line] = differing_books({}, {"hub88": {"e-1": -150}})
    assert line.startswith("hub88: the ledger moved 0 for event e-1")
    [line] = differing_books(books, {"hub88": {"e-1": -150, "e-2": 201}})
    assert line.endswith("the provider has 201")
    assert len(differing_books(books, {"playngo": books["hub88"]})) == 4
