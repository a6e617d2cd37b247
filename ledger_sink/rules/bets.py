"""Bets, wins and jackpots: what moves between a player, a game provider and its pools. Pure."""

from __future__ import annotations

from typing import Final

from ledger_sink.rules import accounts, bonus
from ledger_sink.rules.accounts import BONUS, CASH
from ledger_sink.rules.amounts import (
    BOOKED,
    NOTED,
    Verdict,
    amount_of,
    borrowed_minor_of,
    currency_of,
    minor_of,
)
from ledger_sink.rules.book import Posting
from ledger_sink.rules.references import borrowed_currency
from schemas.events import Kind, Leg, Outcome
from schemas.money import exponent_of

FREE_ROUND: Final = (Outcome.POSTED.value, "FREE_ROUND")


def bet(posting: Posting, leg: Leg) -> Verdict:
    """Cash first, then bonus, to the provider; the share that a jackpot takes of it to the pool."""
    wallet = posting.select_wallet(currency_of(leg))
    if leg.is_free:
        return FREE_ROUND
    amount = minor_of(leg)
    from_bonus = min(max(wallet.bonus_minor, 0), max(amount - max(wallet.cash_minor, 0), 0))
    provider = posting.event.provider
    to_pool = (
        0
        if len(posting.event.legs) == 1
        else min(_contribution_minor(posting, wallet.currency), amount)
    )
    if to_pool:
        pool, pool_cash = accounts.jackpot_account(provider), min(to_pool, amount - from_bonus)
        posting.debit(wallet, CASH, pool, pool_cash)
        posting.debit(wallet, BONUS, pool, to_pool - pool_cash)
        from_bonus -= to_pool - pool_cash
    house = accounts.provider_account(provider)
    posting.debit(wallet, CASH, house, amount - to_pool - from_bonus)
    posting.debit(wallet, BONUS, house, from_bonus)
    return (
        bonus.count_bet(posting, wallet, amount)
        if wallet.player_id in posting.book.states
        else BOOKED
    )


def win(posting: Posting, leg: Leg) -> Verdict:
    """From the provider, or from what the brand gives away if the round was free; to cash, or as
    its bet was split.
    """
    if leg.currency is None:
        wallet = posting.select_wallet(borrowed_currency(posting))
        amount = borrowed_minor_of(leg, wallet.currency)
    else:
        wallet = posting.select_wallet(leg.currency)
        amount = minor_of(leg)
    event = posting.event
    payer = (
        accounts.promotions_account(event.brand)
        if leg.is_free
        else accounts.provider_account(event.provider)
    )
    to_bonus = (
        bonus.share_of_win(posting, wallet, amount)
        if wallet.player_id in posting.book.states
        else 0
    )
    posting.credit(wallet, CASH, payer, amount - to_bonus)
    posting.credit(wallet, BONUS, payer, to_bonus)
    return BOOKED


def contribution(posting: Posting, leg: Leg) -> Verdict:
    """What a jackpot takes: beside a bet a part of it, else of what the provider has won before.

    Providers tell it in fractions of a minor unit. Only whole ones are booked, so a pool here is
    what it is at least.
    """
    currency, provider = currency_of(leg), posting.event.provider
    posting.select_wallet(currency)
    if any(other.kind == Kind.BET for other in posting.event.legs):
        return NOTED
    pool, house = accounts.jackpot_account(provider), accounts.provider_account(provider)
    posting.move_between_house_accounts(currency, house, pool, _whole_minor(leg))
    return BOOKED


def _contribution_minor(posting: Posting, currency: str) -> int:
    parts = (leg for leg in posting.event.legs if leg.kind == Kind.JACKPOT_CONTRIBUTION)
    return sum(_whole_minor(leg) for leg in parts if leg.currency == currency)


def _whole_minor(leg: Leg) -> int:
    amount = amount_of(leg)
    shift: int = exponent_of(currency_of(leg)) - amount.scale
    whole: int = max(amount.unscaled, 0)
    scaled: int = whole * 10**shift if shift >= 0 else whole // 10**-shift
    return scaled
