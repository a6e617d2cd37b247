"""Corrections by people, large ones by two of them. Pure.

`adjustment.proposed` moves nothing and is remembered; `adjustment.approved` names it and moves its
money, if another person says so. The log holds both, so a replay asks nobody.
"""

from __future__ import annotations

from typing import Final

from ledger_sink.rules import accounts
from ledger_sink.rules.accounts import CASH
from ledger_sink.rules.amounts import BOOKED, NOTED, Verdict, currency_of, minor_of
from ledger_sink.rules.book import Posting
from ledger_sink.rules.journal import APPROVED, Proposal
from ledger_sink.rules.references import closing_of_target
from schemas.events import Leg, Outcome

PROPOSED: Final = "adjustment.proposed"

ALREADY_CLOSED: Final = (Outcome.POSTED.value, "ALREADY_CLOSED")
PROPOSAL_NOT_SEEN: Final = (Outcome.REFUSED_REFERENCE.value, "PROPOSAL_NOT_SEEN")
SELF_APPROVAL: Final = (Outcome.REFUSED_REFERENCE.value, "SELF_APPROVAL")


def adjustment(posting: Posting, leg: Leg) -> Verdict:
    """Without a reference its own amount, which has a sign; with one that of the proposal, once."""
    if posting.log_event.reference_id is None:
        move(posting, currency_of(leg), minor_of(leg))
        return BOOKED
    proposal = posting.book.proposals.get(posting.log_event.reference_id)
    if proposal is None or proposal.player_id != posting.event.player_id:
        return PROPOSAL_NOT_SEEN
    posting.select_wallet(proposal.currency)
    if closing_of_target(posting) is not None:
        return ALREADY_CLOSED
    if _name(actor_of(posting)) in ("", _name(proposal.actor)):
        return SELF_APPROVAL
    posting.close(proposal.event_id, proposal.player_id, APPROVED)
    move(posting, proposal.currency, proposal.amount_minor)
    return BOOKED


def move(posting: Posting, currency: str, amount_minor: int) -> None:
    """Give cash from, or take cash to, the account of corrections; a player may be in debt after
    it.
    """
    wallet = posting.select_wallet(currency)
    if amount_minor >= 0:
        posting.credit(wallet, CASH, accounts.ADJUSTMENTS, amount_minor)
    else:
        posting.debit(wallet, CASH, accounts.ADJUSTMENTS, -amount_minor)


def note_event(posting: Posting, leg: Leg) -> Verdict:
    """Moves nothing; of a proposal what it asks for is remembered."""
    event = posting.event
    if leg.currency is None or event.player_id is None:
        return NOTED
    posting.select_wallet(leg.currency)
    if event.operation == PROPOSED and leg.amount is not None:
        posting.proposal = Proposal(
            event.event_id,
            event.player_id,
            leg.currency,
            minor_of(leg),
            actor_of(posting),
            "" if event.cause is None else event.cause.reason or "",
            event.brand,
            event.provider_tx_id,
            event.occurred_at,
        )
    return NOTED


def actor_of(posting: Posting) -> str:
    """Who is behind the event, as its cause says."""
    cause = posting.event.cause
    return "" if cause is None or cause.actor is None else cause.actor


def _name(actor: str) -> str:
    return " ".join(actor.casefold().split())
