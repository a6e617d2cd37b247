"""What a leg says in the wallet's own units, and the verdicts that rules share."""

from __future__ import annotations

from typing import Final

from schemas.errors import InvariantBroken
from schemas.events import Leg, Outcome
from schemas.money import minor_units

Verdict = tuple[str, str]
"""Outcome and reason code."""

BOOKED: Final = (Outcome.POSTED.value, "BOOKED")
NOTED: Final = (Outcome.INFORMATIONAL.value, "NOTED")


def currency_of(leg: Leg) -> str:
    if leg.currency is None:
        message = f"a {leg.kind} leg without a currency"
        raise InvariantBroken(message)
    return leg.currency


def minor_of(leg: Leg) -> int:
    if leg.amount is None:
        message = f"a {leg.kind} leg without an amount"
        raise InvariantBroken(message)
    return minor_units(leg.amount, currency_of(leg))
