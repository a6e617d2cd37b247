"""Players are remembered as they were committed under one claim of their partition, and under no other."""

from __future__ import annotations

from ledger_sink.store.player_cache import PlayerCache
from tests.unit.ledger_events import book_of, deposit

IN_PART_0 = {"p-1": 0}


def entered(known, epoch, part=0):
    """Whom it does not know, and the cash of whom it does."""
    book = book_of()
    missing = known.fill(book, {"p-1": part}, {part: epoch})
    return missing, [wallet.cash_minor for wallet in book.wallets.values()]


def test_a_player_is_known_under_the_claim_that_was_committed_under():
    known = PlayerCache()
    known.remember(book_of(deposit("d", 70)), IN_PART_0, {0: 3})
    assert entered(known, 3) == ([], [70])
    assert entered(known, 4) == (["p-1"], [])
    assert entered(known, 3, part=1) == (["p-1"], [])


def test_what_is_kept_after_all_was_forgotten_holds_for_its_claim_only():
    """A group that has to be decided anew forgets everybody between its beginning and its end."""
    known = PlayerCache()
    known.fill(book_of(), IN_PART_0, {0: 3})
    known.clear()
    known.remember(book_of(deposit("d", 70)), IN_PART_0, {0: 3})
    assert entered(known, 5) == (["p-1"], [])
    # Nor is anything left of it once the player is kept under the other claim.
    known.remember(book_of(deposit("e", 9)), IN_PART_0, {0: 5})
    assert entered(known, 5) == ([], [9])
