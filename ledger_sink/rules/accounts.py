"""The chart of accounts.

A player's wallet has three accounts. All others belong to the house and are never locked.
"""

from __future__ import annotations

from typing import Final

CASH: Final = "cash"
BONUS: Final = "bonus"
HELD: Final = "held"

ADJUSTMENTS: Final = "adjustments"


def player_account(player_id: str, purse: str) -> str:
    """Return the address of one of a player's accounts, such as `player:p-1001:cash`."""
    return f"player:{player_id}:{purse}"


def purse_of(account: str) -> str | None:
    """Return which of a player's accounts an address names, or None for a house account.

    A player id may contain colons.
    """
    return account.rsplit(":", 1)[1] if account.startswith("player:") else None


def provider_account(provider: str) -> str:
    """Return the account of a game provider: what it has won from players and paid to them."""
    return f"provider:{provider}"


def jackpot_account(provider: str) -> str:
    """Return the account of the pool that a provider's jackpots are paid from."""
    return f"jackpot:{provider}"


def psp_account(provider: str) -> str:
    """Return the account of the money that a payment provider holds for us."""
    return f"psp:{provider}"


def promotions_account(brand: str) -> str:
    """Return the account of a brand's promotions, from which bonuses and free rounds are paid."""
    return f"promotions:{brand}"


def suspense_account(provider: str) -> str:
    """Return the account of money whose player is unknown; an operator finds out whose it is."""
    return f"suspense:{provider}"
