"""Cache of the players of a worker's partitions between transactions.

A player's wallets and state are changed by events under the player's key alone, so by the owner of
one partition. As long as no other worker has claimed it, what was committed last is what the tables
hold. A claim increments the epoch, so each player is cached with the epoch of its commit and is
read again under any other. After a transaction whose end is not known the cache is cleared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Final

import msgspec

from ledger_sink.rules.book import Book
from ledger_sink.rules.journal import PlayerState, Wallet

PLAYERS_MAX: Final = 100_000
"""At some 500 bytes each, 50 MB a worker; the player that was read longest ago is dropped."""


class CachedPlayer(msgspec.Struct, gc=False):
    """A player's wallets and state as they were committed last; books get copies."""

    partition: int
    epoch: int
    wallets: tuple[Wallet, ...]
    state: PlayerState | None


class PlayerCache:
    """Players as of the last committed transaction."""

    def __init__(self, players_max: int = PLAYERS_MAX) -> None:
        self._players_max = players_max
        self._players: dict[str, CachedPlayer] = {}

    def clear(self) -> None:
        """Remove every player."""
        self._players.clear()

    def forget(self, players: Iterable[str]) -> None:
        """Remove these players."""
        for player_id in players:
            self._players.pop(player_id, None)

    def fill(self, book: Book, players: Mapping[str, int], epochs: Mapping[int, int]) -> list[str]:
        """Copy the cached players into a book and return those that have to be read.

        `players`: with their partitions. `epochs`: under which each of those is ours now.
        """
        missing: list[str] = []
        cached, wallets, brands = self._players.get, book.wallets, book.brands
        for player_id, partition in players.items():
            player = cached(player_id)
            if player is None or player.partition != partition or player.epoch != epochs[partition]:
                missing.append(player_id)
                continue
            for wallet in player.wallets:
                wallets[player_id, wallet.currency] = copy(wallet)
                if wallet.brand:
                    brands[player_id] = wallet.brand
            if player.state is not None:
                book.states[player_id] = player.state
        return missing

    def remember(self, book: Book, players: Mapping[str, int], epochs: Mapping[int, int]) -> None:
        """Cache the players of a committed book, which must not be changed any more.

        `epochs`: under which each partition was committed.
        """
        cached, states = self._players, book.states
        for player_id, partition in players.items():
            player = cached.get(player_id)
            epoch = epochs[partition]
            if player is None or player.partition != partition or player.epoch != epoch:
                cached[player_id] = CachedPlayer(partition, epoch, (), states.get(player_id))
        for (player_id, currency), wallet in book.wallets.items():
            player = cached[player_id]
            wallets = player.wallets
            if len(wallets) <= 1 and (not wallets or wallets[0].currency == currency):
                player.wallets = (wallet,)  # nearly every player has one
            else:
                others = (other for other in wallets if other.currency != currency)
                player.wallets = (*others, wallet)
        for player_id, state in book.changed_states.items():
            cached[player_id].state = state
        self._drop_oldest(len(cached) - self._players_max)

    def _drop_oldest(self, count: int) -> None:
        if count > 0:
            oldest = [player_id for player_id, _ in zip(self._players, range(count), strict=False)]
            for player_id in oldest:
                del self._players[player_id]
