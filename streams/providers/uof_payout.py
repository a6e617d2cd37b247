"""What a settled bet pays: the evaluation that the Unified Odds Feed leaves to its reader. Pure and
exact.

Source: docs.sportradar.com, uof, bet settlement, the table of `result` and `void_factor`; the dead
heat from the SDK's remark that a bet is divided by the number of joint winners.

    payout = stake x (void + (1 - void) x result x dead heat x odds)
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Final

from schemas.errors import RejectCode, Rejected
from schemas.money import AMOUNT_MAX

ODDS_MAX: Final = 10**9

_SHARE: Final = {"0": 0, "1": 1}
_DECIMAL: Final = re.compile(r"\d{1,3}(\.\d{1,18})?", re.ASCII)


def payout_minor(
    stake_minor: int,
    odds: Decimal,
    result: str,
    void_factor: str | None = None,
    dead_heat_factor: str | None = None,
) -> int:
    """The payout in minor units, of a bet of `stake_minor` at decimal `odds`: refunded part and
    winnings together.

    `void_factor` and `dead_heat_factor` are decimal texts from 0 to 1, missing ones 0 and 1. The
    exact value is rounded once, at the end, down to a whole minor unit: what is not a whole one is
    never paid. Raises Rejected: BAD_FIELD for a result that is no final one (-1 is undecided: wait
    for the next settlement) or factors beyond 0 to 1, BAD_AMOUNT for a bet below zero, odds below 1
    or above `ODDS_MAX`, or a payout beyond 64 bits.
    """
    share = _SHARE.get(result)
    if share is None:
        raise Rejected(RejectCode.BAD_FIELD, f"result {result[:16]!r} decides nothing")
    if stake_minor < 0 or not odds.is_finite() or not 1 <= odds <= ODDS_MAX:
        raise Rejected(RejectCode.BAD_AMOUNT, "a bet below zero, or odds that are none")
    void, heat = _factor(void_factor, "0"), _factor(dead_heat_factor, "1")
    exact = stake_minor * (void + (1 - void) * share * heat * Fraction(odds))
    payout = exact.numerator // exact.denominator
    if payout > AMOUNT_MAX:
        raise Rejected(RejectCode.BAD_AMOUNT, "the payout does not fit 64 bits")
    return payout


def _factor(text: str | None, default: str) -> Fraction:
    if text is None:
        text = default
    factor = Fraction(text) if _DECIMAL.fullmatch(text) else None
    if factor is None or factor > 1:
        raise Rejected(
            RejectCode.BAD_FIELD, f"factor {text[:24]!r} is no decimal number from 0 to 1"
        )
    return factor
