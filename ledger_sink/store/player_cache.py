"""What a worker remembers of the players of its partitions from one transaction to the next. Pure.

A player's wallets and state are changed by events under the player's key alone, so by the owner of
one partition, and as long as nobody else has claimed it, what was committed last is what the tables
hold. A claim counts up the epoch, so each player is remembered with the epoch that it was committed
under, and is read anew under any other. After a transaction whose end is not known all is
forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Final

import msgspec

from ledger_sink.rules.book import Book
from ledger_sink.rules.journal import PlayerState, Wallet

PLAYERS_MAX: Final = 100_000
"""At some 500 bytes each, 50 MB a worker; whoever was read longest ago is read anew."""


class CachedPlayer(msgspec.Struct, gc=False):
    """All wallets of a player, and the state if there is one, as they were committed last: books
    get copies.
    """

    partition: int
    epoch: int
    wallets: tuple[Wallet, ...]
    state: PlayerState | None


class PlayerCache:
    """Players as the last committed transaction has left them."""

    def __init__(self, players_max: int = PLAYERS_MAX) -> None:
        self._players_max = players_max
        self._players: dict[str, CachedPlayer] = {}

    def clear(self) -> None:
        """Trust nothing any more."""
        self._players.clear()

    def fill(self, book: Book, players: Mapping[str, int], epochs: Mapping[int, int]) -> list[str]:
        """Write into a book what is known of players, given with their partitions, and return those
        to be read.

        `epochs`: under which claim each of the partitions is ours now.
        """
        missing: list[str] = []
        known, wallets = self._players.get, book.wallets
        for player_id, part in players.items():
            player = known(player_id)
            if player is None or player.partition != part or player.epoch != epochs[part]:
                missing.append(player_id)
                continue
            for wallet in player.wallets:
                wallets[player_id, wallet.currency] = copy(wallet)
            if player.state is not None:
                book.states[player_id] = player.state
        return missing

    def remember(self, book: Book, players: Mapping[str, int], epochs: Mapping[int, int]) -> None:
        """Remember players as a book has left them, which must not be changed any more.

        `epochs`: under which claim of each partition it was committed.
        """
        remembered, states = self._players, book.states
        for player_id, part in players.items():
            player = remembered.get(player_id)
            if player is None or player.partition != part or player.epoch != epochs[part]:
                remembered[player_id] = CachedPlayer(part, epochs[part], (), states.get(player_id))
        for (player_id, currency), wallet in book.wallets.items():
            player = remembered[player_id]
            wallets = player.wallets
            if len(wallets) <= 1 and (not wallets or wallets[0].currency == currency):
                player.wallets = (wallet,)  # as nearly everybody's
            else:
                player.wallets = (
                    *(other for other in wallets if other.currency != currency),
                    wallet,
                )
        for player_id, state in book.changed_states.items():
            remembered[player_id].state = state
        self._drop_oldest(len(remembered) - self._players_max)

    def _drop_oldest(self, count: int) -> None:
        if count > 0:
            for player_id in [
                player_id for player_id, _ in zip(self._players, range(count), strict=False)
            ]:
                del self._players[player_id]


def carry_over(
    book: Book, before: Book, event_ids: frozenset[str], players: Mapping[str, int]
) -> None:
    """Add to a book what one decided just before it has changed and the tables did not hold yet
    when it was read.
    """
    for event_id in event_ids.intersection(before.entries):
        entries = before.entries[event_id]
        if len(entries) > len(book.entries.get(event_id, ())):
            book.entries[event_id] = entries[:]
            keys = [(event_id, entry.decision) for entry in entries]
            book.transfers_of.update(
                {key: before.transfers_of[key] for key in keys if key in before.transfers_of}
            )
    book.repeats.update(before.repeats)
    for key, (_, closing) in before.new_closings.items():
        book.closings[key] = closing
    for proposal in before.new_proposals:
        book.proposals[proposal.event_id] = proposal
    for key, wallet in before.changed_wallets.items():
        if key[0] in players:
            book.wallets[key] = copy(wallet)
    for player_id, state in before.changed_states.items():
        if player_id in players:
            book.states[player_id] = state
