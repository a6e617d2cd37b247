"""Events that other events refer to, and what a provider's policy forbids to do with them.

Only an event of the same player counts: another player's is in another partition, whose order is
not known here.
"""

from __future__ import annotations

from typing import Final

from ledger_sink.rules.amounts import CURRENCY_UNKNOWN, Unpostable, Verdict
from ledger_sink.rules.book import NO_PLAYER, Book, LogEvent
from ledger_sink.rules.journal import CANCELLED, REVERSED, SETTLED, Closing, Entry
from ledger_sink.rules.open_posting import Posting
from schemas.events import Kind, Outcome
from schemas.policies import LedgerPolicy

BET_NOT_FOUND: Final = (Outcome.REFUSED_REFERENCE.value, "BET_NOT_FOUND")
BET_ROLLED_BACK: Final = (Outcome.REFUSED_REFERENCE.value, "BET_ROLLED_BACK")
BET_SETTLED: Final = (Outcome.REFUSED_REFERENCE.value, "BET_SETTLED")

SWEEP: Final = "sweep"
"""The cause of events by which the ledger's sweeper ends a round that its provider left open."""

_TAKEN_BACK: Final = frozenset({REVERSED, CANCELLED})
WINS: Final = frozenset({Kind.WIN.value, Kind.JACKPOT_WIN.value})
"""The legs that settle the bet which their event names."""


def choose_target(book: Book, log_event: LogEvent) -> str:
    """Return the event that a reference means which does not say the operation.

    It is the one that is booked and still open; else one that came; else one that nothing has
    closed before it came, the likeliest first.
    """
    player_id, ids = log_event.event.player_id or NO_PLAYER, log_event.reference_ids
    came = [
        target_id
        for target_id in ids
        if any(entry.player_id == player_id for entry in book.entries.get(target_id, ()))
    ]
    for target_id in came:
        closing = book.closing(target_id, player_id)
        is_booked = book.entries[target_id][-1].answer.outcome == Outcome.POSTED
        if is_booked and (closing is None or closing.action == SETTLED):
            return target_id
    still_open = [target_id for target_id in ids if book.closing(target_id, player_id) is None]
    return (*came, *still_open, ids[0])[0]


def decisions_of_target(posting: Posting) -> list[Entry]:
    """Return how the event that the reference means was decided, oldest first.

    Empty if the event has not come.
    """
    target_id = posting.log_event.reference_id
    entries = posting.book.entries.get(target_id, []) if target_id else []
    return [entry for entry in entries if entry.player_id == posting.event.player_id]


def closing_of_target(posting: Posting) -> Closing | None:
    """Return the closing of the event that the reference means, or its mark as settled."""
    target_id, player_id = posting.log_event.reference_id, posting.event.player_id
    if target_id is None or player_id is None:
        return None
    return posting.book.closing(target_id, player_id)


def booked_target(posting: Posting) -> Entry | None:
    """Return the event that the reference means, if its last decision booked it."""
    decisions = decisions_of_target(posting)
    if decisions and decisions[-1].answer.outcome == Outcome.POSTED:
        return decisions[-1]
    return None


def borrowed_currency(posting: Posting) -> str:
    """Return the currency of the bet that a win names.

    A 100HP deposit names neither player nor currency. Raises Unpostable without such a bet.
    """
    target = booked_target(posting)
    if target is None or target.answer.currency is None:
        raise Unpostable(CURRENCY_UNKNOWN)
    return target.answer.currency


def checks_bet_of_win(policy: LedgerPolicy) -> bool:
    """Return whether a win of this provider can depend on the bet that it names."""
    return "REFUSE" in (policy.win_without_bet, policy.win_after_rollback)


def protects_settled_bets(policy: LedgerPolicy) -> bool:
    """Return whether a rollback or a sweep must not take back a bet that a win has named."""
    return policy.rollback_after_win == "REFUSE" or policy.open_round_max_age_ms is not None


def win_refusal(posting: Posting) -> Verdict | None:
    """Return why a provider's policy refuses this win.

    None if it does not, and for an event that is not a win or names no bet.
    """
    policy, event = posting.policy, posting.event
    is_win = any(leg.kind == Kind.WIN for leg in event.legs)
    if posting.log_event.reference_id is None or not is_win:
        return None
    closing = closing_of_target(posting)
    verdict = None
    if closing is not None and closing.action in _TAKEN_BACK:
        if policy.win_after_rollback == "REFUSE":
            verdict = BET_ROLLED_BACK
        elif policy.win_without_bet == "REFUSE" and not decisions_of_target(posting):
            verdict = BET_NOT_FOUND
        # A bet whose rollback came first has come all the same: it is a bet that was rolled back.
    elif policy.win_without_bet == "REFUSE" and booked_target(posting) is None:
        verdict = BET_NOT_FOUND
    if verdict is not None:
        select_target_wallet(posting)
    return verdict


def mark_settled(posting: Posting) -> None:
    """Remember that a win has named the bet; for policies where that stops a rollback."""
    target_id, player_id = posting.log_event.reference_id, posting.event.player_id
    is_win = any(leg.kind in WINS for leg in posting.event.legs)
    if target_id is None or player_id is None or not is_win:
        return
    if posting.book.closing(target_id, player_id) is None:
        posting.close(target_id, player_id, SETTLED)


def rollback_refusal(posting: Posting) -> Verdict | None:
    """Return why a bet that a win has named is not taken back, or None.

    The provider's policy decides; a sweep never takes such a bet back.
    """
    closing, cause = closing_of_target(posting), posting.event.cause
    if closing is None or closing.action != SETTLED:
        return None
    is_sweep = cause is not None and cause.type == SWEEP
    return BET_SETTLED if is_sweep or posting.policy.rollback_after_win == "REFUSE" else None


def select_target_wallet(posting: Posting) -> None:
    """Let the answer state the balance of the wallet that the reference is about."""
    decisions = decisions_of_target(posting)
    if decisions and decisions[-1].answer.currency is not None:
        posting.select_wallet(decisions[-1].answer.currency)
    else:
        select_named_wallet(posting)


def select_named_wallet(posting: Posting) -> None:
    """Let the answer state the balance of the wallet that the event itself names, if it does."""
    for leg in posting.event.legs:
        if leg.currency is not None:
            posting.select_wallet(leg.currency)
            return
