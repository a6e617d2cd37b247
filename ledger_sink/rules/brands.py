"""Players of one brand: the brand that moved a player's money first is the player's brand.

Wallets are kept by player and currency, so two brands that both number their players from 1 would
share them. What comes for such a player under another brand, by accident or because a connector's
header has changed, moves no money of the player (docs/explanation/adr/0016-one-brand-a-player.md).
The provider's transaction under the player's own brand has another event id, so this also keeps one
bet or win from being booked under both.
"""

from __future__ import annotations

from typing import Final

from ledger_sink.rules.amounts import Verdict
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.payments import move_to_suspense
from ledger_sink.rules.suspense import WHOLE_MOVED, is_moved_by_person, whole_of
from schemas.events import Kind, Outcome, WalletTransaction

PLAYER_OF_OTHER_BRAND: Final = "PLAYER_OF_OTHER_BRAND"
"""The reason of each such event; it raises a risk signal."""

_REFUSED: Final = (Outcome.REFUSED_BLOCKED.value, PLAYER_OF_OTHER_BRAND)
_UNRESOLVED: Final = (Outcome.UNRESOLVED.value, PLAYER_OF_OTHER_BRAND)

_APPLIES_TO_ANY: Final = frozenset(
    {
        Kind.PLAYER_STATE.value,
        Kind.INFORMATIONAL.value,
        Kind.HEARTBEAT.value,
        Kind.ROUND_CLOSE.value,
    }
)
"""Kinds that move no money. A block of the player must not fail for a brand that was not given."""

_MONEY_IN_SUSPENSE: Final = frozenset({Kind.DEPOSIT.value, Kind.DEPOSIT_REVERSAL.value})


def is_of_other_brand(posting: Posting, player_id: str) -> bool:
    """Return whether an event would move money of a player of another brand."""
    event = posting.event
    brand = posting.book.brands.get(player_id)
    return brand is not None and brand != event.brand and _moves_money(event)


def _moves_money(event: WalletTransaction) -> bool:
    return any(leg.kind not in _APPLIES_TO_ANY for leg in event.legs)


def refuse_other_brand(posting: Posting) -> Verdict:
    """Refuse a decision; leave anything else to a person, with real money in suspense.

    Raises Unpostable for payments of two currencies.
    """
    event = posting.event
    if event.decision_required:
        return _REFUSED
    if is_moved_by_person(posting, whole_of(event)):
        return WHOLE_MOVED
    for leg in event.legs:
        if leg.kind in _MONEY_IN_SUSPENSE and leg.amount is not None and leg.currency is not None:
            move_to_suspense(posting, leg)
    return _UNRESOLVED
