"""Attempts of events that were decided before: the same answer again, or a decision of its own."""

from __future__ import annotations

from typing import Final

import msgspec

from ledger_sink.rules.book import NO_PLAYER, Book, LogEvent
from ledger_sink.rules.decision import PLAYER_UNKNOWN
from ledger_sink.rules.journal import BY_PERSON, CANCELLED, Answer, Entry
from ledger_sink.rules.references import BET_NOT_FOUND
from schemas.events import Outcome
from schemas.policies import LedgerPolicy

OTHER_CONTENT: Final = "OTHER_CONTENT_UNDER_SAME_ID"
OTHER_GROUP: Final = "DECIDED_WITH_OTHERS"
"""The reasons of a CONFLICT. The second is of events that were decided before, but not together
with exactly these.
"""

REFUSALS: Final = frozenset(
    outcome.value for outcome in Outcome if outcome.name.startswith("REFUSED_")
)
_STILL_TRUE: Final = REFUSALS | {Outcome.TOMBSTONED.value, Outcome.UNRESOLVED.value}

DECISIONS_MAX: Final = 100
"""How often one id may be decided; after that its last refusal is final.

All of them are read at each attempt.
"""


def earlier_answer(book: Book, log_event: LogEvent) -> Answer | None:
    """Return the answer that this attempt got before.

    A normaliser that was killed appends its last records once more.
    """
    event = log_event.event
    for entry in book.entries.get(event.event_id, ()):
        if entry.attempt == event.attempt:
            return entry.answer
    return book.repeats.get((event.event_id, event.attempt))


def may_be_decided_again(
    book: Book, log_event: LogEvent, entries: list[Entry], policy: LedgerPolicy
) -> bool:
    """Return whether another attempt of a decided event gets a decision of its own."""
    event, last = log_event.event, entries[-1]
    if len(entries) >= DECISIONS_MAX or _is_answered(book, event.event_id):
        return False
    verdict = (last.answer.outcome, last.answer.reason)
    if verdict == PLAYER_UNKNOWN and event.player_id is not None:
        # The resolver had given up just before the target of the reference came. Money that moved
        # is in suspense, for an operator.
        return not last.transfers and event.fingerprint == last.fingerprint
    if verdict == BET_NOT_FOUND:
        # The only thing decided then was that the bet was missing; the player must not lose a win
        # to the order of arrival.
        return event.fingerprint == last.fingerprint and is_target_booked(book, log_event)
    return (
        policy.refused_id_reusable
        and event.decision_required
        and last.answer.outcome in REFUSALS
        and last.player_id == event.player_id
    )


def _is_answered(book: Book, event_id: str) -> bool:
    """Return whether a person has dealt with the event: it is not decided over their head."""
    closing = book.closings.get((event_id, NO_PLAYER)) if book.closings else None
    return closing is not None and closing.action in BY_PERSON


def is_target_booked(book: Book, log_event: LogEvent) -> bool:
    """Return whether the event that the reference means is booked, for the same player."""
    player_id = log_event.event.player_id
    return any(
        entry.player_id == player_id and entry.answer.outcome == Outcome.POSTED
        for entry in book.entries.get(log_event.reference_id or "", ())
    )


def repeat_answer(book: Book, log_event: LogEvent, last: Entry) -> Answer:
    """Return EXISTS for a retry, CONFLICT for other content under the same id."""
    event, first = log_event.event, last.answer
    if event.fingerprint != last.fingerprint:
        return answer_with_balance(book, log_event, Outcome.CONFLICT, OTHER_CONTENT)
    closing = book.closings.get((event.event_id, event.player_id or NO_PLAYER))
    if closing is not None and closing.action == CANCELLED:
        # The connector has answered the provider with an error; a retry must not be answered with a
        # success.
        return answer_with_balance(book, log_event, Outcome.CANCELLED, "CONNECTOR_TIMED_OUT")
    if first.outcome in _STILL_TRUE:
        return first
    return msgspec.structs.replace(first, outcome=Outcome.EXISTS.value)


def answer_with_balance(book: Book, log_event: LogEvent, outcome: str, reason: str) -> Answer:
    """Return an answer that moves nothing, with the balance of the event's wallet as it is now."""
    wallet = book.known_wallet(log_event.event)
    if wallet is None:
        return Answer(outcome, reason, decided_at=log_event.logged_at)
    available, logged_at = wallet.available_minor, log_event.logged_at
    return Answer(outcome, reason, wallet.currency, available, wallet.version, logged_at)
