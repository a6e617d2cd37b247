"""Events that are decided together: all are booked or none.

A provider that sends several transactions in one call takes its answer for the call as a whole.
Each event has a record of its own in the log; the first one's holds all of them, and all are
decided with it (docs/explanation/adr/0013-groups.md). The records of the others then find their
answers, as an attempt does that comes again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ledger_sink.rules.amounts import Unpostable, Verdict
from ledger_sink.rules.book import Book, DecidedEvent, LogEvent
from ledger_sink.rules.decision import decide, unpostable_verdict
from ledger_sink.rules.journal import Answer
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.references import BET_NOT_FOUND, choose_target
from ledger_sink.rules.repeats import (
    DECISIONS_MAX,
    OTHER_CONTENT,
    OTHER_GROUP,
    REFUSALS,
    answer_with_balance,
    earlier_answer,
    is_target_booked,
    repeat_answer,
)
from schemas.errors import InvariantBroken, Rejected
from schemas.events import Outcome
from schemas.policies import LedgerPolicy


def post_group(book: Book, log_event: LogEvent, policy: LedgerPolicy) -> DecidedEvent:
    """Decide the group that an event is the first of; return the decision about this event.

    Any other event of a group was decided with the first. Raises InvariantBroken where it was not.
    """
    earlier = earlier_answer(book, log_event)
    if earlier is not None:
        return book.add_repeat(log_event, earlier, redelivered=True)
    members = log_event.members
    if not members:
        message = (
            f"{log_event}: the first event of its group has not come; find out which writer"
            " appended this to the log"
        )
        raise InvariantBroken(message)
    for member in members:
        if member.reference_ids:
            member.reference_id = choose_target(book, member)
    known = [member for member in members if member.event.event_id in book.entries]
    if not known or _may_be_decided_again(book, known, policy):
        return _decide_all(book, members, policy)
    answers = list(_repeat_answers(book, members))
    pairs = zip(members, answers, strict=True)
    decided = [book.add_repeat(member, answer) for member, answer in pairs]
    return decided[0]


def _repeat_answers(book: Book, members: Sequence[LogEvent]) -> Iterator[Answer]:
    """Yield each event's first answer again if the whole group is a retry, else CONFLICT for all.

    Half of a group is never booked: where one event is new, or was decided with others, or has
    other content, the call as a whole differs from what was decided.
    """
    conflict = _find_conflict(book, members)
    for member in members:
        if conflict is None:
            yield repeat_answer(book, member, book.entries[member.event.event_id][-1])
        else:
            yield answer_with_balance(book, member, Outcome.CONFLICT, conflict)


def _find_conflict(book: Book, members: Sequence[LogEvent]) -> str | None:
    reason = None
    for member in members:
        event, entries = member.event, book.entries.get(member.event.event_id)
        if not entries or event.group is None or entries[-1].group_id != event.group.id:
            return OTHER_GROUP
        if entries[-1].fingerprint != event.fingerprint:
            reason = OTHER_CONTENT
    return reason


def _may_be_decided_again(book: Book, known: Sequence[LogEvent], policy: LedgerPolicy) -> bool:
    """Return whether the decisions about all events that are known leave room for another.

    They do where all were refused, so that nothing of them was booked: if the policy lets a refused
    id be used again, or if they were refused for a bet that has come since.
    """
    decisions = [book.entries[member.event.event_id] for member in known]
    lasts = [entries[-1] for entries in decisions]
    if any(last.answer.outcome not in REFUSALS for last in lasts):
        return False
    if any(len(entries) >= DECISIONS_MAX for entries in decisions):
        return False
    pairs = list(zip((member.event for member in known), lasts, strict=True))
    if any(last.player_id != event.player_id for event, last in pairs):
        return False
    if policy.refused_id_reusable and any(event.decision_required for event, _ in pairs):
        return True
    return all(
        (last.answer.outcome, last.answer.reason) == BET_NOT_FOUND
        and last.fingerprint == event.fingerprint
        for event, last in pairs
    ) and any(is_target_booked(book, member) for member in known)


def _decide_all(book: Book, members: Sequence[LogEvent], policy: LedgerPolicy) -> DecidedEvent:
    """Book the events one after the other, or refuse all of them as the first that is refused."""
    is_decision = any(member.event.decision_required for member in members)
    done: list[Posting] = []
    decided: list[DecidedEvent] = []
    for member in members:
        posting = _start_posting(book, member, policy)
        try:
            verdict = decide(posting)
            is_booked = verdict[0] not in REFUSALS
        except Unpostable as error:
            verdict = unpostable_verdict(error.reason, decision_required=is_decision)
            is_booked = False
        except Rejected as error:
            message = f"{member}: {error}"
            raise InvariantBroken(message) from error
        if not is_booked:
            posting.undo()
            for earlier in reversed(done):
                earlier.retract()
            return _refuse_all(book, members, policy, verdict)
        decided.append(posting.finish(*verdict))
        done.append(posting)
    return decided[0]


def _start_posting(book: Book, member: LogEvent, policy: LedgerPolicy) -> Posting:
    if member.reference_ids:
        member.reference_id = choose_target(book, member)
    entries = book.entries.get(member.event.event_id, ())
    return Posting(book, member, member.event, len(entries), policy)


def _refuse_all(
    book: Book, members: Sequence[LogEvent], policy: LedgerPolicy, verdict: Verdict
) -> DecidedEvent:
    decided = [_start_posting(book, member, policy).finish(*verdict) for member in members]
    return decided[0]
