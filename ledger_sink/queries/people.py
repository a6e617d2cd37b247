"""What people ask the ledger's tables: how a player stands, what waits for a second person, who
owes us.
"""

from __future__ import annotations

import msgspec

from ledger_sink.rules.journal import PlayerState, Proposal, Wallet
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements

_SQL = statements("people")


class PlayerView(msgspec.Struct, frozen=True):
    """A player's wallets, and what the log says of the player besides."""

    player_id: str
    wallets: list[Wallet]
    state: PlayerState


async def read_player(database: LedgerDatabase, player_id: str) -> PlayerView:
    """How a player stands now.

    A player that the ledger has never seen has no wallets and an empty state.
    """
    asked = {"player": player_id}
    rows = await database.query(_SQL["wallets_of_player"], asked)
    states = await database.query(_SQL["state_of_player"], asked)
    wallets = [Wallet(player_id, *row) for row in rows]
    return PlayerView(
        player_id, wallets, PlayerState(*states[0]) if states else PlayerState(player_id)
    )


async def read_open_proposals(
    database: LedgerDatabase, event_id: str | None = None
) -> list[Proposal]:
    """Adjustments that nobody has approved yet, oldest first; or the one with this event id, if it
    is open.
    """
    rows = await database.query(_SQL["read_open_proposals"], {"event_id": event_id})
    return [Proposal(*row) for row in rows]


async def read_debts(database: LedgerDatabase) -> list[Wallet]:
    """Wallets with an account below zero, the largest debt first, each in its own currency's minor
    units.
    """
    return [Wallet(*row) for row in await database.query(_SQL["debts"])]
