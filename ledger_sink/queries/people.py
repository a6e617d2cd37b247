"""Queries of operators about people: a player, open proposals, debts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ledger_sink.rules.journal import PlayerState, Proposal, Wallet
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements

_SQL = statements("people")


class PlayerView(msgspec.Struct, frozen=True):
    """A player's wallets, and the player's state as the log has set it."""

    player_id: str
    wallets: list[Wallet]
    state: PlayerState


async def read_player(database: LedgerDatabase, player_id: str) -> PlayerView:
    """Return a player's wallets and state as they are now.

    A player that the ledger has never seen has no wallets and an empty state.
    """
    columns = {"player": player_id}
    rows = await database.query(_SQL["wallets_of_player"], columns)
    states = await database.query(_SQL["state_of_player"], columns)
    wallets = [Wallet(player_id, *row) for row in rows]
    state = PlayerState(*states[0]) if states else PlayerState(player_id)
    return PlayerView(player_id, wallets, state)


async def read_brand(database: LedgerDatabase, player_id: str) -> str | None:
    """Return the brand that a player belongs to; None where no money has moved."""
    rows = await database.query(_SQL["brand_of_player"], {"player": player_id})
    return rows[0][0] if rows else None


async def read_open_proposals(database: LedgerDatabase) -> list[Proposal]:
    """Return acts that a second operator has not approved yet, oldest first."""
    rows = await database.query(_SQL["open_proposals"])
    return [Proposal(*row) for row in rows]


async def read_debts(database: LedgerDatabase) -> list[Wallet]:
    """Return wallets with an account below zero, the largest debt first.

    Debts are compared by minor units, each in its wallet's own currency.
    """
    return [Wallet(*row) for row in await database.query(_SQL["debts"])]


async def count_outcomes(database: LedgerDatabase, event_ids: Sequence[str]) -> dict[str, int]:
    """Return how many of some events have which outcome; those not decided yet are left out.

    Raises Unavailable.
    """
    rows = await database.query(_SQL["outcomes_of_events"], {"event_ids": list(event_ids)})
    return dict(rows)
