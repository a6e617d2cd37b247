"""The chart of accounts.

A player's wallet has three accounts; all others belong to the house and are never locked.
"""

from __future__ import annotations

from typing import Final

CASH: Final = "cash"
BONUS: Final = "bonus"
HELD: Final = "held"

ADJUSTMENTS: Final = "adjustments"


def player_account(player_id: str, purse: str) -> str:
    """One of a player's accounts: `player:p-1001:cash`."""
    return f"player:{player_id}:{purse}"


def purse_of(account: str) -> str | None:
    """Which of a player's accounts an address names; None for a house account.

    A player id may contain colons.
    """
    return account.rsplit(":", 1)[1] if account.startswith("player:") else None


def provider_account(provider: str) -> str:
    """What a game provider has won from, and paid to, players."""
    return f"provider:{provider}"


def jackpot_account(provider: str) -> str:
    """The pool that a provider's jackpots are paid from."""
    return f"jackpot:{provider}"


def psp_account(provider: str) -> str:
    """What a payment provider holds for us."""
    return f"psp:{provider}"


def promotions_account(brand: str) -> str:
    """What a brand gives away."""
    return f"promotions:{brand}"


def suspense_account(provider: str) -> str:
    """Money that came without a player to give it to; a person finds out whose it is."""
    return f"suspense:{provider}"
