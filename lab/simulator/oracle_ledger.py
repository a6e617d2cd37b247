"""The oracle's hand: it moves money in the memory, and takes back what was moved."""

from __future__ import annotations

from typing import Final

from lab.simulator.intents import Said
from lab.simulator.oracle_state import BONUS, CASH, HELD, Decision, Memory, Moved, Verdict

LARGEST: Final = 2**63 - 1
BOOKED = ("POSTED", "BOOKED")
NOTED = ("INFORMATIONAL", "NOTED")
CLOSED = ("POSTED", "ALREADY_CLOSED")
NOTHING = ("POSTED", "NOTHING_TO_REVERSE")
UNSEEN = ("TOMBSTONED", "REFERENCE_NOT_SEEN_YET")


class Unbookable(Exception):
    """What no wallet can hold, and why."""


class Hand:
    """What one thing that was said may do to the memory."""

    def __init__(self, memory: Memory, said: Said, player: str | None, said_at_ms: int) -> None:
        self.memory = memory
        self.said = said
        self.player = player
        self.said_at_ms = said_at_ms
        self.moved: list[Moved] = []

    def purse(self, currency: str) -> dict[str, int]:
        """The player's wallet in a currency."""
        assert self.player is not None
        return self.memory.money[self.player, currency]

    def move(self, currency: str, source: str, target: str, minor: int) -> None:
        """Move money. Raises Unbookable."""
        if not minor:
            return
        version = 0
        if self.player is not None:
            self.memory.versions[self.player, currency] += 1
            version = self.memory.versions[self.player, currency]
        self._shift(currency, source, target, minor)
        self.moved.append((currency, source, target, minor, version))
        if self.player is not None:
            cash, bonus, held = self.purse(currency).values()
            if max(abs(cash), abs(bonus), held, abs(cash + bonus), abs(cash + bonus + held)) > LARGEST:
                raise Unbookable("BALANCE_OUT_OF_RANGE")

    def give_back(self) -> None:
        """As if nothing had been moved."""
        for currency, source, target, minor, _ in reversed(self.moved):
            self._shift(currency, target, source, minor)
            if self.player is not None:
                self.memory.versions[self.player, currency] -= 1
        self.moved = []

    def _shift(self, currency: str, source: str, target: str, minor: int) -> None:
        for account, change in ((source, -minor), (target, minor)):
            if account in (CASH, BONUS, HELD):
                self.purse(currency)[account] += change
            else:
                self.memory.house[account, currency] += change

    def closed_as(self) -> str | None:
        """How what is referred to was ended."""
        return self.memory.closed_as(self.said.reference, self.player)

    def target(self) -> Decision | Verdict:
        """What was decided about what is referred to, or why nothing can be done to it."""
        if self.said.reference is None:
            return ("UNRESOLVED", "NO_REFERENCE")
        if self.closed_as() not in (None, "SETTLED"):
            return CLOSED
        if not self.memory.seen(self.said.reference, self.player):
            return UNSEEN
        return self.memory.booked(self.said.reference, self.player) or NOTHING

    def take_back(self, how: str) -> Verdict:
        target = self.target()
        if target != CLOSED and self.said.reference:
            self.memory.closed[self.said.reference, self.player or ""] = how
        if not isinstance(target, Decision):
            return target
        for currency, source, to, minor, _ in reversed(target.moved):
            if (source, to) != (BONUS, CASH):  # what a met requirement has released stays released
                self.move(currency, to, source, minor)
        self._ask_again(taken_by(target))
        return BOOKED

    def _ask_again(self, taken: list[Moved]) -> None:
        """A bet that does not stand has not counted; of a requirement that is met its bonus share is cash at once."""
        if not taken:
            return
        currency, key = taken[0][0], (self.player or "", taken[0][0])
        required = self.memory.wagering.get(key)
        if required is None or taken[0][4] <= required[1]:
            return
        if required[0]:
            self.memory.wagering[key] = (required[0] + sum(m[3] for m in taken), required[1])
            return
        returned = sum(m[3] for m in taken if m[1] == BONUS)
        self.move(currency, BONUS, CASH, min(returned, max(self.purse(currency)[BONUS], 0)))


def taken_by(bet: Decision | None) -> list[Moved]:
    """What a bet has taken from its player."""
    return [move for move in bet.moved if move[2].startswith("provider:")] if bet else []
