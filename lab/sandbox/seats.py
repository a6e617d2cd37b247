"""State of a simulated player, the only thing that changes while a scenario is played."""

from __future__ import annotations

from dataclasses import dataclass

from lab.sandbox.actions import GameSession
from lab.sandbox.players import Player


@dataclass(slots=True)
class Seat:
    """One player at play.

    `funds_minor` is what the player believes to have: it keeps play plausible and proves nothing.
    """

    player: Player
    funds_minor: int = 0
    is_blocked: bool = False
    awaits_deposit: bool = False
    session: GameSession | None = None
    rounds_left: int = 0


@dataclass(frozen=True, slots=True)
class Deposit:
    """A deposit that the payment provider has authorised."""

    seat: Seat
    merchant_reference: str
    psp_reference: str
    amount_minor: int
