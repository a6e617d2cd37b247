"""Reasons to refuse a bet or a withdrawal request, and the player states behind them.

`player_state` is the rule of events that block, hold or limit a player. `find_refusal` applies the
result to events that await a decision, in this order: is it too late, is the player blocked or
held, does the player have this currency, is the bet above a limit, is there enough money. Nothing
else is ever refused for lack of money: a win or a rollback is booked, into debt if need be.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ledger_sink.rules.amounts import BOOKED, Verdict, currency_of, minor_of
from ledger_sink.rules.journal import BLOCKED, FREE, HELD, PlayerState, Wallet
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.references import select_named_wallet
from schemas.causes import DELAYED
from schemas.errors import InvariantBroken
from schemas.events import Kind, Leg, Outcome

DECISION_EXPIRED: Final = (Outcome.REFUSED_EXPIRED.value, "DECISION_EXPIRED")
PLAYER_BLOCKED: Final = (Outcome.REFUSED_BLOCKED.value, "PLAYER_BLOCKED")
WITHDRAWALS_HELD: Final = (Outcome.REFUSED_BLOCKED.value, "WITHDRAWALS_HELD")
NO_WALLET: Final = (Outcome.REFUSED_CURRENCY.value, "NO_WALLET_IN_CURRENCY")
BET_OVER_LIMIT: Final = (Outcome.REFUSED_LIMIT.value, "BET_OVER_LIMIT")
NOT_ENOUGH_MONEY: Final = (Outcome.REFUSED_FUNDS.value, "NOT_ENOUGH_MONEY")
_STOPPABLE: Final = frozenset({Kind.BET.value, Kind.WITHDRAWAL.value})

STALE_STATE: Final = (Outcome.POSTED.value, "STALE_STATE")
SOURCE_DEFAULT: Final = "operator"
ALERT: Final = "alert"
ORDERED_BY_LOG: Final = frozenset({"operator", ALERT})
"""Sources whose statements apply in the order of the log, whatever their own clock says."""

LEVELS: Final = {"player.blocked": BLOCKED, "player.held": HELD, "player.released": FREE}
"""BLOCKED stops bets and withdrawals, HELD withdrawals."""


def find_refusal(posting: Posting) -> Verdict | None:
    """Return why the event is refused, by the book at its place in the log; None if it is not."""
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
        if state is not None and (restriction := _restriction(state, leg)):
            return restriction
        if wallet.version == 0 and book.has_wallets(event.player_id):
            return NO_WALLET
        if leg.is_free:
            continue
        amount = minor_of(leg)
        is_bet = leg.kind == Kind.BET
        if state is not None and is_bet and _is_over_limit(state, wallet.currency, amount):
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
    bet_max, _ = state.limits.get(currency, (None, 0))
    return bet_max is not None and amount_minor > bet_max


def _funds(wallet: Wallet, kind: str) -> int:
    """Return how much a leg of a kind may take, in minor units.

    Bonus money may be bet but not withdrawn, and cash that covers a negative bonus may not be
    withdrawn.
    """
    funds = wallet.available_minor
    if kind == Kind.WITHDRAWAL:
        funds = min(funds, wallet.cash_minor)
    return max(funds, 0)


def player_state(posting: Posting, leg: Leg) -> Verdict:
    """Apply a block, a hold, a release or a limit, unless its source has stated something newer.

    A source (KYC, an alert, an operator) takes back only what it has stated itself. Statements of
    operators and alerts apply in the order of the log: a host whose clock is slow must not lose a
    block. Those of KYC providers are ordered by their own time: an old RED that comes after its
    newer GREEN changes nothing. A time ahead of the broker's is cut to the broker's, or it would
    override every later statement. Many detectors speak as alerts, each for itself: a hold of one
    does not weaken the block of another, which only a release lifts.
    """
    event = posting.event
    at_ms = event.appended_at
    if event.provider_at is not None:
        at_ms = min(event.provider_at, event.appended_at)
    old = posting.player_state()
    source = SOURCE_DEFAULT if event.cause is None else event.cause.type
    if event.operation in LEVELS:
        before, level = old.standings.get(source), LEVELS[event.operation]
        if _is_stale(source, before, at_ms):
            return STALE_STATE
        if source == ALERT and level == HELD and before is not None and before[0] == BLOCKED:
            level = BLOCKED
        standings = {**old.standings, source: (level, at_ms)}
        posting.state = msgspec.structs.replace(old, standings=standings, event_id=event.event_id)
        return BOOKED
    if event.operation not in ("player.limited", "player.unlimited"):
        message = f"{posting.log_event}: no rule for the player state operation {event.operation!r}"
        raise InvariantBroken(message)
    currency = currency_of(leg)
    if _is_stale(source, old.limits.get(currency), at_ms):
        return STALE_STATE
    bet_max = None if leg.amount is None else minor_of(leg)
    limits = {**old.limits, currency: (bet_max, at_ms)}
    posting.state = msgspec.structs.replace(old, limits=limits, event_id=event.event_id)
    return BOOKED


def _is_stale(source: str, earlier: tuple[str | int | None, int] | None, at_ms: int) -> bool:
    """Return whether what was stated earlier in the log is newer and keeps its place."""
    return source not in ORDERED_BY_LOG and earlier is not None and earlier[1] > at_ms
