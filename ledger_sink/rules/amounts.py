"""What a leg says in the wallet's own units, and the verdicts that rules share."""

from __future__ import annotations

from typing import Final

from schemas.errors import InvariantBroken, Rejected
from schemas.events import Amount, Leg, Outcome
from schemas.money import minor_units

Verdict = tuple[str, str]
"""Outcome and reason code."""

BOOKED: Final = (Outcome.POSTED.value, "BOOKED")
NOTED: Final = (Outcome.INFORMATIONAL.value, "NOTED")

# Whatever a provider sends, it must not be able to stop the ledger: nothing moves, and a person
# looks at it.
OUT_OF_RANGE: Final = "BALANCE_OUT_OF_RANGE"
CURRENCY_UNKNOWN: Final = "CURRENCY_UNKNOWN"
CURRENCIES_DIFFER: Final = "CURRENCIES_DIFFER"
DOES_NOT_FIT: Final = "AMOUNT_DOES_NOT_FIT"
PERIOD_ARCHIVED: Final = "PERIOD_ARCHIVED"


class Unpostable(InvariantBroken):
    """An event that cannot be booked as it is; its posting is undone and `reason` is its answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def currency_of(leg: Leg) -> str:
    """The leg's own currency. Raises Unpostable where it has none."""
    if leg.currency is None:
        raise Unpostable(CURRENCY_UNKNOWN)
    return leg.currency


def amount_of(leg: Leg) -> Amount:
    """The leg's amount; a dialect that leaves it out of a kind that needs one is a bug."""
    if leg.amount is None:
        message = f"a {leg.kind} leg without an amount"
        raise InvariantBroken(message)
    return leg.amount


def minor_of(leg: Leg) -> int:
    """The leg's amount in minor units of its own currency, exact: the normaliser has checked it."""
    return minor_units(amount_of(leg), currency_of(leg))


def borrowed_minor_of(leg: Leg, currency: str) -> int:
    """The leg's amount in a currency that only its bet tells, so that nobody could check it before."""
    try:
        return minor_units(amount_of(leg), currency)
    except Rejected:
        raise Unpostable(DOES_NOT_FIT) from None
