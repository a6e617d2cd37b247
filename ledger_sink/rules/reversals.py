"""Sums of what is taken from a payment and given back to it, kept in the player's state.

Each notice may fit its payment and all of them together take more than was paid: a refund, and a
chargeback of the same card payment. What would take more than the payment waits in suspense for a
person. What comes back fills suspense first, for as much as waits there of this payment, and then
the player's money: so when all that was taken has come back, in whatever order, every balance is as
it was.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ledger_sink.rules.amounts import currency_of, minor_of
from ledger_sink.rules.book import NO_PLAYER
from ledger_sink.rules.journal import ASSIGNED, Entry
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.references import booked_target
from schemas.events import Kind, Leg, WalletTransaction
from schemas.identity import HOUSE_REFERENCES
from schemas.policies import LedgerPolicy

_KINDS: Final = frozenset({Kind.DEPOSIT.value, Kind.DEPOSIT_REVERSAL.value})


def compares_with_payment(event: WalletTransaction, policy: LedgerPolicy) -> bool:
    """Return whether an event's money is compared with the payment that it refers to."""
    if policy.reversal_beyond_payment == "BOOK" or event.reference is None:
        return False
    names_payment = event.reference.operation not in HOUSE_REFERENCES
    return names_payment and any(leg.kind in _KINDS for leg in event.legs)


def _assigned_payment(posting: Posting) -> Entry | None:
    """Return the assignment by which a person gave the payment to this player, or None."""
    closing = posting.book.closings.get((posting.log_event.reference_id or "", NO_PLAYER))
    if closing is None or closing.action != ASSIGNED:
        return None
    entries = posting.book.entries.get(closing.by_event_id, [])
    return next((one for one in entries if one.player_id == posting.event.player_id), None)


def payment_of(posting: Posting) -> Entry | None:
    """Return the payment that the reference means; None if it did not come to this player."""
    return booked_target(posting) or _assigned_payment(posting)


def paid_minor(posting: Posting, payment: Entry) -> int | None:
    """Return what a payment brought the player; None once its movements are not in the tables."""
    if payment.event_id in posting.book.archived_event_ids:
        return None
    return sum(transfer.amount_minor for transfer in posting.book.movements(payment))


def take(posting: Posting, leg: Leg) -> bool:
    """Add what a leg takes to the sum of its payment; return whether the sum still fits.

    What does not fit is counted as waiting in suspense.
    """
    if not compares_with_payment(posting.event, posting.policy):
        return True
    taken, suspended = _sums(posting, leg)
    payment = payment_of(posting)
    paid = None if payment is None else paid_minor(posting, payment)
    fits = paid is None or taken + minor_of(leg) <= paid
    if fits:
        _set_sums(posting, leg, taken + minor_of(leg), suspended)
    else:
        _set_sums(posting, leg, taken, suspended + minor_of(leg))
    return fits


def give_back(posting: Posting, leg: Leg) -> int:
    """Subtract what a leg gives back; return how much of it belongs to what waits in suspense."""
    if not compares_with_payment(posting.event, posting.policy):
        return 0
    taken, suspended = _sums(posting, leg)
    to_suspense = min(suspended, minor_of(leg))
    _set_sums(posting, leg, taken - (minor_of(leg) - to_suspense), suspended - to_suspense)
    return to_suspense


def _key(posting: Posting, leg: Leg) -> str:
    return f"{posting.log_event.reference_id}:{currency_of(leg)}"


def _sums(posting: Posting, leg: Leg) -> tuple[int, int]:
    """Return what was taken from the player and what waits in suspense, in minor units."""
    taken, suspended = posting.player_state().reversals.get(_key(posting, leg), (0, 0))
    return taken, suspended


def _set_sums(posting: Posting, leg: Leg, taken: int, suspended: int) -> None:
    state = posting.player_state()
    posting.state = msgspec.structs.replace(
        state,
        reversals={**state.reversals, _key(posting, leg): (taken, suspended)},
        event_id=posting.event.event_id,
    )
