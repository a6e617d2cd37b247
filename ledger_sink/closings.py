"""Events that end other events: rollbacks, cancels, payments and refusals of withdrawals. Pure.

An event can be closed once. The closing may come first (a retry overtakes, a provider rolls back what we never saw):
then it stays as a tombstone, and the late event moves no money.
"""

from __future__ import annotations

from typing import Final

from ledger_sink import accounts
from ledger_sink.accounts import CASH, HELD, purse_of
from ledger_sink.amounts import BOOKED, Verdict, currency_of, minor_of
from ledger_sink.book import Posting
from ledger_sink.journal import CANCELLED, PAID, REFUSED, REVERSED, Action, Entry, Transfer
from schemas.events import Kind, Leg, Outcome

KINDS: Final = frozenset({Kind.ROLLBACK, Kind.CANCEL, Kind.WITHDRAWAL, Kind.WITHDRAWAL_REVERSAL})
"""The legs whose rules look at what the event refers to. A win refers to its bet, and does not ask for it."""

ALREADY_CLOSED: Final = (Outcome.POSTED.value, "ALREADY_CLOSED")
NOTHING_TO_REVERSE: Final = (Outcome.POSTED.value, "NOTHING_TO_REVERSE")

# For a person: money has left that no wallet gave, or what was paid is said to have come back.
PAID_WITHOUT_HOLD: Final = (Outcome.UNRESOLVED.value, "PAID_WITHOUT_HOLD")
REFUSED_AFTER_PAYMENT: Final = (Outcome.UNRESOLVED.value, "REFUSED_AFTER_PAYMENT")


def withdrawal(posting: Posting, leg: Leg) -> Verdict:
    """Without a reference the request: money is held. With one the payment: what was held leaves."""
    if posting.event.reference is None:
        posting.shift(posting.use(currency_of(leg)), CASH, HELD, minor_of(leg))
        return BOOKED
    target = _open_target(posting)
    if isinstance(target, tuple):
        if target[0] == Outcome.TOMBSTONED:
            _close_target(posting, PAID)
        elif target == NOTHING_TO_REVERSE or (target == ALREADY_CLOSED and not _is_closed_as(posting, PAID)):
            return PAID_WITHOUT_HOLD
        return target
    _close_target(posting, PAID)
    pay(posting, posting.book.movements(target))
    return BOOKED


def pay(posting: Posting, held_by: list[Transfer]) -> None:
    psp = accounts.psp_account(posting.event.provider)
    for transfer in held_by:
        posting.debit(posting.use(transfer.currency), HELD, psp, transfer.amount_minor)


def withdrawal_reversal(posting: Posting, leg: Leg) -> Verdict:
    del leg  # the amount is that of the request
    verdict = _reverse_target(posting, REFUSED)
    return REFUSED_AFTER_PAYMENT if verdict == ALREADY_CLOSED and _is_closed_as(posting, PAID) else verdict


def rollback(posting: Posting, leg: Leg) -> Verdict:
    del leg  # a rollback's own amount is missing (Hub88, 100HP) or repeats the bet's; the bet knows how it was split
    return _reverse_target(posting, REVERSED)


def cancel(posting: Posting, leg: Leg) -> Verdict:
    """The connector gave up on one attempt. An attempt that decided nothing leaves nothing to cancel."""
    del leg
    event = posting.event
    decided = _decisions_of_target(posting)
    if decided and event.cause is not None and _attempt_text(decided[-1]) != event.cause.id:
        return (Outcome.CANCELLED, "ATTEMPT_MOVED_NOTHING")
    _, reason = verdict = _reverse_target(posting, CANCELLED)
    return (Outcome.CANCELLED, "REVERSED" if verdict == BOOKED else reason)


def _attempt_text(entry: Entry) -> str:
    attempt = entry.attempt
    return f"{attempt.topic}-{attempt.partition}@{attempt.offset}#{attempt.record_index}"


def _reverse_target(posting: Posting, action: Action) -> Verdict:
    """Move back what the target moved, account by account, so that a split between cash and bonus returns as it was."""
    target = _open_target(posting)
    if target != ALREADY_CLOSED:
        _close_target(posting, action)
    if isinstance(target, tuple):
        return target
    for transfer in reversed(posting.book.movements(target)):
        _move_back(posting, transfer)
    return BOOKED


def _move_back(posting: Posting, transfer: Transfer) -> None:
    wallet = posting.use(transfer.currency)
    took, gave = purse_of(transfer.debit), purse_of(transfer.credit)
    if took and gave:
        posting.shift(wallet, gave, took, transfer.amount_minor)
    elif took:
        posting.credit(wallet, took, transfer.credit, transfer.amount_minor)
    elif gave:
        posting.debit(wallet, gave, transfer.debit, transfer.amount_minor)


def _decisions_of_target(posting: Posting) -> list[Entry]:
    # Only the same player's: another player's event lives in another partition, where the order is not ours to see.
    target_id = posting.sourced.reference_id
    known = posting.book.entries.get(target_id, []) if target_id else []
    return [entry for entry in known if entry.player_id == posting.event.player_id]


def _open_target(posting: Posting) -> Entry | Verdict:
    """The posted event that the reference means, or why nothing can be done to it."""
    target_id = posting.sourced.reference_id
    if target_id is None:
        return (Outcome.UNRESOLVED, "NO_REFERENCE")
    player_id = posting.event.player_id
    assert player_id is not None
    decided = _decisions_of_target(posting)
    if decided and decided[-1].answer.currency is not None:
        posting.use(decided[-1].answer.currency)
    if (target_id, player_id) in posting.book.closings:
        return ALREADY_CLOSED
    if not decided:
        return (Outcome.TOMBSTONED, "REFERENCE_NOT_SEEN_YET")
    if decided[-1].answer.outcome != Outcome.POSTED:
        return NOTHING_TO_REVERSE
    return decided[-1]


def _is_closed_as(posting: Posting, action: Action) -> bool:
    target_id, player_id = posting.sourced.reference_id, posting.event.player_id
    assert target_id is not None
    assert player_id is not None
    closing = posting.book.closings.get((target_id, player_id))
    return closing is not None and closing.action == action


def _close_target(posting: Posting, action: Action) -> None:
    target_id, player_id = posting.sourced.reference_id, posting.event.player_id
    if target_id is not None and player_id is not None:
        posting.book.close(posting.sourced, target_id, player_id, action)
