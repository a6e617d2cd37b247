"""One rule a kind: which accounts a leg moves money between. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger_sink import accounts, closings
from ledger_sink.accounts import BONUS, CASH
from ledger_sink.amounts import BOOKED, NOTED, Verdict, currency_of, minor_of
from ledger_sink.book import Posting
from ledger_sink.journal import PlayerState
from schemas.errors import InvariantBroken
from schemas.events import Kind, Leg, Outcome

Rule = Callable[[Posting, Leg], Verdict]


def _bet(posting: Posting, leg: Leg) -> Verdict:
    wallet = posting.use(currency_of(leg))
    if leg.is_free:
        return (Outcome.POSTED, "FREE_ROUND")
    amount = minor_of(leg)
    provider = accounts.provider_account(posting.event.provider)
    from_bonus = min(max(wallet.bonus_minor, 0), max(amount - max(wallet.cash_minor, 0), 0))
    posting.debit(wallet, CASH, provider, amount - from_bonus)
    posting.debit(wallet, BONUS, provider, from_bonus)
    return BOOKED


def _credited_from(account: Callable[[Posting], str], purse: str) -> Rule:
    def rule(posting: Posting, leg: Leg) -> Verdict:
        posting.credit(posting.use(currency_of(leg)), purse, account(posting), minor_of(leg))
        return BOOKED

    return rule


def _adjustment(posting: Posting, leg: Leg) -> Verdict:
    wallet, amount = posting.use(currency_of(leg)), minor_of(leg)
    if amount >= 0:
        posting.credit(wallet, CASH, accounts.ADJUSTMENTS, amount)
    else:
        posting.debit(wallet, CASH, accounts.ADJUSTMENTS, -amount)
    return BOOKED


def _deposit_reversal(posting: Posting, leg: Leg) -> Verdict:
    posting.debit(posting.use(currency_of(leg)), CASH, accounts.psp_account(posting.event.provider), minor_of(leg))
    return BOOKED


def _bonus_release(posting: Posting, leg: Leg) -> Verdict:
    posting.shift(posting.use(currency_of(leg)), BONUS, CASH, minor_of(leg))
    return BOOKED


def _bonus_forfeit(posting: Posting, leg: Leg) -> Verdict:
    account = accounts.promotions_account(posting.event.brand)
    posting.debit(posting.use(currency_of(leg)), BONUS, account, minor_of(leg))
    return BOOKED


def _player_state(posting: Posting, leg: Leg) -> Verdict:
    event = posting.event
    assert event.player_id is not None
    old = posting.book.state(event.player_id)
    blocked, currency, limit = old.is_blocked, old.bet_limit_currency, old.bet_limit_minor
    match event.operation:
        case "player.blocked":
            blocked = True
        case "player.released":
            blocked = False
        case "player.limited":
            currency, limit = currency_of(leg), minor_of(leg)
        case _:
            message = f"{posting.sourced}: no rule for the player state operation {event.operation!r}"
            raise InvariantBroken(message)
    posting.state = PlayerState(event.player_id, blocked, currency, limit, event.event_id)
    return BOOKED


def _noted(posting: Posting, leg: Leg) -> Verdict:
    if leg.currency is not None and posting.event.player_id is not None:
        posting.use(leg.currency)
    return NOTED


RULES: Final[dict[str, Rule]] = {
    Kind.BET: _bet,
    Kind.WIN: _credited_from(lambda posting: accounts.provider_account(posting.event.provider), CASH),
    Kind.JACKPOT_WIN: _credited_from(lambda posting: accounts.jackpot_account(posting.event.provider), CASH),
    Kind.PROMO_WIN: _credited_from(lambda posting: accounts.promotions_account(posting.event.brand), CASH),
    Kind.ROLLBACK: closings.rollback,
    Kind.CANCEL: closings.cancel,
    Kind.ADJUSTMENT: _adjustment,
    Kind.DEPOSIT: _credited_from(lambda posting: accounts.psp_account(posting.event.provider), CASH),
    Kind.DEPOSIT_REVERSAL: _deposit_reversal,
    Kind.WITHDRAWAL: closings.withdrawal,
    Kind.WITHDRAWAL_REVERSAL: closings.withdrawal_reversal,
    Kind.BONUS_GRANT: _credited_from(lambda posting: accounts.promotions_account(posting.event.brand), BONUS),
    Kind.BONUS_RELEASE: _bonus_release,
    Kind.BONUS_FORFEIT: _bonus_forfeit,
    Kind.ROUND_CLOSE: _noted,
    Kind.PLAYER_STATE: _player_state,
    Kind.INFORMATIONAL: _noted,
    Kind.HEARTBEAT: _noted,
}
