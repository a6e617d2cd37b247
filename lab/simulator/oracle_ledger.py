"""The oracle's movements of money, and their reversal."""

from __future__ import annotations

from typing import Final

from lab.simulator.intents import SimulatedIntent
from lab.simulator.oracle_state import (
    BONUS,
    CASH,
    HELD,
    Movement,
    OracleDecision,
    OracleState,
    Verdict,
)

MINOR_MAX: Final = 2**63 - 1
BOOKED = ("POSTED", "BOOKED")
NOTED = ("INFORMATIONAL", "NOTED")
CLOSED = ("POSTED", "ALREADY_CLOSED")
NOTHING = ("POSTED", "NOTHING_TO_REVERSE")
UNSEEN = ("TOMBSTONED", "REFERENCE_NOT_SEEN_YET")


class Unbookable(Exception):
    """A movement that no wallet can hold; the message is the reason code."""


class OracleLedger:
    """Movements of one intent in the oracle's state."""

    def __init__(
        self, state: OracleState, intent: SimulatedIntent, player: str | None, intent_at_ms: int
    ) -> None:
        self.state = state
        self.intent = intent
        self.player = player
        self.intent_at_ms = intent_at_ms
        self.movements: list[Movement] = []

    def wallet(self, currency: str) -> dict[str, int]:
        """Return the player's wallet in a currency."""
        assert self.player is not None
        return self.state.money[self.player, currency]

    def move(self, currency: str, source: str, target: str, minor: int) -> None:
        """Move money from one account to another. Raises Unbookable."""
        if not minor:
            return
        version = 0
        if self.player is not None:
            self.state.versions[self.player, currency] += 1
            version = self.state.versions[self.player, currency]
        self._shift(currency, source, target, minor)
        self.movements.append((currency, source, target, minor, version))
        if self.player is not None:
            cash, bonus, held = self.wallet(currency).values()
            if (
                max(abs(cash), abs(bonus), held, abs(cash + bonus), abs(cash + bonus + held))
                > MINOR_MAX
            ):
                raise Unbookable("BALANCE_OUT_OF_RANGE")

    def move_in_house(self, currency: str, source: str, target: str, minor: int) -> None:
        """Move money between two house accounts: no wallet gets a new version."""
        if minor:
            self._shift(currency, source, target, minor)
            self.movements.append((currency, source, target, minor, 0))

    def undo_movements(self) -> None:
        """Restore balances and versions as they were before the movements."""
        for currency, source, target, minor, version in reversed(self.movements):
            self._shift(currency, target, source, minor)
            if self.player is not None and version:
                self.state.versions[self.player, currency] -= 1
        self.movements = []

    def _shift(self, currency: str, source: str, target: str, minor: int) -> None:
        for account, change in ((source, -minor), (target, minor)):
            if account in (CASH, BONUS, HELD):
                self.wallet(currency)[account] += change
            else:
                self.state.house[account, currency] += change

    def reference_closing(self) -> str | None:
        """Return how the referenced transaction was closed, or None."""
        return self.state.closing_of(self.intent.reference, self.player)

    def referenced_decision(self) -> OracleDecision | Verdict:
        """Return the decision on the referenced transaction, or why it cannot be reversed."""
        if self.intent.reference is None:
            return ("UNRESOLVED", "NO_REFERENCE")
        if self.reference_closing() not in (None, "SETTLED"):
            return CLOSED
        if not self.state.decisions_of(self.intent.reference, self.player):
            return UNSEEN
        return self.state.posted_decision(self.intent.reference, self.player) or NOTHING

    def reverse(self, closing: str) -> Verdict:
        """Reverse the movements of the referenced transaction and close it as `closing`."""
        target = self.referenced_decision()
        if target != CLOSED and self.intent.reference:
            self.state.closings[self.intent.reference, self.player or ""] = closing
            for other in self.intent.other_references:
                if self.state.closing_of(other, self.player) is None:
                    self.state.closings[other, self.player or ""] = closing
        if not isinstance(target, OracleDecision):
            return target
        for currency, source, to, minor, _ in reversed(target.movements):
            if (source, to) != (BONUS, CASH):  # a released bonus stays released
                self.move(currency, to, source, minor)
        self._restore_requirement(bet_movements(target))
        return BOOKED

    def _restore_requirement(self, taken: list[Movement]) -> None:
        """Add a reversed bet to the wagering requirement again.

        If the requirement is already met, the bonus share of the bet becomes cash at once.
        """
        if not taken:
            return
        currency, key = taken[0][0], (self.player or "", taken[0][0])
        required = self.state.wagering.get(key)
        if required is None or taken[0][4] <= required[1]:
            return
        if required[0]:
            self.state.wagering[key] = (required[0] + sum(m[3] for m in taken), required[1])
            return
        returned = sum(m[3] for m in taken if m[1] == BONUS)
        self.move(currency, BONUS, CASH, min(returned, max(self.wallet(currency)[BONUS], 0)))


def bet_movements(bet: OracleDecision | None) -> list[Movement]:
    """Return the movements that took a bet's stake from its player."""
    return [move for move in bet.movements if move[2].startswith("provider:")] if bet else []
