"""Players are remembered as they were committed under one claim of their partition, and under no other."""

from __future__ import annotations

from ledger_sink.store.player_cache import PlayerCache
from tests.support.ledger_events import book_of, deposit

IN_PARTITION_0 = {"p-1": 0}


def fill_book(cache, epoch, partition=0):
    """Whom it does not know, and the cash of whom it does."""
    book = book_of()
    missing = cache.fill(book, {"p-1": partition}, {partition: epoch})
    return missing, [wallet.cash_minor for wallet in book.wallets.values()]


def test_a_player_is_known_under_the_claim_that_was_committed_under():
    cache = PlayerCache()
    cache.remember(book_of(deposit("d", 70)), IN_PARTITION_0, {0: 3})
    assert fill_book(cache, 3) == ([], [70])
    assert fill_book(cache, 4) == (["p-1"], [])
    assert fill_book(cache, 3, partition=1) == (["p-1"], [])


def test_what_is_kept_after_all_was_forgotten_holds_for_its_claim_only():
    """A group that has to be decided anew forgets everybody between its beginning and its end."""
    cache = PlayerCache()
    cache.fill(book_of(), IN_PARTITION_0, {0: 3})
    cache.clear()
    cache.remember(book_of(deposit("d", 70)), IN_PARTITION_0, {0: 3})
    assert fill_book(cache, 5) == (["p-1"], [])
    # Nor is anything left of it once the player is kept under the other claim.
    cache.remember(book_of(deposit("e", 9)), IN_PARTITION_0, {0: 5})
    assert fill_book(cache, 5) == ([], [9])
