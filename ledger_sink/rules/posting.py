"""The posting rules: how each event is decided. A book in, a changed book out.

Sources are the providers' own rules (docs/explanation/guarantees.md lists them): a repeat is a
success and a conflict is not (Hub88), the key is the operation and the id (100HP, Play'n GO), a
refused attempt need not burn its id (Microgaming), a rollback may come before its bet, and a
correction may take a balance below zero while a bet may not.
"""

from __future__ import annotations

from typing import Final

from ledger_sink.rules.amounts import (
    BOOKED,
    CURRENCIES_DIFFER,
    CURRENCY_UNKNOWN,
    NOTED,
    Unpostable,
    Verdict,
)
from ledger_sink.rules.book import NO_PLAYER, Book, DecidedEvent, LogEvent, Posting
from ledger_sink.rules.closings import pay_out
from ledger_sink.rules.journal import CANCELLED, PAID, REVERSED, SETTLED, Answer, Entry
from ledger_sink.rules.leg_rules import LEG_RULES
from ledger_sink.rules.payments import move_to_suspense
from ledger_sink.rules.references import (
    BET_NOT_FOUND,
    checks_bet_of_win,
    mark_settled,
    protects_settled_bets,
    select_named_wallet,
    win_refusal,
)
from ledger_sink.rules.refusals import find_refusal
from schemas.errors import InvariantBroken, Rejected
from schemas.events import Kind, Outcome
from schemas.policies import LedgerPolicy

_REFUSALS: Final = frozenset(
    outcome.value for outcome in Outcome if outcome.name.startswith("REFUSED_")
)
_STILL_TRUE: Final = _REFUSALS | {Outcome.TOMBSTONED.value, Outcome.UNRESOLVED.value}

DECISIONS_MAX: Final = 100
"""How often one id may be decided; after that its last refusal is final.

All of them are read at each attempt.
"""

BOOKED_INTO_DEBT: Final = (Outcome.POSTED.value, "BOOKED_INTO_DEBT")
REVERSED_INTO_DEBT: Final = (Outcome.CANCELLED.value, "REVERSED_INTO_DEBT")
"""A debt raises an alert by these reasons, so they go before any other reason."""

PLAYER_UNKNOWN: Final = (Outcome.UNRESOLVED.value, "PLAYER_UNKNOWN")

_OF_CURRENCY: Final = frozenset({CURRENCY_UNKNOWN, CURRENCIES_DIFFER})
_NO_MONEY: Final = frozenset({Kind.INFORMATIONAL, Kind.HEARTBEAT, Kind.ROUND_CLOSE})


def post(book: Book, log_event: LogEvent, policy: LedgerPolicy) -> None:
    """Decide one event of the log and write the decision into the book.

    Raises InvariantBroken for what must never be skipped: a kind without a rule, an amount that is
    not exact.
    """
    event = log_event.event
    for leg in event.legs:
        if leg.kind not in LEG_RULES:
            message = (
                f"{log_event}: no posting rule for kind {leg.kind!r}; this ledger is older than the"
                " event: upgrade this worker"
            )
            raise InvariantBroken(message)
    entries = book.entries.get(event.event_id)
    if entries:
        earlier = _earlier_answer(book, log_event, entries)
        if earlier is not None:
            book.decisions.append(DecidedEvent(log_event, earlier, None, redelivered=True))
            return
        if not _may_be_decided_again(book, log_event, entries, policy):
            answer = _repeat_answer(book, log_event, entries[-1])
            book.repeats[event.event_id, event.attempt] = answer
            book.decisions.append(DecidedEvent(log_event, answer, None))
            return
    posting = Posting(book, log_event, event, len(entries) if entries else 0, policy)
    outcome, reason = _decide_or_undo(posting)
    posting.finish(outcome, reason)


def _earlier_answer(book: Book, log_event: LogEvent, entries: list[Entry]) -> Answer | None:
    """Return the answer that this attempt got before.

    A normaliser that was killed appends its last records once more.
    """
    event = log_event.event
    for entry in entries:
        if entry.attempt == event.attempt:
            return entry.answer
    return book.repeats.get((event.event_id, event.attempt))


def _may_be_decided_again(
    book: Book, log_event: LogEvent, entries: list[Entry], policy: LedgerPolicy
) -> bool:
    """Return whether another attempt of a decided event gets a decision of its own."""
    event, last = log_event.event, entries[-1]
    if len(entries) >= DECISIONS_MAX:
        return False
    verdict = (last.answer.outcome, last.answer.reason)
    if verdict == PLAYER_UNKNOWN and event.player_id is not None:
        # The resolver had given up just before the target of the reference came. Money that moved
        # is in suspense, for an operator.
        return not last.transfers and event.fingerprint == last.fingerprint
    if verdict == BET_NOT_FOUND:
        # The only thing decided then was that the bet was missing; the player must not lose a win
        # to the order of arrival.
        return event.fingerprint == last.fingerprint and _is_target_booked(book, log_event)
    return (
        policy.refused_id_reusable
        and event.decision_required
        and last.answer.outcome in _REFUSALS
        and last.player_id == event.player_id
    )


def _is_target_booked(book: Book, log_event: LogEvent) -> bool:
    player_id = log_event.event.player_id
    return any(
        entry.player_id == player_id and entry.answer.outcome == Outcome.POSTED
        for entry in book.entries.get(log_event.reference_id or "", ())
    )


def _repeat_answer(book: Book, log_event: LogEvent, last: Entry) -> Answer:
    """Return EXISTS for a retry, CONFLICT for other content under the same id."""
    event, first = log_event.event, last.answer
    if event.fingerprint != last.fingerprint:
        return Answer(Outcome.CONFLICT, "OTHER_CONTENT_UNDER_SAME_ID")
    closing = book.closings.get((event.event_id, event.player_id or NO_PLAYER))
    if closing is not None and closing.action == CANCELLED:
        # The connector has answered the provider with an error; a retry must not be answered with a
        # success.
        return Answer(Outcome.CANCELLED, "CONNECTOR_TIMED_OUT")
    if first.outcome in _STILL_TRUE:
        return first
    return Answer(
        Outcome.EXISTS, first.reason, first.currency, first.available_minor, first.version
    )


def _decide_or_undo(posting: Posting) -> Verdict:
    """Decide an event; one that cannot be booked moves nothing and is answered with the reason.

    Raises InvariantBroken for an amount that the normaliser should have rejected.
    """
    try:
        return _decide(posting)
    except Unpostable as error:
        posting.undo()
        is_refusal = posting.event.decision_required and error.reason in _OF_CURRENCY
        outcome = Outcome.REFUSED_CURRENCY if is_refusal else Outcome.UNRESOLVED
        return outcome.value, error.reason
    except Rejected as error:
        # The normaliser rejects such an event, so another writer has appended it.
        message = f"{posting.log_event}: {error}"
        raise InvariantBroken(message) from error


def _decide(posting: Posting) -> Verdict:
    event = posting.event
    if event.player_id is None:
        return _decide_without_player(posting)
    closing = posting.book.closing(event.event_id, event.player_id)
    if closing is not None and closing.action == SETTLED:
        closing = None
    if closing is not None and closing.action != PAID:
        select_named_wallet(posting)
        return (Outcome.TOMBSTONED, "ROLLBACK_PRECEDED")
    refused = _find_refusal(posting) if closing is None else None
    if refused is not None:
        return refused
    verdicts = [LEG_RULES[leg.kind](posting, leg) for leg in event.legs]
    if closing is not None:
        pay_out(posting, posting.transfers[:])
        return _mark_debt(posting, (Outcome.POSTED, "PAYMENT_PRECEDED"))
    if posting.log_event.reference_id is not None and protects_settled_bets(posting.policy):
        mark_settled(posting)
    return _mark_debt(posting, _verdict_of(verdicts))


def _find_refusal(posting: Posting) -> Verdict | None:
    if posting.event.decision_required:
        return find_refusal(posting)
    return win_refusal(posting) if checks_bet_of_win(posting.policy) else None


def _verdict_of(verdicts: list[Verdict]) -> Verdict:
    """Return the first verdict that is neither BOOKED nor NOTED, else BOOKED if any leg is."""
    if len(verdicts) == 1:
        return verdicts[0]
    remarkable = [verdict for verdict in verdicts if verdict not in (BOOKED, NOTED)]
    if remarkable:
        return remarkable[0]
    return BOOKED if BOOKED in verdicts else NOTED


def _mark_debt(posting: Posting, verdict: Verdict) -> Verdict:
    """Replace the reason by one that raises an alert if the event took an account below zero."""
    if posting.wallet_before is None:
        return verdict
    wallet, _, (cash, bonus, *_) = posting.wallet_before
    if wallet.cash_minor >= min(cash, 0) and wallet.bonus_minor >= min(bonus, 0):
        return verdict
    return REVERSED_INTO_DEBT if verdict[0] == Outcome.CANCELLED else BOOKED_INTO_DEBT


def _decide_without_player(posting: Posting) -> Verdict:
    """Decide an event that names no player, after the resolver has given up; that is final.

    Money that has really moved waits in suspense for an operator. A rollback leaves a tombstone all
    the same, so that a later bet moves no money, for any player.
    """
    event = posting.event
    kinds = {leg.kind for leg in event.legs}
    for leg in event.legs:
        if leg.amount is None or leg.currency is None:
            continue
        if leg.kind in (Kind.DEPOSIT, Kind.DEPOSIT_REVERSAL):
            move_to_suspense(posting, leg)
    if kinds <= _NO_MONEY:
        return NOTED
    target_id = posting.log_event.reference_id
    if target_id is not None and target_id not in posting.book.entries:
        if Kind.WIN in kinds and posting.policy.win_without_bet == "REFUSE":
            return BET_NOT_FOUND
        is_closed = (target_id, NO_PLAYER) in posting.book.closings
        if Kind.ROLLBACK in kinds and not is_closed:
            posting.close(target_id, NO_PLAYER, REVERSED)
    return PLAYER_UNKNOWN
