"""Bets, wins and jackpots: movements between a player, a game provider and its pools."""

from __future__ import annotations

from typing import Final

from ledger_sink.rules import accounts, bonus, fractions
from ledger_sink.rules.accounts import BONUS, CASH
from ledger_sink.rules.amounts import (
    BOOKED,
    NOTED,
    Verdict,
    borrowed_minor_of,
    currency_of,
    minor_of,
)
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.references import borrowed_currency
from schemas.events import Kind, Leg, Outcome

FREE_ROUND: Final = (Outcome.POSTED.value, "FREE_ROUND")


def bet(posting: Posting, leg: Leg) -> Verdict:
    """Move a bet to the provider, cash first, then bonus; a jackpot's share of it goes to the pool.

    A free round moves nothing.
    """
    wallet = posting.select_wallet(currency_of(leg))
    if leg.is_free:
        return FREE_ROUND
    amount = minor_of(leg)
    from_bonus = min(max(wallet.bonus_minor, 0), max(amount - max(wallet.cash_minor, 0), 0))
    event = posting.event
    is_alone = len(event.legs) == 1
    to_pool = 0 if is_alone else _to_pool(posting, wallet.currency, amount)
    if to_pool:
        pool = accounts.jackpot_account(event.provider)
        pool_cash = min(to_pool, amount - from_bonus)
        posting.debit(wallet, CASH, pool, pool_cash)
        posting.debit(wallet, BONUS, pool, to_pool - pool_cash)
        from_bonus -= to_pool - pool_cash
    house = accounts.provider_account(event.provider)
    posting.debit(wallet, CASH, house, amount - to_pool - from_bonus)
    posting.debit(wallet, BONUS, house, from_bonus)
    has_state = wallet.player_id in posting.book.states
    return bonus.count_bet(posting, wallet, amount) if has_state else BOOKED


def win(posting: Posting, leg: Leg) -> Verdict:
    """Pay a win from the provider, or from the brand's promotions if the round was free.

    It goes to cash, or to cash and bonus as its bet was split. A leg without a currency is in that
    of the bet. Raises Unpostable where that bet is unknown.
    """
    if leg.currency is None:
        wallet = posting.select_wallet(borrowed_currency(posting))
        amount = borrowed_minor_of(leg, wallet.currency)
    else:
        wallet = posting.select_wallet(leg.currency)
        amount = minor_of(leg)
    event = posting.event
    if leg.is_free:
        payer = accounts.promotions_account(event.brand)
    else:
        payer = accounts.provider_account(event.provider)
    has_state = wallet.player_id in posting.book.states
    to_bonus = bonus.share_of_win(posting, wallet, amount) if has_state else 0
    posting.credit(wallet, CASH, payer, amount - to_bonus)
    posting.credit(wallet, BONUS, payer, to_bonus)
    return BOOKED


def contribution(posting: Posting, leg: Leg) -> Verdict:
    """Move a jackpot's contribution: a share of the bet beside it, else of the provider's winnings.

    Beside a bet, the bet's own rule moves it. Providers state it in fractions of a minor unit. Only
    whole ones are moved, and what is left over is kept until it is whole (`fractions`).
    """
    currency, provider = currency_of(leg), posting.event.provider
    posting.select_wallet(currency)
    if any(other.kind == Kind.BET for other in posting.event.legs):
        return NOTED
    pool, house = accounts.jackpot_account(provider), accounts.provider_account(provider)
    moved = fractions.take_whole(posting, currency, fractions.contribution_of(leg), None)
    posting.move_between_house_accounts(currency, house, pool, moved)
    return BOOKED


def _to_pool(posting: Posting, currency: str, amount_minor: int) -> int:
    """Return how much of a bet goes to the jackpot: the contributions beside it in its currency."""
    legs = [
        leg
        for leg in posting.event.legs
        if leg.kind == Kind.JACKPOT_CONTRIBUTION and leg.currency == currency
    ]
    if not legs:
        return 0
    contributed = fractions.ZERO
    for leg in legs:
        contributed = fractions.add(contributed, fractions.contribution_of(leg))
    return fractions.take_whole(posting, currency, contributed, amount_minor)
