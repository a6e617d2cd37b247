"""The decision about one event that was not decided before: what is moved, and the verdict."""

from __future__ import annotations

from typing import Final

from ledger_sink.rules.amounts import (
    BOOKED,
    CURRENCIES_DIFFER,
    CURRENCY_UNKNOWN,
    NOTED,
    Verdict,
)
from ledger_sink.rules.book import NO_PLAYER
from ledger_sink.rules.brands import is_of_other_brand, refuse_other_brand
from ledger_sink.rules.closings import pay_out, take_whole_back
from ledger_sink.rules.journal import PAID, REVERSED, SETTLED
from ledger_sink.rules.leg_rules import LEG_RULES
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.operations import twin_refusal
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
from ledger_sink.rules.suspense import WHOLE_MOVED, is_moved_by_person, whole_of
from schemas.causes import DIVIDED
from schemas.events import Kind, Outcome

BOOKED_INTO_DEBT: Final = (Outcome.POSTED.value, "BOOKED_INTO_DEBT")
REVERSED_INTO_DEBT: Final = (Outcome.CANCELLED.value, "REVERSED_INTO_DEBT")
"""A debt raises an alert by these reasons, so they go before any other reason."""

ROLLBACK_PRECEDED: Final = (Outcome.TOMBSTONED.value, "ROLLBACK_PRECEDED")
PLAYER_UNKNOWN: Final = (Outcome.UNRESOLVED.value, "PLAYER_UNKNOWN")

_OF_CURRENCY: Final = frozenset({CURRENCY_UNKNOWN, CURRENCIES_DIFFER})
_OF_OPERATOR: Final = frozenset(
    {
        Kind.SUSPENSE_RETURN,
        Kind.ANSWER,
        Kind.PROPOSAL,
        Kind.OPERATOR_LIMIT,
        Kind.QUARANTINE,
    }
)
"""The legs of operators that need no player."""

_NO_MONEY: Final = frozenset({Kind.INFORMATIONAL, Kind.HEARTBEAT, Kind.ROUND_CLOSE})


def unpostable_verdict(reason: str, *, decision_required: bool) -> Verdict:
    """Return the verdict on what cannot be booked as it is; only a decision can be refused."""
    is_refusal = decision_required and reason in _OF_CURRENCY
    outcome = Outcome.REFUSED_CURRENCY if is_refusal else Outcome.UNRESOLVED
    return outcome.value, reason


def decide(posting: Posting) -> Verdict:
    """Move what an event asks for and return the verdict.

    Raises Unpostable for what cannot be booked as it is, Rejected for an amount that the normaliser
    should have rejected.
    """
    event = posting.event
    if event.player_id is None:
        return _decide_without_player(posting)
    verdict = _refuse_foreign(posting, event.player_id)
    if verdict is not None:
        return verdict
    closing = posting.book.closing(event.event_id, event.player_id)
    if closing is not None and closing.action == SETTLED:
        closing = None
    if closing is not None and closing.action != PAID:
        select_named_wallet(posting)
        return ROLLBACK_PRECEDED
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


def _refuse_foreign(posting: Posting, player_id: str) -> Verdict | None:
    """Return the verdict on an event of another brand, or under the id of another operation."""
    if is_of_other_brand(posting, player_id):
        return refuse_other_brand(posting)
    return twin_refusal(posting)


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


def _decide_own_event(posting: Posting) -> Verdict | None:
    """Decide an event of ours that is about another event; None for one of a provider."""
    event = posting.event
    if event.cause is not None and event.cause.type == DIVIDED:
        return take_whole_back(posting)
    if event.legs and event.legs[0].kind in _OF_OPERATOR:
        return _verdict_of([LEG_RULES[leg.kind](posting, leg) for leg in event.legs])
    return None


def _decide_without_player(posting: Posting) -> Verdict:
    """Decide an event that names no player, after the resolver has given up; that is final.

    Money that has really moved waits in suspense for an operator; a whole whose payments are booked
    leaves it. A rollback leaves a tombstone all
    the same, so that a later bet moves no money, for any player.
    """
    event = posting.event
    kinds = {leg.kind for leg in event.legs}
    if (verdict := _decide_own_event(posting)) is not None:
        return verdict
    if not kinds.isdisjoint((Kind.DEPOSIT, Kind.DEPOSIT_REVERSAL)):
        moved_before = _move_to_suspense(posting)
        if moved_before is not None:
            return moved_before
    if kinds <= _NO_MONEY:
        return NOTED
    return _close_in_advance(posting, kinds) or PLAYER_UNKNOWN


def _move_to_suspense(posting: Posting) -> Verdict | None:
    """Move money without a player to suspense; return why it must not move, if so."""
    event = posting.event
    if (event.event_id, NO_PLAYER) in posting.book.closings:
        return ROLLBACK_PRECEDED
    if is_moved_by_person(posting, whole_of(event)):
        return WHOLE_MOVED
    for leg in event.legs:
        if leg.amount is None or leg.currency is None:
            continue
        if leg.kind in (Kind.DEPOSIT, Kind.DEPOSIT_REVERSAL):
            move_to_suspense(posting, leg)
    return None


def _close_in_advance(posting: Posting, kinds: set[str]) -> Verdict | None:
    """Close what a rollback means and has not come; return the refusal of a win without a bet."""
    target_id = posting.log_event.reference_id
    if target_id is None or target_id in posting.book.entries:
        return None
    if Kind.WIN in kinds and posting.policy.win_without_bet == "REFUSE":
        return BET_NOT_FOUND
    is_closed = (target_id, NO_PLAYER) in posting.book.closings
    if Kind.ROLLBACK in kinds and not is_closed:
        posting.close(target_id, NO_PLAYER, REVERSED)
    return None
