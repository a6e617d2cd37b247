"""What may stop an event that awaits a decision: bets and requests to withdraw. Pure.

Asked in this order: is it too late, is the player blocked or held, does the player have this
currency, is the bet above a limit, is there enough money. Nothing else is ever refused here: a win
or a rollback is booked, into debt if need be.
"""

from __future__ import annotations

from typing import Final

from ledger_sink.rules.amounts import Verdict, minor_of
from ledger_sink.rules.book import Posting
from ledger_sink.rules.journal import PlayerState, Wallet
from ledger_sink.rules.references import select_named_wallet
from schemas.causes import DELAYED
from schemas.events import Kind, Leg, Outcome

DECISION_EXPIRED: Final = (Outcome.REFUSED_EXPIRED.value, "DECISION_EXPIRED")
PLAYER_BLOCKED: Final = (Outcome.REFUSED_BLOCKED.value, "PLAYER_BLOCKED")
WITHDRAWALS_HELD: Final = (Outcome.REFUSED_BLOCKED.value, "WITHDRAWALS_HELD")
NO_WALLET: Final = (Outcome.REFUSED_CURRENCY.value, "NO_WALLET_IN_CURRENCY")
BET_OVER_LIMIT: Final = (Outcome.REFUSED_LIMIT.value, "BET_OVER_LIMIT")
_STOPPABLE: Final = frozenset({Kind.BET.value, Kind.WITHDRAWAL.value})
NOT_ENOUGH_MONEY: Final = (Outcome.REFUSED_FUNDS.value, "NOT_ENOUGH_MONEY")


def find_refusal(posting: Posting) -> Verdict | None:
    """Why the event is refused; None if it is not.

    Decided against the book as it stands in the log.
    """
    event, book = posting.event, posting.book
    assert event.player_id is not None
    if event.cause is not None and event.cause.type in DELAYED:
        select_named_wallet(posting)
        return DECISION_EXPIRED
    state = book.states.get(event.player_id)
    needed = 0
    for leg in event.legs:
        if leg.kind not in _STOPPABLE or leg.currency is None:
            continue
        wallet = posting.select_wallet(leg.currency)
        if state is not None and (stopped := _restriction(state, leg)):
            return stopped
        if wallet.version == 0 and book.has_wallets(event.player_id):
            return NO_WALLET
        if leg.is_free:
            continue
        amount = minor_of(leg)
        if (
            state is not None
            and leg.kind == Kind.BET
            and _is_over_limit(state, wallet.currency, amount)
        ):
            return BET_OVER_LIMIT
        needed += amount
        if needed > _funds(wallet, leg.kind):
            return NOT_ENOUGH_MONEY
    return None


def _restriction(state: PlayerState, leg: Leg) -> Verdict | None:
    if state.is_blocked:  # a free round is play as well
        return PLAYER_BLOCKED
    return WITHDRAWALS_HELD if leg.kind == Kind.WITHDRAWAL and state.is_held else None


def _is_over_limit(state: PlayerState, currency: str, amount_minor: int) -> bool:
    most, _ = state.limits.get(currency, (None, 0))
    return most is not None and amount_minor > most


def _funds(wallet: Wallet, kind: str) -> int:
    """Bonus money may be bet but not withdrawn, and no cash may leave that a bonus below zero has
    to cover.
    """
    funds = wallet.available_minor
    if kind == Kind.WITHDRAWAL:
        funds = min(funds, wallet.cash_minor)
    return max(funds, 0)
