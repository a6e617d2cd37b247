"""Acts of a person on what waits for one: suspense to a player or back, and answers.

An open item is closed once, under no player: its assignment, return or answer may come from any
partition, so the events that name items are decided while no other batch is in progress
(`ReadSet.crosses_partitions`).
"""

from __future__ import annotations

from typing import Final

from ledger_sink.rules import accounts
from ledger_sink.rules.accounts import CASH
from ledger_sink.rules.amounts import BOOKED, NOTED, Verdict
from ledger_sink.rules.book import NO_PLAYER
from ledger_sink.rules.journal import (
    ANSWERED,
    ASSIGN,
    ASSIGNED,
    RETURN,
    RETURNED,
    OpenItem,
    Proposal,
)
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.two_people import (
    PROPOSAL_NOT_SEEN,
    SECOND_PERSON_REQUIRED,
    approval_refusal,
    close_proposal,
    exceeds_limit,
    find_proposal,
    propose,
    propose_limit,
)
from schemas.causes import PART
from schemas.events import Kind, Leg, Outcome, WalletTransaction
from schemas.identity import event_id, names_entry

OF_ITEMS: Final = frozenset(
    {
        Kind.SUSPENSE_ASSIGNMENT.value,
        Kind.SUSPENSE_RETURN.value,
        Kind.ANSWER.value,
        Kind.PROPOSAL.value,
        Kind.OPERATOR_LIMIT.value,
    }
)
"""The legs of operators' acts on open items and limits. Items are of any partition, and a limit
holds in every one.
"""

ITEM_NOT_FOUND: Final = (Outcome.REFUSED_REFERENCE.value, "ITEM_NOT_FOUND")
ITEM_CLOSED: Final = (Outcome.REFUSED_REFERENCE.value, "ITEM_CLOSED")
NOTHING_IN_SUSPENSE: Final = (Outcome.REFUSED_REFERENCE.value, "NOTHING_IN_SUSPENSE")
MONEY_IN_SUSPENSE: Final = (Outcome.REFUSED_REFERENCE.value, "MONEY_IN_SUSPENSE")
WHOLE_MOVED: Final = (Outcome.UNRESOLVED.value, "WHOLE_MOVED")

_MOVED: Final = frozenset({ASSIGNED, RETURNED})


def assign(posting: Posting, leg: Leg) -> Verdict:
    """Give an item's money to the event's player; what suspense is owed is taken from them."""
    del leg
    item, proposal, refused = _find_authorised(posting, ASSIGN)
    if item is None or item.currency is None or item.amount_minor is None:
        return refused or ITEM_NOT_FOUND
    wallet, suspense = (
        posting.select_wallet(item.currency),
        accounts.suspense_account(item.provider),
    )
    if item.amount_minor > 0:
        posting.credit(wallet, CASH, suspense, item.amount_minor)
    else:
        posting.debit(wallet, CASH, suspense, -item.amount_minor)
    _close(posting, item, proposal, is_assigned=True)
    return BOOKED


def give_back(posting: Posting, leg: Leg) -> Verdict:
    """Move an item's money between suspense and the payment provider, as if it had not come."""
    del leg
    item, proposal, refused = _find_authorised(posting, RETURN)
    if item is None or item.currency is None or item.amount_minor is None:
        return refused or ITEM_NOT_FOUND
    suspense, psp = accounts.suspense_account(item.provider), accounts.psp_account(item.provider)
    way = (suspense, psp) if item.amount_minor > 0 else (psp, suspense)
    posting.move_between_house_accounts(item.currency, *way, abs(item.amount_minor))
    _close(posting, item, proposal, is_assigned=False)
    return BOOKED


def answer(posting: Posting, leg: Leg) -> Verdict:
    """Close an item of which no money is in suspense: a person has dealt with it."""
    del leg
    item, refused = _find_item(posting, posting.log_event.reference_id)
    if item is None:
        return refused
    if item.in_suspense:
        return MONEY_IN_SUSPENSE
    posting.close_item(item.event_id, ANSWERED)
    return BOOKED


def remember_proposal(posting: Posting, leg: Leg) -> Verdict:
    """Remember what an operator proposes: a limit, or what is to become of an item's money."""
    if posting.log_event.reference_id is None:
        return propose_limit(posting, leg)
    item, refused = _find_item(posting, posting.log_event.reference_id)
    if item is None:
        return refused
    if not item.in_suspense or item.currency is None or item.amount_minor is None:
        return NOTHING_IN_SUSPENSE
    propose(posting, item.currency, item.amount_minor, item.event_id)
    return NOTED


def whole_of(event: WalletTransaction) -> str | None:
    """Return the id of the event that may state this payment's entry as a whole, or None."""
    cause = event.cause
    if cause is None or cause.type != PART or cause.reason is None:
        return None
    return event_id(event.brand, event.provider, cause.reason, cause.id)


def is_moved_by_person(posting: Posting, whole_id: str | None) -> bool:
    """Return whether a person has moved a whole out of suspense: its parts must move nothing."""
    closing = posting.book.closings.get((whole_id or "", NO_PLAYER))
    return closing is not None and closing.action in _MOVED


def _find_authorised(
    posting: Posting, act: str
) -> tuple[OpenItem | None, Proposal | None, Verdict | None]:
    """Return the item whose money may be moved, and the proposal that is approved with it.

    The item is None where nothing may be moved; the verdict then says why.
    """
    event, proposal = posting.event, None
    item_id = posting.log_event.reference_id
    if event.reference is None or not names_entry(event.provider, event.reference):
        proposal = find_proposal(posting, act)
        if proposal is None:
            return None, None, PROPOSAL_NOT_SEEN
        refused = approval_refusal(posting, proposal)
        if refused is not None:
            return None, None, refused
        item_id = proposal.item_id
    item, refused = _find_item(posting, item_id)
    if item is None:
        return None, None, refused
    if not item.in_suspense or item.currency is None or item.amount_minor is None:
        return None, None, NOTHING_IN_SUSPENSE
    if proposal is None and exceeds_limit(posting, item.currency, item.amount_minor):
        return None, None, SECOND_PERSON_REQUIRED
    return item, proposal, None


def _find_item(posting: Posting, item_id: str | None) -> tuple[OpenItem | None, Verdict]:
    item = posting.book.open_items.get(item_id or "")
    if item is not None:
        return item, BOOKED
    is_closed = (item_id or "", NO_PLAYER) in posting.book.closings
    return None, ITEM_CLOSED if is_closed else ITEM_NOT_FOUND


def _close(
    posting: Posting, item: OpenItem, proposal: Proposal | None, *, is_assigned: bool
) -> None:
    if proposal is not None:
        close_proposal(posting, proposal)
    posting.close_item(item.event_id, ASSIGNED if is_assigned else RETURNED)
