"""What the ledger says of one player at one moment: each wallet's money, and what stops a bet."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

_NONE: Final[Mapping[str, int]] = MappingProxyType({})


class CurrentWallet(NamedTuple):
    """One wallet: the money that may be bet, in minor units, and the version that it has reached.

    `brand` is that of the event which moved it first; empty where the wallet is older than brands.
    """

    currency: str
    scale: int
    available_minor: int
    version: int
    brand: str = ""


class CurrentPlayer(NamedTuple):
    """A player's wallets and restrictions; a player that the ledger has never seen has neither.

    `bet_limits` are the largest single bets in minor units, by currency.
    """

    wallets: tuple[CurrentWallet, ...] = ()
    is_blocked: bool = False
    bet_limits: Mapping[str, int] = _NONE
