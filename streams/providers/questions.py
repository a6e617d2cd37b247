"""Questions of a provider: calls for a balance or a session, which move nothing.

A dialect reads a question as it reads a call that moves money: its signature first, then its
fields. What is asked is answered from the ledger's tables, in the provider's words. A player who
may not bet is answered in the words that refuse a bet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import msgspec

from runtime.kafka.records import RawRecord

UNKNOWN_PLAYER: Final = "UNKNOWN_PLAYER"
"""The outcome of a question about a player of whom nothing is known here, nor a currency named."""


class Question(msgspec.Struct, frozen=True, gc=False):
    """What a provider asks, as it was read.

    `word` is the provider's own. A question names its player, or the session `token`, or both;
    with `needs_session` nothing but the session says who the player is. Without `needs_wallet` it
    asks for no balance, so any player has an answer.
    """

    word: str
    player_id: str | None = None
    currency: str | None = None
    token: str | None = None
    needs_session: bool = False
    needs_wallet: bool = True


class PlayerStatus(msgspec.Struct, frozen=True, gc=False):
    """The answer to a question, before it is in a provider's words.

    `outcome` is POSTED, one of the ledger's refusals of a bet (REFUSED_BLOCKED, REFUSED_LIMIT where
    no bet is small enough, REFUSED_CURRENCY), or UNKNOWN_PLAYER. The balance is what may be bet, in
    minor units of `scale` decimals; None where no wallet is meant.
    """

    outcome: str
    player_id: str
    currency: str | None = None
    scale: int = 0
    balance_minor: int | None = None
    token: str | None = None


QuestionReader: TypeAlias = Callable[[RawRecord, Mapping[str, bytes | None]], list[Question]]
"""A function that returns the one question of a record; [] where it is a call that moves money.

It raises Rejected for a wrong signature and for a question that cannot be read.
"""
