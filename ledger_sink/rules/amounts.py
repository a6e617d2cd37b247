"""Amounts of legs in minor units of their currency, and the verdicts that rules share."""

from __future__ import annotations

from typing import Final

from schemas.errors import InvariantBroken, Rejected
from schemas.events import Amount, Leg, Outcome
from schemas.money import minor_units

Verdict = tuple[str, str]
"""Outcome and reason code."""

BOOKED: Final = (Outcome.POSTED.value, "BOOKED")
NOTED: Final = (Outcome.INFORMATIONAL.value, "NOTED")

# Whatever a provider sends must not stop the ledger: nothing moves, and an operator looks at it.
OUT_OF_RANGE: Final = "BALANCE_OUT_OF_RANGE"
CURRENCY_UNKNOWN: Final = "CURRENCY_UNKNOWN"
CURRENCIES_DIFFER: Final = "CURRENCIES_DIFFER"
DOES_NOT_FIT: Final = "AMOUNT_DOES_NOT_FIT"
PERIOD_ARCHIVED: Final = "PERIOD_ARCHIVED"


class Unpostable(Exception):
    """An event that cannot be booked as it is; its posting is undone and `reason` is its answer.

    Not one of the errors that end a process: `post` turns it into an answer.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def currency_of(leg: Leg) -> str:
    """Return the leg's own currency. Raises Unpostable where it has none."""
    if leg.currency is None:
        raise Unpostable(CURRENCY_UNKNOWN)
    return leg.currency


def amount_of(leg: Leg) -> Amount:
    """Return the leg's amount.

    Raises InvariantBroken without one: a dialect that leaves it out of a kind that needs one is a
    bug.
    """
    if leg.amount is None:
        message = f"a {leg.kind} leg without an amount"
        raise InvariantBroken(message)
    return leg.amount


def minor_of(leg: Leg) -> int:
    """Return the leg's amount in minor units of its own currency.

    It is exact: the normaliser has checked it. Raises Unpostable without a currency.
    """
    return minor_units(amount_of(leg), currency_of(leg))


def borrowed_minor_of(leg: Leg, currency: str) -> int:
    """Return the leg's amount in minor units of a currency that only its bet names.

    It cannot be checked earlier. Raises Unpostable where it is not a whole number of minor units.
    """
    try:
        return minor_units(amount_of(leg), currency)
    except Rejected:
        raise Unpostable(DOES_NOT_FIT) from None
