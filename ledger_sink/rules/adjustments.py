"""Corrections by operators; large ones need two of them.

`adjustment.proposed` moves nothing and is remembered. `adjustment.approved` names it and moves its
money if it comes from another operator. The log holds both, so a replay needs no operator. Other
notices move nothing either; of a deposit that is opened the amount is kept (`payments`).
"""

from __future__ import annotations

from typing import Final

from ledger_sink.rules import accounts
from ledger_sink.rules.accounts import CASH
from ledger_sink.rules.amounts import BOOKED, NOTED, Verdict, currency_of, minor_of
from ledger_sink.rules.journal import ADJUST, OpenedDeposit
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.two_people import (
    PROPOSAL_NOT_SEEN,
    SECOND_PERSON_REQUIRED,
    approval_refusal,
    close_proposal,
    exceeds_limit,
    find_proposal,
    propose,
)
from schemas.causes import PSP
from schemas.events import Leg, Outcome
from schemas.identity import HOUSE

PROPOSED: Final = "adjustment.proposed"
OPENED: Final = "deposit.opened"

BALANCE_CONFIRMED: Final = (Outcome.INFORMATIONAL.value, "BALANCE_CONFIRMED")
BALANCE_DIFFERS: Final = (Outcome.UNRESOLVED.value, "BALANCE_DIFFERS")
"""For a person: the ledger has another balance than the log says that it begins with."""


def adjustment(posting: Posting, leg: Leg) -> Verdict:
    """Move the leg's own signed amount, or with a reference that of the proposal, once.

    Without a proposal an operator's is refused above the limit of one person. Providers correct
    their own games without one.
    """
    if posting.log_event.reference_id is None:
        currency, amount_minor = currency_of(leg), minor_of(leg)
        if posting.event.provider == HOUSE and exceeds_limit(posting, currency, amount_minor):
            return SECOND_PERSON_REQUIRED
        move(posting, currency, amount_minor)
        return BOOKED
    proposal = find_proposal(posting, ADJUST)
    if proposal is None:
        return PROPOSAL_NOT_SEEN
    posting.select_wallet(proposal.currency)
    refused = approval_refusal(posting, proposal)
    if refused is not None:
        return refused
    close_proposal(posting, proposal)
    move(posting, proposal.currency, proposal.amount_minor)
    return BOOKED


def move(posting: Posting, currency: str, amount_minor: int) -> None:
    """Move cash from (above zero) or to (below zero) the account of corrections.

    The player may be in debt after it.
    """
    wallet = posting.select_wallet(currency)
    if amount_minor >= 0:
        posting.credit(wallet, CASH, accounts.ADJUSTMENTS, amount_minor)
    else:
        posting.debit(wallet, CASH, accounts.ADJUSTMENTS, -amount_minor)


def note_event(posting: Posting, leg: Leg) -> Verdict:
    """Store a proposal, or a deposit that is opened; move nothing."""
    event = posting.event
    if leg.currency is None or event.player_id is None:
        return NOTED
    posting.select_wallet(leg.currency)
    cause = event.cause
    is_opening = event.operation == OPENED and cause is not None and cause.type == PSP
    if is_opening and cause is not None and leg.amount is not None:
        posting.opened = OpenedDeposit(
            event.event_id, event.player_id, cause.id, leg.currency, minor_of(leg)
        )
    if event.operation == PROPOSED and leg.amount is not None:
        propose(posting, leg.currency, minor_of(leg))
    return NOTED


def confirm_balance(posting: Posting, leg: Leg) -> Verdict:
    """Compare a wallet with an opening balance: three legs, of cash, bonus and held money.

    It makes no money, by any signature: it says what the wallet holds where a new log begins.
    """
    wallet = posting.select_wallet(currency_of(leg))
    stated = [minor_of(one) for one in posting.event.legs]
    is_same = stated == [wallet.cash_minor, wallet.bonus_minor, wallet.held_minor]
    return BALANCE_CONFIRMED if is_same else BALANCE_DIFFERS
