"""Acts that one person may do alone up to a limit, and above it proposes to a second one.

The limits are the ledger's own, by currency, and set by two people through the log; a currency
without one has the limit zero. So an act above
the limit moves nothing without an approval, from any writer of the log and with any environment,
and a replay decides the same.
"""

from __future__ import annotations

from typing import Final

from ledger_sink.rules.amounts import BOOKED, NOTED, Verdict, currency_of, minor_of
from ledger_sink.rules.book import NO_PLAYER
from ledger_sink.rules.journal import (
    ADJUST,
    APPROVED,
    ASSIGN,
    LIMIT,
    RETURN,
    OperatorLimit,
    Proposal,
)
from ledger_sink.rules.open_posting import Posting
from schemas.events import Leg, Outcome

ACTS: Final = {
    "adjustment.proposed": ADJUST,
    "suspense.assignment.proposed": ASSIGN,
    "suspense.return.proposed": RETURN,
    "limit.proposed": LIMIT,
}
"""The act that an operation proposes."""

ALREADY_CLOSED: Final = (Outcome.POSTED.value, "ALREADY_CLOSED")
PROPOSAL_NOT_SEEN: Final = (Outcome.REFUSED_REFERENCE.value, "PROPOSAL_NOT_SEEN")
SELF_APPROVAL: Final = (Outcome.REFUSED_REFERENCE.value, "SELF_APPROVAL")
SECOND_PERSON_REQUIRED: Final = (Outcome.REFUSED_LIMIT.value, "SECOND_PERSON_REQUIRED")


def exceeds_limit(posting: Posting, currency: str, amount_minor: int) -> bool:
    """Return whether an amount is more than one operator may move alone."""
    limit = posting.book.operator_limits.get(currency)
    return abs(amount_minor) > (0 if limit is None else limit.amount_minor)


def propose(posting: Posting, currency: str, amount_minor: int, item_id: str | None = None) -> None:
    """Remember an act until a second operator approves it."""
    event = posting.event
    posting.proposal = Proposal(
        event_id=event.event_id,
        player_id=event.player_id or NO_PLAYER,
        currency=currency,
        amount_minor=amount_minor,
        actor=actor_of(posting),
        reason="" if event.cause is None else event.cause.reason or "",
        brand=event.brand,
        id=event.provider_tx_id,
        occurred_at_ms=event.occurred_at,
        act=ACTS[event.operation],
        item_id=item_id,
    )


def find_proposal(posting: Posting, act: str) -> Proposal | None:
    """Return the proposal of this act and this player that an approval names, or None."""
    proposal = posting.book.proposals.get(posting.log_event.reference_id or "")
    if proposal is None or proposal.act != act:
        return None
    return proposal if proposal.player_id == (posting.event.player_id or NO_PLAYER) else None


def approval_refusal(posting: Posting, proposal: Proposal) -> Verdict | None:
    """Return why this approval does nothing: closed already, or by the proposer; None if it may."""
    if posting.book.closing(proposal.event_id, proposal.player_id) is not None:
        return ALREADY_CLOSED
    if comparable_actor(actor_of(posting)) in ("", comparable_actor(proposal.actor)):
        return SELF_APPROVAL
    return None


def close_proposal(posting: Posting, proposal: Proposal) -> None:
    """Close a proposal as approved."""
    posting.close(proposal.event_id, proposal.player_id, APPROVED)


def propose_limit(posting: Posting, leg: Leg) -> Verdict:
    """Remember the limit that an operator proposes."""
    propose(posting, currency_of(leg), minor_of(leg))
    return NOTED


def set_limit(posting: Posting, leg: Leg) -> Verdict:
    """Set the limit that another operator has proposed."""
    del leg
    proposal = find_proposal(posting, LIMIT)
    if proposal is None:
        return PROPOSAL_NOT_SEEN
    refused = approval_refusal(posting, proposal)
    if refused is not None:
        return refused
    close_proposal(posting, proposal)
    event_id = posting.event.event_id
    posting.book.set_limit(OperatorLimit(proposal.currency, proposal.amount_minor, event_id))
    return BOOKED


def actor_of(posting: Posting) -> str:
    """Return the actor that the event's cause names, or an empty text."""
    cause = posting.event.cause
    return "" if cause is None or cause.actor is None else cause.actor


def comparable_actor(actor: str | None) -> str:
    """Return a name without case and surplus blanks; empty for None."""
    return " ".join((actor or "").casefold().split())
