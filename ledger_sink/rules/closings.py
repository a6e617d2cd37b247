"""Events that end other events: rollbacks, cancels, payments and refusals of withdrawals.

An event can be closed once. The closing may come first (a retry overtakes, a provider rolls back
what the ledger has never seen): then it stays as a tombstone, and the late event moves no money.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from ledger_sink.rules import accounts, bonus, fractions
from ledger_sink.rules.accounts import BONUS, CASH, HELD, purse_of
from ledger_sink.rules.amounts import BOOKED, Verdict, currency_of, minor_of
from ledger_sink.rules.book import NO_PLAYER
from ledger_sink.rules.journal import (
    CANCELLED,
    PAID,
    REFUSED,
    REVERSED,
    SETTLED,
    Action,
    Entry,
    Transfer,
)
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.payments import move_to_suspense
from ledger_sink.rules.references import (
    closing_of_target,
    decisions_of_target,
    rollback_refusal,
    select_named_wallet,
    select_target_wallet,
)
from ledger_sink.rules.suspense import WHOLE_MOVED, is_moved_by_person
from schemas.events import Kind, Leg, Outcome

CLOSING_KINDS: Final = frozenset(
    {Kind.ROLLBACK, Kind.CANCEL, Kind.WITHDRAWAL, Kind.WITHDRAWAL_REVERSAL}
)
"""The legs whose rules always look at what the event refers to."""

_OPPOSITES: Final = {
    Kind.DEPOSIT.value: Kind.DEPOSIT_REVERSAL.value,
    Kind.DEPOSIT_REVERSAL.value: Kind.DEPOSIT.value,
}

ALREADY_CLOSED: Final = (Outcome.POSTED.value, "ALREADY_CLOSED")
NOTHING_TO_REVERSE: Final = (Outcome.POSTED.value, "NOTHING_TO_REVERSE")

# For an operator: money was paid out of no wallet, or a paid request is reported as refused.
PAID_WITHOUT_HOLD: Final = (Outcome.UNRESOLVED.value, "PAID_WITHOUT_HOLD")
REFUSED_AFTER_PAYMENT: Final = (Outcome.UNRESOLVED.value, "REFUSED_AFTER_PAYMENT")


def withdrawal(posting: Posting, leg: Leg) -> Verdict:
    """Hold the money of a request (no reference), or pay out what was held (a reference)."""
    if posting.event.reference is None:
        posting.shift(posting.select_wallet(currency_of(leg)), CASH, HELD, minor_of(leg))
        return BOOKED
    target = _open_target(posting)
    if isinstance(target, tuple):
        if target[0] == Outcome.TOMBSTONED:
            _close_target(posting, PAID)
        elif target == NOTHING_TO_REVERSE or (
            target == ALREADY_CLOSED and not _is_closed_as(posting, PAID)
        ):
            return PAID_WITHOUT_HOLD
        return target
    _close_target(posting, PAID)
    pay_out(posting, posting.book.reversible_movements(target))
    return BOOKED


def pay_out(posting: Posting, held_by: list[Transfer]) -> None:
    """Move what a request has put on hold to the payment provider."""
    psp = accounts.psp_account(posting.event.provider)
    for transfer in held_by:
        wallet = posting.select_wallet(transfer.currency)
        posting.debit(wallet, HELD, psp, transfer.amount_minor)


def withdrawal_reversal(posting: Posting, leg: Leg) -> Verdict:
    """Give back what a refused request held; the amount is that of the request."""
    del leg
    verdict = _reverse_target(posting, REFUSED)
    if verdict == ALREADY_CLOSED and _is_closed_as(posting, PAID):
        return REFUSED_AFTER_PAYMENT
    return verdict


def rollback(posting: Posting, leg: Leg) -> Verdict:
    """Take back what the reference means, unless the provider's policy protects a settled bet.

    A rollback's own amount is missing (Hub88, 100HP) or repeats the bet's; the bet's movements show
    how it was split.
    """
    del leg
    refused = rollback_refusal(posting)
    if refused is not None:
        select_target_wallet(posting)
        return refused
    return _reverse_target(posting, REVERSED)


def take_whole_back(posting: Posting) -> Verdict:
    """Take out of suspense what came as a whole and is booked as its payments; no player is known.

    Both are events without a player under one id, so one partition holds them in order. The event
    has the whole's amount, and its cause the whole's kind: movements of no wallet are not read.
    A whole that a person has moved is not there any more: the event then is an open item itself.
    """
    target_id, cause = posting.log_event.reference_id, posting.event.cause
    if target_id is None or cause is None or cause.reason not in _OPPOSITES:
        return (Outcome.UNRESOLVED, "NO_REFERENCE")
    if is_moved_by_person(posting, target_id):
        return WHOLE_MOVED
    if (target_id, NO_PLAYER) in posting.book.closings:
        return ALREADY_CLOSED
    posting.close_item(target_id, REVERSED)
    decisions = decisions_of_target(posting)
    if not decisions:
        return (Outcome.TOMBSTONED, "REFERENCE_NOT_SEEN_YET")
    if not decisions[-1].transfers:
        return NOTHING_TO_REVERSE
    for leg in posting.event.legs:
        move_to_suspense(posting, replace(leg, kind=_OPPOSITES[cause.reason]))
    return BOOKED


def cancel(posting: Posting, leg: Leg) -> Verdict:
    """Take back one attempt that the connector gave up on.

    There is nothing to cancel for an attempt that decided nothing. No policy stops a cancel: the
    provider was answered with an error, so the bet must not remain booked, even if a win has named
    it since.
    """
    del leg
    event = posting.event
    decisions = decisions_of_target(posting)
    if decisions and event.cause is not None and _attempt_text(decisions[-1]) != event.cause.id:
        return (Outcome.CANCELLED, "ATTEMPT_MOVED_NOTHING")
    _, reason = verdict = _reverse_target(posting, CANCELLED)
    return (Outcome.CANCELLED, "REVERSED" if verdict == BOOKED else reason)


def _attempt_text(entry: Entry) -> str:
    attempt = entry.attempt
    return f"{attempt.topic}-{attempt.partition}@{attempt.offset}#{attempt.record_index}"


def _reverse_target(posting: Posting, action: Action) -> Verdict:
    """Move back what the target moved, account by account.

    So a split between cash and bonus returns as it was.
    """
    target = _open_target(posting)
    if target != ALREADY_CLOSED:
        _close_target(posting, action)
    if isinstance(target, tuple):
        return target
    movements = posting.book.reversible_movements(target)
    for transfer in reversed(movements):
        _move_back(posting, transfer)
    bonus.uncount_bet(posting, movements)
    fractions.uncount(posting, target)
    return BOOKED


def _move_back(posting: Posting, transfer: Transfer) -> None:
    source, target = purse_of(transfer.debit), purse_of(transfer.credit)
    if source == BONUS and target == CASH:
        # Bonus money that became cash when a requirement was met stays cash: it may be spent
        # already.
        return
    currency, amount = transfer.currency, transfer.amount_minor
    if source and target:
        posting.shift(posting.select_wallet(currency), target, source, amount)
    elif source:
        posting.credit(posting.select_wallet(currency), source, transfer.credit, amount)
    elif target:
        posting.debit(posting.select_wallet(currency), target, transfer.debit, amount)


def _open_target(posting: Posting) -> Entry | Verdict:
    """Return the posted event that the reference means, or why nothing can be done to it."""
    if posting.log_event.reference_id is None:
        select_named_wallet(posting)
        return (Outcome.UNRESOLVED, "NO_REFERENCE")
    select_target_wallet(posting)
    closing = closing_of_target(posting)
    if closing is not None and closing.action != SETTLED:
        return ALREADY_CLOSED
    decisions = decisions_of_target(posting)
    if not decisions:
        return (Outcome.TOMBSTONED, "REFERENCE_NOT_SEEN_YET")
    if decisions[-1].answer.outcome != Outcome.POSTED:
        return NOTHING_TO_REVERSE
    return decisions[-1]


def _is_closed_as(posting: Posting, action: Action) -> bool:
    closing = closing_of_target(posting)
    return closing is not None and closing.action == action


def _close_target(posting: Posting, action: Action) -> None:
    log_event, player_id = posting.log_event, posting.event.player_id
    if log_event.reference_id is None or player_id is None:
        return
    posting.close(log_event.reference_id, player_id, action)
    if decisions_of_target(posting):
        return
    # Nothing has come under any operation that is meant: whichever comes is closed.
    for target_id in log_event.reference_ids:
        if posting.book.closing(target_id, player_id) is None:
            posting.close(target_id, player_id, action)
