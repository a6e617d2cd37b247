"""The posting rules: how each event is decided. A book in, a changed book out.

Sources are the providers' own rules (docs/explanation/guarantees.md lists them): a repeat is a
success and a conflict is not (Hub88), the key is the operation and the id (100HP, Play'n GO), a
refused attempt need not burn its id (Microgaming), a rollback may come before its bet, and a
correction may take a balance below zero while a bet may not.
"""

from __future__ import annotations

from ledger_sink.rules.amounts import Unpostable, Verdict
from ledger_sink.rules.book import Book, DecidedEvent, LogEvent
from ledger_sink.rules.decision import decide, unpostable_verdict
from ledger_sink.rules.group_posting import post_group
from ledger_sink.rules.leg_rules import LEG_RULES
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.quarantine import post_quarantined
from ledger_sink.rules.references import choose_target
from ledger_sink.rules.repeats import earlier_answer, may_be_decided_again, repeat_answer
from schemas.errors import InvariantBroken, Rejected
from schemas.events import WalletTransaction
from schemas.policies import LedgerPolicy


def post(book: Book, log_event: LogEvent, policy: LedgerPolicy) -> DecidedEvent:
    """Decide one event of the log, write the decision into the book and return it.

    With the first event of a group all of its events are decided. Raises InvariantBroken for what
    must never be skipped: a kind without a rule, an amount that is not exact, an event of a group
    whose first has not come.
    """
    event = log_event.event
    if log_event.quarantine is not None:
        return post_quarantined(book, log_event, log_event.quarantine)
    if book.misread_players and event.player_id in book.misread_players:
        raise InvariantBroken(f"{log_event}: {book.misread_players[event.player_id]}")
    _check_kinds(book, log_event, event)
    if event.group is not None:
        for member in log_event.members:
            _check_kinds(book, log_event, member.event)
        return post_group(book, log_event, policy)
    if log_event.reference_ids:
        log_event.reference_id = choose_target(book, log_event)
    entries = book.entries.get(event.event_id)
    if entries:
        earlier = earlier_answer(book, log_event)
        if earlier is not None:
            return book.add_repeat(log_event, earlier, redelivered=True)
        if not may_be_decided_again(book, log_event, entries, policy):
            return book.add_repeat(log_event, repeat_answer(book, log_event, entries[-1]))
    posting = Posting(book, log_event, event, len(entries) if entries else 0, policy)
    outcome, reason = _decide_or_undo(posting)
    return posting.finish(outcome, reason)


def _check_kinds(book: Book, log_event: LogEvent, event: WalletTransaction) -> None:
    """Raise InvariantBroken for a kind without a rule.

    Not for an event that has an entry: a repeat of one that was quarantined gets its answer.
    """
    for leg in event.legs:
        if leg.kind not in LEG_RULES and event.event_id not in book.entries:
            message = (
                f"{log_event}: no posting rule for kind {leg.kind!r}; this ledger is older than the"
                " event: upgrade this worker"
            )
            raise InvariantBroken(message)


def _decide_or_undo(posting: Posting) -> Verdict:
    """Decide an event; one that cannot be booked moves nothing and is answered with the reason.

    Raises InvariantBroken for an amount that the normaliser should have rejected.
    """
    try:
        return decide(posting)
    except Unpostable as error:
        posting.undo()
        required = posting.event.decision_required
        return unpostable_verdict(error.reason, decision_required=required)
    except Rejected as error:
        # The normaliser rejects such an event, so another writer has appended it.
        message = f"{posting.log_event}: {error}"
        raise InvariantBroken(message) from error
