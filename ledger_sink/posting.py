"""The posting rules: what becomes of each event. Pure: a book in, a changed book out.

Sources are the providers' own rules (docs/guarantees.md lists them): a repeat is a success and a conflict is not
(Hub88), the key is the operation and the id (100HP, Play'n GO), a refused attempt need not burn its id (Microgaming),
a rollback may come before its bet, and a correction may take a balance below zero while a bet may not.
"""

from __future__ import annotations

from typing import Final

from ledger_sink import accounts
from ledger_sink.amounts import BOOKED, NOTED, Verdict, minor_of
from ledger_sink.book import Book, Decided, OutOfRange, Posting, Sourced
from ledger_sink.closings import pay
from ledger_sink.journal import CANCELLED, PAID, Answer, Entry
from ledger_sink.rules import RULES
from schemas.causes import LATE
from schemas.errors import InvariantBroken, Rejected
from schemas.events import Kind, Outcome
from schemas.policies import LedgerPolicy

_REFUSALS: Final = frozenset(outcome.value for outcome in Outcome if outcome.name.startswith("REFUSED_"))
_STILL_TRUE: Final = _REFUSALS | {Outcome.TOMBSTONED.value, Outcome.UNRESOLVED.value}

DECISIONS_MAX: Final = 100
"""How often a dialect may have one id decided; then its last refusal stands. All of them are read at each attempt."""

OUT_OF_RANGE: Final = (Outcome.UNRESOLVED.value, "BALANCE_OUT_OF_RANGE")
"""A provider that sends such amounts must not be able to stop the ledger: nothing moves, and a person looks at it."""


def post(book: Book, sourced: Sourced, policy: LedgerPolicy) -> None:
    """Decide one event of the log and write the decision into the book.

    Raises InvariantBroken for what must never be skipped: a kind that no rule knows, an amount that is not exact.
    """
    event = sourced.event
    for leg in event.legs:
        if leg.kind not in RULES:
            message = f"{sourced}: no posting rule for kind {leg.kind!r}; this ledger is older than the event"
            raise InvariantBroken(message)
    known = book.entries.get(event.event_id)
    if known:
        heard = _heard_before(book, sourced, known)
        if heard is not None:
            book.decided.append(Decided(sourced, heard, None, redelivered=True))
            return
        if not _may_be_decided_anew(sourced, known, policy):
            answer = book.repeats[event.event_id, event.attempt] = _repeated(book, sourced, known[-1])
            book.decided.append(Decided(sourced, answer, None))
            return
    posting = Posting(book, sourced, event, len(known) if known else 0)
    try:
        outcome, reason = _decide(posting)
    except OutOfRange:
        posting.undo()
        outcome, reason = OUT_OF_RANGE
    except Rejected as error:  # the normaliser lets no such event through, so whoever wrote it is not to be trusted
        message = f"{sourced}: {error}"
        raise InvariantBroken(message) from error
    posting.finish(outcome, reason)


def _heard_before(book: Book, sourced: Sourced, known: list[Entry]) -> Answer | None:
    """What this very attempt was told: a normaliser that was killed appends its last records once more."""
    event = sourced.event
    for entry in known:
        if entry.attempt == event.attempt:
            return entry.answer
    return book.repeats.get((event.event_id, event.attempt))


def _may_be_decided_anew(sourced: Sourced, known: list[Entry], policy: LedgerPolicy) -> bool:
    event, last = sourced.event, known[-1]
    return (
        policy.refused_id_reusable
        and event.decision_required
        and last.answer.outcome in _REFUSALS
        and last.player_id == event.player_id
        and len(known) < DECISIONS_MAX
    )


def _repeated(book: Book, sourced: Sourced, last: Entry) -> Answer:
    """EXISTS for a retry, CONFLICT for other content under the same id."""
    event, first = sourced.event, last.answer
    if event.fingerprint != last.fingerprint:
        return Answer(Outcome.CONFLICT, "OTHER_CONTENT_UNDER_SAME_ID")
    closing = book.closings.get((event.event_id, event.player_id or ""))
    if closing is not None and closing.action == CANCELLED:
        # The connector has told the provider "error"; a retry must not hear that the bet stands.
        return Answer(Outcome.CANCELLED, "CONNECTOR_GAVE_UP")
    if first.outcome in _STILL_TRUE:
        return first
    return Answer(Outcome.EXISTS, first.reason, first.currency, first.available_minor, first.version)


def _decide(posting: Posting) -> Verdict:
    event = posting.event
    if event.player_id is None:
        return _without_player(posting)
    closing = posting.book.closings.get((event.event_id, event.player_id))
    if closing is not None and closing.action != PAID:
        _show_wallet(posting)
        return (Outcome.TOMBSTONED, "ROLLED_BACK_BEFORE_IT_CAME")
    if event.decision_required and closing is None:
        refusal = _refusal(posting)
        if refusal is not None:
            return refusal
    verdicts = [RULES[leg.kind](posting, leg) for leg in event.legs]
    if closing is not None:
        pay(posting, posting.transfers[:])
        return (Outcome.POSTED, "PAID_BEFORE_IT_CAME")
    remarkable = [verdict for verdict in verdicts if verdict not in (BOOKED, NOTED)]
    if remarkable:
        return remarkable[0]
    return BOOKED if BOOKED in verdicts else NOTED


def _without_player(posting: Posting) -> Verdict:
    """Money without an owner is real all the same: it waits in suspense for a person."""
    event = posting.event
    money = False
    for leg in event.legs:
        if leg.kind in (Kind.INFORMATIONAL, Kind.HEARTBEAT, Kind.ROUND_CLOSE) or leg.amount is None:
            continue
        psp, suspense = accounts.psp_account(event.provider), accounts.suspense_account(event.provider)
        amount = minor_of(leg)
        money = True
        if leg.kind == Kind.DEPOSIT:
            posting.between_house_accounts(leg.currency or "", psp, suspense, amount)
        elif leg.kind == Kind.DEPOSIT_REVERSAL:
            posting.between_house_accounts(leg.currency or "", suspense, psp, amount)
    if money or any(leg.kind in (Kind.ROLLBACK, Kind.CANCEL) for leg in event.legs):
        return (Outcome.UNRESOLVED, "PLAYER_UNKNOWN")
    return NOTED


def _refusal(posting: Posting) -> Verdict | None:
    """Lateness, blocks, limits and funds may stop what awaits a decision: bets and requests to withdraw."""
    event = posting.event
    assert event.player_id is not None
    if event.cause is not None and event.cause.type in LATE:
        _show_wallet(posting)
        return (Outcome.REFUSED_EXPIRED, "COMES_TOO_LATE")
    needs: dict[str, int] = {}
    state = posting.book.state(event.player_id)
    for leg in event.legs:
        if leg.kind not in (Kind.BET, Kind.WITHDRAWAL) or leg.currency is None:
            continue
        wallet = posting.use(leg.currency)
        if state.is_blocked:  # a free round is play as well
            return (Outcome.REFUSED_BLOCKED, "PLAYER_BLOCKED")
        if leg.is_free:
            continue
        amount = minor_of(leg)
        needs[leg.currency] = needs.get(leg.currency, 0) + amount
        limited = leg.kind == Kind.BET and state.bet_limit_currency == leg.currency
        if limited and state.bet_limit_minor is not None and amount > state.bet_limit_minor:
            return (Outcome.REFUSED_LIMIT, "BET_OVER_LIMIT")
        # Bonus money may be bet but not withdrawn, and no cash may leave that a bonus gone below zero has to cover.
        funds = wallet.available_minor
        if leg.kind == Kind.WITHDRAWAL:
            funds = min(funds, wallet.cash_minor)
        if needs[leg.currency] > max(funds, 0):
            return (Outcome.REFUSED_FUNDS, "NOT_ENOUGH_MONEY")
    return None


def _show_wallet(posting: Posting) -> None:
    for leg in posting.event.legs:
        if leg.currency is not None:
            posting.use(leg.currency)
            return
