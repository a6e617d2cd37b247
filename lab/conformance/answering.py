"""Outcomes for what was read of a message: what a connector has in hand when it asks for the
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from lab.conformance.oracle import event_of
from schemas.errors import Rejected
from schemas.events import Outcome, WalletOutcome, WalletTransaction
from schemas.money import EXPONENTS
from streams.normalise.mapping.normaliser import ItemResult, RejectedItem

REASONS: Final = (
    "",
    "INSUFFICIENT_FUNDS",
    "BET_NOT_FOUND",
    "BET_ROLLED_BACK",
    "BET_SETTLED",
    "SOMETHING_NEW",
)
BALANCE_MINOR: Final = 1_234_567_891
"""No digits that could stand in an answer for another reason."""

ItemOutcome = WalletOutcome | Rejected


def outcomes_for(
    results: Sequence[ItemResult], outcome: Outcome, reason: str = "", *, with_balance: bool = True
) -> list[ItemOutcome]:
    """One outcome for each accepted item, and the rejections as they are; `knows`: whether it tells
    a balance.
    """
    return [_answered(item, outcome, reason, with_balance) for item in results]


def random_outcomes(results: Sequence[ItemResult], rng: Random) -> list[ItemOutcome]:
    """Any outcome with any reason."""
    return outcomes_for(
        results, rng.choice(tuple(Outcome)), rng.choice(REASONS), with_balance=rng.random() < 0.8
    )


def _answered(item: ItemResult, outcome: Outcome, reason: str, knows: bool) -> ItemOutcome:
    if isinstance(item, RejectedItem):
        return Rejected(item.code, item.detail)
    said = event_of(item)
    if not isinstance(said, WalletTransaction):
        # What moves no money is in no ledger and has no outcome; to its provider it has arrived.
        return WalletOutcome(
            said.event_id,
            said.brand,
            said.provider,
            said.operation,
            said.provider_event_id,
            said.attempt,
            None,
            Outcome.INFORMATIONAL.value,
            "",
            "",
            None,
            None,
            None,
            None,
        )
    currency = next((leg.currency for leg in said.legs if leg.currency is not None), "EUR")
    tells = knows and said.player_id is not None
    return WalletOutcome(
        said.event_id,
        said.brand,
        said.provider,
        said.operation,
        said.provider_tx_id,
        said.attempt,
        said.player_id,
        outcome.value,
        reason,
        "for people",
        currency if tells else None,
        EXPONENTS.get(currency, 2) if tells else None,
        BALANCE_MINOR if tells else None,
        7 if tells else None,
    )
