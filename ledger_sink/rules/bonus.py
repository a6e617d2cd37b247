"""Bonus money: a player may bet it, but not withdraw it until enough was bet.

A grant says how much has to be bet before it becomes cash (a WAGERING leg beside the BONUS_GRANT).
The log holds that amount, so a campaign that is changed later changes no replay. A wallet has one
requirement; further grants add to it. Every bet that is not free counts in full while a requirement
is open. The bet that brings it to zero turns the bonus into cash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from ledger_sink.rules import accounts
from ledger_sink.rules.accounts import BONUS, CASH, purse_of
from ledger_sink.rules.amounts import (
    BOOKED,
    NOTED,
    OUT_OF_RANGE,
    Unpostable,
    Verdict,
    currency_of,
    minor_of,
)
from ledger_sink.rules.journal import Transfer, Wallet
from ledger_sink.rules.open_posting import Posting
from ledger_sink.rules.references import booked_target
from schemas.events import Kind, Leg, Outcome
from schemas.money import AMOUNT_MAX

WAGERING_MET: Final = (Outcome.POSTED.value, "WAGERING_MET")
BONUS_IN_PART: Final = (Outcome.POSTED.value, "BONUS_IN_PART")
_BETS_GO_TO: Final = ("provider:", "jackpot:")


def grant(posting: Posting, leg: Leg) -> Verdict:
    """Give bonus money, and open or raise the requirement that comes with it.

    A grant without a requirement, to a wallet without one, stays bonus money until the house
    releases it. Raises Unpostable for a requirement of more than 64 bits.
    """
    wallet = posting.select_wallet(currency_of(leg))
    promotions = accounts.promotions_account(posting.event.brand)
    posting.credit(wallet, BONUS, promotions, minor_of(leg))
    legs = posting.event.legs
    required = sum(minor_of(other) for other in legs if other.kind == Kind.WAGERING)
    left, since = _open_requirement(posting, wallet.currency) or (0, wallet.version)
    if left + required > AMOUNT_MAX:
        raise Unpostable(OUT_OF_RANGE)
    if required or wallet.currency in posting.player_state().wagering:
        _set_requirement(posting, wallet, (left + required, since) if left + required else None)
    return BOOKED


def wagering(posting: Posting, leg: Leg) -> Verdict:
    """Move nothing: the rule of the grant beside this leg reads it."""
    posting.select_wallet(currency_of(leg))
    return NOTED


def release(posting: Posting, leg: Leg) -> Verdict:
    """Turn bonus money into cash as the house says: the leg's amount, at most what is there."""
    wallet, amount = posting.select_wallet(currency_of(leg)), minor_of(leg)
    available = min(amount, max(wallet.bonus_minor, 0))
    posting.shift(wallet, BONUS, CASH, available)
    _end_if_empty(posting, wallet)
    return BOOKED if available == amount else BONUS_IN_PART


def forfeit(posting: Posting, leg: Leg) -> Verdict:
    """Take bonus money back for the house: the leg's amount, at most what is not bet yet.

    If nothing is left, the requirement ends too; so the house forfeits a lost bonus to end its
    requirement.
    """
    wallet, amount = posting.select_wallet(currency_of(leg)), minor_of(leg)
    available = min(amount, max(wallet.bonus_minor, 0))
    posting.debit(wallet, BONUS, accounts.promotions_account(posting.event.brand), available)
    _end_if_empty(posting, wallet)
    return BOOKED if available == amount else BONUS_IN_PART


def count_bet(posting: Posting, wallet: Wallet, amount_minor: int) -> Verdict:
    """Count a booked bet towards the requirement.

    The bet that meets it turns the bonus that is left into cash.
    """
    requirement = _open_requirement(posting, wallet.currency)
    if requirement is None or not amount_minor:
        return BOOKED
    left, since = requirement
    _set_requirement(posting, wallet, (max(left - amount_minor, 0), since))
    if left > amount_minor:
        return BOOKED
    posting.shift(wallet, BONUS, CASH, max(wallet.bonus_minor, 0))
    return WAGERING_MET


def uncount_bet(posting: Posting, movements: Sequence[Transfer]) -> None:
    """Add what a reversed bet had counted to the requirement again.

    A requirement that was met stays met: the bet's bonus share becomes cash at once. Nothing
    happens for a bet from before the requirement, and for movements that are not a bet's.
    """
    bets = _taken_by_bet(movements)
    if not bets or bets[0].version is None:
        return
    requirement = posting.player_state().wagering.get(bets[0].currency)
    if requirement is None or bets[0].version <= requirement[1]:
        return
    left, since = requirement
    wallet = posting.select_wallet(bets[0].currency)
    if left:
        raised = left + sum(row.amount_minor for row in bets)
        _set_requirement(posting, wallet, (min(raised, AMOUNT_MAX), since))
        return
    returned = sum(row.amount_minor for row in bets if purse_of(row.debit) == BONUS)
    posting.shift(wallet, BONUS, CASH, min(returned, max(wallet.bonus_minor, 0)))


def share_of_win(posting: Posting, wallet: Wallet, amount_minor: int) -> int:
    """Return how much of a win is bonus money, in minor units.

    While a requirement is open it is the share that bonus had in the bet, rounded down. A win whose
    bet is not known goes where the next bet would come from: cash while there is any, else bonus.
    Raises Unpostable where the bet is known and its movements are archived: a guess might make cash
    of bonus money.
    """
    if _open_requirement(posting, wallet.currency) is None:
        return 0
    bet = _taken_by_bet(posting.transfers)
    if not bet:
        target = booked_target(posting)
        if target is not None:
            bet = _taken_by_bet(posting.book.reversible_movements(target))
    if not bet:
        return 0 if wallet.cash_minor > 0 else amount_minor
    bonus = sum(row.amount_minor for row in bet if purse_of(row.debit) == BONUS)
    return amount_minor * bonus // sum(row.amount_minor for row in bet)


def _taken_by_bet(movements: Sequence[Transfer]) -> list[Transfer]:
    """Return the movements by which a bet took money from the player."""
    return [
        row for row in movements if row.player_id is not None and row.credit.startswith(_BETS_GO_TO)
    ]


def _open_requirement(posting: Posting, currency: str) -> tuple[int, int] | None:
    """Return what is left to be bet and since which wallet version; None if nothing is left."""
    requirement = posting.player_state().wagering.get(currency)
    return requirement if requirement is not None and requirement[0] else None


def _end_if_empty(posting: Posting, wallet: Wallet) -> None:
    if wallet.bonus_minor <= 0 and _open_requirement(posting, wallet.currency) is not None:
        _set_requirement(posting, wallet, None)


def _set_requirement(posting: Posting, wallet: Wallet, requirement: tuple[int, int] | None) -> None:
    state = posting.player_state()
    currency = wallet.currency
    others = {other: old for other, old in state.wagering.items() if other != currency}
    changed = others if requirement is None else {**others, currency: requirement}
    event_id = posting.event.event_id
    posting.state = msgspec.structs.replace(state, wagering=changed, event_id=event_id)
