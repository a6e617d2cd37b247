"""Money of payment providers: payments, what is taken from them, and what is given back to them.

A payment's own amount is what was received. Where the cashier opened the deposit for this provider
over another amount or currency, the provider's policy says whether it is booked all the same; it
raises an alert either way. A deposit that was opened for another provider, or for any, tells
nothing of what this one will send. What refers to a payment (a refund, a chargeback, a refund that
failed) cannot be more than it, nor in another currency, nor can all that is taken sum to more than
it (`reversals`): where it is, the provider has converted, or the reference is wrong, and only a
person can say what the player owes.
"""

from __future__ import annotations

from typing import Final

from ledger_sink.rules import accounts
from ledger_sink.rules.accounts import CASH
from ledger_sink.rules.alerts import event_alert
from ledger_sink.rules.amounts import BOOKED, Verdict, currency_of, minor_of
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.references import (
    decisions_of_target,
    select_target_wallet,
)
from ledger_sink.rules.reversals import (
    compares_with_payment,
    give_back,
    paid_minor,
    payment_of,
    take,
)
from ledger_sink.rules.suspense import WHOLE_MOVED, is_moved_by_person, whole_of
from schemas.events import FraudAlert, Kind, Leg, Outcome, Position, WalletTransaction
from schemas.identity import HOUSE_REFERENCES

ABOVE_PAYMENT: Final = (Outcome.UNRESOLVED.value, "ABOVE_PAYMENT")
PAYMENT_CURRENCY_DIFFERS: Final = (Outcome.UNRESOLVED.value, "PAYMENT_CURRENCY_DIFFERS")

PAYMENT_IN_SUSPENSE: Final = (Outcome.UNRESOLVED.value, "PAYMENT_IN_SUSPENSE")
OPENED_AMOUNT_DIFFERS: Final = "OPENED_AMOUNT_DIFFERS"
OPENED_CURRENCY_DIFFERS: Final = "OPENED_CURRENCY_DIFFERS"

RULE: Final = "L02"
OPENED_RULE: Final = "L03"
RULE_VERSION: Final = 1
REASONS: Final = frozenset(
    {ABOVE_PAYMENT[1], PAYMENT_CURRENCY_DIFFERS[1], OPENED_AMOUNT_DIFFERS, OPENED_CURRENCY_DIFFERS}
)
"""The reasons that raise an alert."""

_OPENED_REASONS: Final = frozenset({OPENED_AMOUNT_DIFFERS, OPENED_CURRENCY_DIFFERS})


def deposit(posting: Posting, leg: Leg) -> Verdict:
    """Give the player a payment, or what comes back to one.

    A payment of an entry whose whole a person has moved out of suspense moves nothing: its money is
    where the person has put it.
    """
    if is_moved_by_person(posting, whole_of(posting.event)):
        return WHOLE_MOVED
    misfit = _misfit(posting, leg)
    if misfit is not None:
        return _place_in_suspense(posting, leg, misfit)
    differs = _opened_difference(posting, leg)
    if differs is not None and posting.policy.opened_amount_differs == "SUSPENSE":
        return _place_in_suspense(posting, leg, (Outcome.UNRESOLVED.value, differs))
    suspended = give_back(posting, leg)
    if suspended:
        move_to_suspense(posting, leg, suspended)
    wallet = posting.select_wallet(currency_of(leg))
    psp = accounts.psp_account(posting.event.provider)
    posting.credit(wallet, CASH, psp, minor_of(leg) - suspended)
    if suspended:
        return ABOVE_PAYMENT
    return BOOKED if differs is None else (Outcome.POSTED.value, differs)


def deposit_reversal(posting: Posting, leg: Leg) -> Verdict:
    """Take a deposit back from cash: a chargeback or a refund. The player may be in debt then."""
    if is_moved_by_person(posting, whole_of(posting.event)):
        return WHOLE_MOVED
    misfit = _misfit(posting, leg)
    if misfit is not None:
        return _place_in_suspense(posting, leg, misfit)
    if not take(posting, leg):
        return _place_in_suspense(posting, leg, ABOVE_PAYMENT)
    wallet = posting.select_wallet(currency_of(leg))
    posting.debit(wallet, CASH, accounts.psp_account(posting.event.provider), minor_of(leg))
    return BOOKED


def move_to_suspense(posting: Posting, leg: Leg, amount_minor: int | None = None) -> None:
    """Move money between the payment provider and suspense, where a person finds it.

    It is the leg's, or as much of it as `amount_minor` says.
    """
    provider = posting.event.provider
    psp, suspense = accounts.psp_account(provider), accounts.suspense_account(provider)
    debit, credit = (psp, suspense) if leg.kind == Kind.DEPOSIT else (suspense, psp)
    amount = minor_of(leg) if amount_minor is None else amount_minor
    posting.move_between_house_accounts(currency_of(leg), debit, credit, amount)


def names_opened_deposit(event: WalletTransaction) -> bool:
    """Return whether an event's money is compared with the deposit that the cashier opened."""
    return (
        event.reference is not None
        and event.reference.operation in HOUSE_REFERENCES
        and any(leg.kind == Kind.DEPOSIT for leg in event.legs)
    )


def payment_alert(
    event_id: str,
    brand: str,
    player_id: str,
    operation: str,
    reason: str,
    occurred_at: int,
    source: Position,
) -> FraudAlert:
    """Return the alert about one event whose money does not fit its payment or its deposit."""
    is_opened = reason in _OPENED_REASONS
    what = (
        "A payment does not fit its deposit" if is_opened else "A reversal does not fit its payment"
    )
    return event_alert(
        OPENED_RULE if is_opened else RULE,
        RULE_VERSION,
        what,
        event_id,
        brand,
        player_id,
        occurred_at,
        source,
        observed=1,
        unit="events",
        evidence={"operation": operation, "reason": reason},
    )


def _misfit(posting: Posting, leg: Leg) -> Verdict | None:
    """Return why the leg's money cannot be that of the payment that the event refers to, or None.

    Of a payment whose movements are not in the tables any more only the currency is known.
    """
    if not compares_with_payment(posting.event, posting.policy):
        return None
    payment = payment_of(posting)
    if payment is None:
        return PAYMENT_IN_SUSPENSE if _is_payment_in_suspense(posting) else None
    if payment.answer.currency != currency_of(leg):
        return PAYMENT_CURRENCY_DIFFERS
    paid = paid_minor(posting, payment)
    return ABOVE_PAYMENT if paid is not None and minor_of(leg) > paid else None


def _is_payment_in_suspense(posting: Posting) -> bool:
    """Return whether the payment differed from its deposit, so that the player never had it."""
    decisions = decisions_of_target(posting)
    return bool(decisions) and decisions[-1].answer.reason in _OPENED_REASONS


def _opened_difference(posting: Posting, leg: Leg) -> str | None:
    """Return how the leg's money differs from the deposit that was opened for this provider."""
    opened = posting.book.opened_deposits.get(posting.log_event.reference_id or "")
    event = posting.event
    if opened is None or (opened.psp, opened.player_id) != (event.provider, event.player_id):
        return None
    if opened.currency != currency_of(leg):
        return OPENED_CURRENCY_DIFFERS
    return None if opened.amount_minor == minor_of(leg) else OPENED_AMOUNT_DIFFERS


def _place_in_suspense(posting: Posting, leg: Leg, verdict: Verdict) -> Verdict:
    select_target_wallet(posting)
    move_to_suspense(posting, leg)
    return verdict
