"""What a player may be shown about an outcome.

Codes are for providers; these sentences are for people.
"""

from __future__ import annotations

from typing import Final

from schemas.events import Outcome

_BY_OUTCOME: Final[dict[str, str]] = {
    Outcome.POSTED: "Done.",
    Outcome.EXISTS: "This was already done.",
    Outcome.CONFLICT: "This could not be done. Please contact support.",
    Outcome.REFUSED_FUNDS: "Your balance is too low for this.",
    Outcome.REFUSED_BLOCKED: "Your account cannot be used for this at the moment. Please contact support.",
    Outcome.REFUSED_LIMIT: "This is above the limit set for your account.",
    Outcome.REFUSED_CURRENCY: "Your account does not hold this currency.",
    Outcome.REFUSED_EXPIRED: "This came too late and was not done.",
    Outcome.REFUSED_REFERENCE: "This could not be done for the bet that it belongs to.",
    Outcome.TOMBSTONED: "This was taken back and no money was moved.",
    Outcome.CANCELLED: "This was cancelled and no money was moved.",
    Outcome.UNRESOLVED: "This is being checked by our staff.",
    Outcome.INFORMATIONAL: "Noted.",
}


def player_message(outcome: str) -> str:
    """A sentence for the player; it tells nothing about rules, thresholds or other players."""
    return _BY_OUTCOME[Outcome(outcome)]
