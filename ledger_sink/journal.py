"""The ledger's rows as values: what a batch reads, what it decides and what it writes. Pure; times in epoch ms."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from schemas.events import Attempt

Action = Literal["REVERSED", "CANCELLED", "PAID", "REFUSED"]


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What an attempt is told: the outcome and the wallet as it stood right after the decision."""

    outcome: str
    reason: str
    currency: str | None = None
    available_minor: int | None = None
    version: int | None = None


class Transfer(msgspec.Struct, frozen=True, gc=False):
    """One movement. `version` and the balances after it are the wallet's; None between house accounts."""

    player_id: str | None
    currency: str
    version: int | None
    debit: str
    credit: str
    amount_minor: int
    cash_minor: int | None
    bonus_minor: int | None
    held_minor: int | None


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A decided event, as far as later events need it."""

    event_id: str
    decision: int
    player_id: str | None
    fingerprint: str
    attempt: Attempt
    answer: Answer
    transfers: int

    @property
    def first_version(self) -> int:
        """The wallet version of its first transfer; meaningless without one."""
        assert self.answer.version is not None
        return self.answer.version - self.transfers + 1


class Closing(msgspec.Struct, frozen=True, gc=False):
    """Why an event counts no more: it was reversed, paid out or refused, maybe before it came."""

    event_id: str
    player_id: str
    action: Action
    by_event_id: str


Before = tuple[int, int, int, int, str, int, int]
"""How a wallet stood: cash, bonus and held, version, and the event and place that had moved it last."""


class Wallet(msgspec.Struct, gc=False):
    """A player's money in one currency, in minor units; version 0 is a wallet that nothing has moved yet."""

    player_id: str
    currency: str
    scale: int
    cash_minor: int = 0
    bonus_minor: int = 0
    held_minor: int = 0
    version: int = 0
    event_id: str = ""
    part: int = 0
    source_offset: int = 0

    @property
    def available_minor(self) -> int:
        """What may be bet."""
        return self.cash_minor + self.bonus_minor

    def standing(self) -> Before:
        """All that a movement changes."""
        return (
            self.cash_minor, self.bonus_minor, self.held_minor, self.version, self.event_id, self.part,
            self.source_offset,
        )  # fmt: skip

    def stand(self, before: Before) -> None:
        """Be again as `standing` said."""
        self.cash_minor, self.bonus_minor, self.held_minor, self.version = before[:4]
        self.event_id, self.part, self.source_offset = before[4:]


class PlayerState(msgspec.Struct, frozen=True, gc=False):
    """What the log says may stop a player's bets."""

    player_id: str
    is_blocked: bool = False
    bet_limit_currency: str | None = None
    bet_limit_minor: int | None = None
    event_id: str = ""


REVERSED: Final[Action] = "REVERSED"
CANCELLED: Final[Action] = "CANCELLED"
PAID: Final[Action] = "PAID"
REFUSED: Final[Action] = "REFUSED"
