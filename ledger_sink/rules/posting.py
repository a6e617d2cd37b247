"""The posting rules: what becomes of each event. Pure: a book in, a changed book out.

Sources are the providers' own rules (docs/guarantees.md lists them): a repeat is a success and a
conflict is not (Hub88), the key is the operation and the id (100HP, Play'n GO), a refused attempt
need not burn its id (Microgaming), a rollback may come before its bet, and a correction may take a
balance below zero while a bet may not.
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
from ledger_sink.rules.journal import CANCELLED, PAID, SETTLED, Answer, Entry
from ledger_sink.rules.leg_rules import LEG_RULES
from ledger_sink.rules.playerless import PLAYER_UNKNOWN, decide_without_player
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
from schemas.events import Outcome
from schemas.policies import LedgerPolicy

_REFUSALS: Final = frozenset(
    outcome.value for outcome in Outcome if outcome.name.startswith("REFUSED_")
)
_STILL_TRUE: Final = _REFUSALS | {Outcome.TOMBSTONED.value, Outcome.UNRESOLVED.value}

DECISIONS_MAX: Final = 100
"""How often a dialect may have one id decided; then its last refusal stands.

All of them are read at each attempt.
"""

BOOKED_INTO_DEBT: Final = (Outcome.POSTED.value, "BOOKED_INTO_DEBT")
REVERSED_INTO_DEBT: Final = (Outcome.CANCELLED.value, "REVERSED_INTO_DEBT")
"""Somebody has to hear of a debt, and is told by these reasons: they go before whatever else could
be said.
"""

_OF_CURRENCY: Final = frozenset({CURRENCY_UNKNOWN, CURRENCIES_DIFFER})


def post(book: Book, sourced: LogEvent, policy: LedgerPolicy) -> None:
    """Decide one event of the log and write the decision into the book.

    Raises InvariantBroken for what must never be skipped: a kind that no rule knows, an amount that
    is not exact.
    """
    event = sourced.event
    for leg in event.legs:
        if leg.kind not in LEG_RULES:
            message = f"{sourced}: no posting rule for kind {leg.kind!r}; this ledger is older than the event"
            raise InvariantBroken(message)
    known = book.entries.get(event.event_id)
    if known:
        heard = _earlier_answer(book, sourced, known)
        if heard is not None:
            book.decisions.append(DecidedEvent(sourced, heard, None, redelivered=True))
            return
        if not _may_be_decided_anew(book, sourced, known, policy):
            answer = book.repeats[event.event_id, event.attempt] = _repeat_answer(
                book, sourced, known[-1]
            )
            book.decisions.append(DecidedEvent(sourced, answer, None))
            return
    posting = Posting(book, sourced, event, len(known) if known else 0, policy)
    try:
        outcome, reason = _decide(posting)
    except Unpostable as error:
        posting.undo()
        is_refusal = event.decision_required and error.reason in _OF_CURRENCY
        outcome = (Outcome.REFUSED_CURRENCY if is_refusal else Outcome.UNRESOLVED).value
        reason = error.reason
    except Rejected as error:  # the normaliser lets no such event through, so whoever wrote it is not to be trusted
        message = f"{sourced}: {error}"
        raise InvariantBroken(message) from error
    posting.finish(outcome, reason)


def _earlier_answer(book: Book, sourced: LogEvent, known: list[Entry]) -> Answer | None:
    """What this very attempt was told: a normaliser that was killed appends its last records once
    more.
    """
    event = sourced.event
    for entry in known:
        if entry.attempt == event.attempt:
            return entry.answer
    return book.repeats.get((event.event_id, event.attempt))


def _may_be_decided_anew(
    book: Book, sourced: LogEvent, known: list[Entry], policy: LedgerPolicy
) -> bool:
    event, last = sourced.event, known[-1]
    if len(known) >= DECISIONS_MAX:
        return False
    verdict = (last.answer.outcome, last.answer.reason)
    if verdict == PLAYER_UNKNOWN and event.player_id is not None:
        # The resolver had given up just before what it refers to came. What did move waits in
        # suspense, for a person.
        return not last.transfers and event.fingerprint == last.fingerprint
    if verdict == BET_NOT_FOUND:
        # Nothing was decided then but that the bet was missing; the player must not lose a win to
        # the order of arrival.
        return event.fingerprint == last.fingerprint and _has_come(book, sourced)
    return (
        policy.refused_id_reusable
        and event.decision_required
        and last.answer.outcome in _REFUSALS
        and last.player_id == event.player_id
    )


def _has_come(book: Book, sourced: LogEvent) -> bool:
    decided = book.entries.get(sourced.reference_id or "", ())
    return any(
        entry.player_id == sourced.event.player_id and entry.answer.outcome == Outcome.POSTED
        for entry in decided
    )


def _repeat_answer(book: Book, sourced: LogEvent, last: Entry) -> Answer:
    """EXISTS for a retry, CONFLICT for other content under the same id."""
    event, first = sourced.event, last.answer
    if event.fingerprint != last.fingerprint:
        return Answer(Outcome.CONFLICT, "OTHER_CONTENT_UNDER_SAME_ID")
    closing = book.closings.get((event.event_id, event.player_id or NO_PLAYER))
    if closing is not None and closing.action == CANCELLED:
        # The connector has told the provider "error"; a retry must not hear that the bet stands.
        return Answer(Outcome.CANCELLED, "CONNECTOR_TIMED_OUT")
    if first.outcome in _STILL_TRUE:
        return first
    return Answer(
        Outcome.EXISTS, first.reason, first.currency, first.available_minor, first.version
    )


def _decide(posting: Posting) -> Verdict:
    event = posting.event
    if event.player_id is None:
        return decide_without_player(posting)
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
        return _in_debt(posting, (Outcome.POSTED, "PAYMENT_PRECEDED"))
    if posting.log_event.reference_id is not None and protects_settled_bets(posting.policy):
        mark_settled(posting)
    return _in_debt(posting, _verdict_of(verdicts))


def _find_refusal(posting: Posting) -> Verdict | None:
    if posting.event.decision_required:
        return find_refusal(posting)
    return win_refusal(posting) if checks_bet_of_win(posting.policy) else None


def _verdict_of(verdicts: list[Verdict]) -> Verdict:
    if len(verdicts) == 1:
        return verdicts[0]
    remarkable = [verdict for verdict in verdicts if verdict not in (BOOKED, NOTED)]
    if remarkable:
        return remarkable[0]
    return BOOKED if BOOKED in verdicts else NOTED


def _in_debt(posting: Posting, verdict: Verdict) -> Verdict:
    """The same verdict, with a reason that people are alerted by where the event took an account
    below zero.
    """
    if posting.wallet_before is None:
        return verdict
    wallet, _, (cash, bonus, *_) = posting.wallet_before
    if wallet.cash_minor >= min(cash, 0) and wallet.bonus_minor >= min(bonus, 0):
        return verdict
    return REVERSED_INTO_DEBT if verdict[0] == Outcome.CANCELLED else BOOKED_INTO_DEBT
