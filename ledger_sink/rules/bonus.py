"""Bonus money: what a player may bet and not withdraw until enough was bet. Pure.

A grant says how much has to be bet before it becomes cash (a WAGERING leg beside the BONUS_GRANT):
the log tells it, so a campaign that is changed later changes no replay. One requirement a wallet;
further grants add to it. Every bet that is not free counts in full while a requirement is open. Its
last minor unit turns the bonus into cash.
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
from ledger_sink.rules.book import Posting
from ledger_sink.rules.journal import Transfer, Wallet
from ledger_sink.rules.references import booked_target
from schemas.events import Kind, Leg, Outcome
from schemas.money import AMOUNT_MAX

WAGERING_MET: Final = (Outcome.POSTED.value, "WAGERING_MET")
BONUS_IN_PART: Final = (Outcome.POSTED.value, "BONUS_IN_PART")
_BETS_GO_TO: Final = ("provider:", "jackpot:")


def grant(posting: Posting, leg: Leg) -> Verdict:
    """Give bonus money, and open or raise the requirement that comes with it.

    A grant without one to a wallet without one stays bonus money until the house releases it.
    """
    wallet = posting.select_wallet(currency_of(leg))
    posting.credit(wallet, BONUS, accounts.promotions_account(posting.event.brand), minor_of(leg))
    asked = sum(minor_of(other) for other in posting.event.legs if other.kind == Kind.WAGERING)
    left, since = _open(posting, wallet.currency) or (0, wallet.version)
    if left + asked > AMOUNT_MAX:
        raise Unpostable(OUT_OF_RANGE)
    if asked or wallet.currency in posting.player_state().wagering:
        _set(posting, wallet, (left + asked, since) if left + asked else None)
    return BOOKED


def wagering(posting: Posting, leg: Leg) -> Verdict:
    """Moves nothing: the grant beside it has read it."""
    posting.select_wallet(currency_of(leg))
    return NOTED


def release(posting: Posting, leg: Leg) -> Verdict:
    """The house makes cash of bonus money: its amount, and no more than there is."""
    wallet, amount = posting.select_wallet(currency_of(leg)), minor_of(leg)
    found = min(amount, max(wallet.bonus_minor, 0))
    posting.shift(wallet, BONUS, CASH, found)
    _end_if_empty(posting, wallet)
    return BOOKED if found == amount else BONUS_IN_PART


def forfeit(posting: Posting, leg: Leg) -> Verdict:
    """The house takes bonus money back: its amount, and no more than the player has not bet yet.

    Where nothing is left then, the requirement ends with it; so a lost bonus is forfeited to end
    it.
    """
    wallet, amount = posting.select_wallet(currency_of(leg)), minor_of(leg)
    found = min(amount, max(wallet.bonus_minor, 0))
    posting.debit(wallet, BONUS, accounts.promotions_account(posting.event.brand), found)
    _end_if_empty(posting, wallet)
    return BOOKED if found == amount else BONUS_IN_PART


def count_bet(posting: Posting, wallet: Wallet, amount_minor: int) -> Verdict:
    """Count a bet; the one that meets the requirement turns what is left of the bonus into cash."""
    opened = _open(posting, wallet.currency)
    if opened is None or not amount_minor:
        return BOOKED
    left, since = opened
    _set(posting, wallet, (max(left - amount_minor, 0), since))
    if left > amount_minor:
        return BOOKED
    posting.shift(wallet, BONUS, CASH, max(wallet.bonus_minor, 0))
    return WAGERING_MET


def uncount_bet(posting: Posting, movements: Sequence[Transfer]) -> None:
    """A bet that does not stand has not counted either.

    What was met stays met: its bonus share is cash at once.
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
        _set(
            posting, wallet, (min(left + sum(row.amount_minor for row in bets), AMOUNT_MAX), since)
        )
        return
    returned = sum(row.amount_minor for row in bets if purse_of(row.debit) == BONUS)
    posting.shift(wallet, BONUS, CASH, min(returned, max(wallet.bonus_minor, 0)))


def share_of_win(posting: Posting, wallet: Wallet, amount_minor: int) -> int:
    """How much of a win is bonus money: while a requirement is open, as much of it as its bet was.

    A win that names no bet that we know goes where the next bet would come from: cash while there
    is any, else bonus. Raises Unpostable where the bet is known and what it moved was moved away:
    to guess might make cash of bonus money.
    """
    if _open(posting, wallet.currency) is None:
        return 0
    bet = _taken_by_bet(posting.transfers)
    if not bet:
        target = booked_target(posting)
        bet = _taken_by_bet(posting.book.reversible_movements(target)) if target is not None else []
    if not bet:
        return 0 if wallet.cash_minor > 0 else amount_minor
    bonus = sum(row.amount_minor for row in bet if purse_of(row.debit) == BONUS)
    return amount_minor * bonus // sum(row.amount_minor for row in bet)


def _taken_by_bet(movements: Sequence[Transfer]) -> list[Transfer]:
    """What a bet has taken from the player."""
    return [
        row for row in movements if row.player_id is not None and row.credit.startswith(_BETS_GO_TO)
    ]


def _open(posting: Posting, currency: str) -> tuple[int, int] | None:
    """What is left to be bet, and since which wallet version; None where nothing is."""
    requirement = posting.player_state().wagering.get(currency)
    return requirement if requirement is not None and requirement[0] else None


def _end_if_empty(posting: Posting, wallet: Wallet) -> None:
    if wallet.bonus_minor <= 0 and _open(posting, wallet.currency) is not None:
        _set(posting, wallet, None)


def _set(posting: Posting, wallet: Wallet, requirement: tuple[int, int] | None) -> None:
    state = posting.player_state()
    others = {
        currency: old for currency, old in state.wagering.items() if currency != wallet.currency
    }
    changed = others if requirement is None else {**others, wallet.currency: requirement}
    posting.state = msgspec.structs.replace(
        state, wagering=changed, event_id=posting.event.event_id
    )
