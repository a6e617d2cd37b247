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
from ledger_sink.rules.book import Posting
from ledger_sink.rules.journal import APPROVED, OpenedDeposit, Proposal
from ledger_sink.rules.references import closing_of_target
from schemas.causes import PSP
from schemas.events import Leg, Outcome

PROPOSED: Final = "adjustment.proposed"
OPENED: Final = "deposit.opened"

ALREADY_CLOSED: Final = (Outcome.POSTED.value, "ALREADY_CLOSED")
PROPOSAL_NOT_SEEN: Final = (Outcome.REFUSED_REFERENCE.value, "PROPOSAL_NOT_SEEN")
SELF_APPROVAL: Final = (Outcome.REFUSED_REFERENCE.value, "SELF_APPROVAL")


def adjustment(posting: Posting, leg: Leg) -> Verdict:
    """Move the leg's own signed amount, or with a reference that of the proposal, once."""
    if posting.log_event.reference_id is None:
        move(posting, currency_of(leg), minor_of(leg))
        return BOOKED
    proposal = posting.book.proposals.get(posting.log_event.reference_id)
    if proposal is None or proposal.player_id != posting.event.player_id:
        return PROPOSAL_NOT_SEEN
    posting.select_wallet(proposal.currency)
    if closing_of_target(posting) is not None:
        return ALREADY_CLOSED
    if comparable_actor(actor_of(posting)) in ("", comparable_actor(proposal.actor)):
        return SELF_APPROVAL
    posting.close(proposal.event_id, proposal.player_id, APPROVED)
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
        posting.proposal = Proposal(
            event_id=event.event_id,
            player_id=event.player_id,
            currency=leg.currency,
            amount_minor=minor_of(leg),
            actor=actor_of(posting),
            reason="" if event.cause is None else event.cause.reason or "",
            brand=event.brand,
            id=event.provider_tx_id,
            occurred_at_ms=event.occurred_at,
        )
    return NOTED


def actor_of(posting: Posting) -> str:
    """Return the actor that the event's cause names, or an empty text."""
    cause = posting.event.cause
    return "" if cause is None or cause.actor is None else cause.actor


def comparable_actor(actor: str | None) -> str:
    """Return a name without case and surplus blanks; empty for None."""
    return " ".join((actor or "").casefold().split())
