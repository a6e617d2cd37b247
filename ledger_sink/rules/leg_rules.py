"""One rule for each kind of leg: between which accounts it moves money."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger_sink.rules import (
    accounts,
    adjustments,
    bets,
    bonus,
    closings,
    payments,
    quarantine,
    refusals,
    suspense,
    two_people,
)
from ledger_sink.rules.accounts import CASH
from ledger_sink.rules.amounts import BOOKED, Verdict, currency_of, minor_of
from ledger_sink.rules.open_posting import Posting
from schemas.events import Kind, Leg

LegRule = Callable[[Posting, Leg], Verdict]
"""Moves what a leg asks for and returns the verdict.

Raises Unpostable for what cannot be booked as it is.
"""


def _credit_from(account: Callable[[Posting], str]) -> LegRule:
    """Return a rule that pays the leg's amount from a house account to the player's cash."""

    def rule(posting: Posting, leg: Leg) -> Verdict:
        wallet = posting.select_wallet(currency_of(leg))
        posting.credit(wallet, CASH, account(posting), minor_of(leg))
        return BOOKED

    return rule


_from_jackpot = _credit_from(lambda posting: accounts.jackpot_account(posting.event.provider))
_from_promotions = _credit_from(lambda posting: accounts.promotions_account(posting.event.brand))

LEG_RULES: Final[dict[str, LegRule]] = {
    Kind.BET: bets.bet,
    Kind.WIN: bets.win,
    Kind.JACKPOT_WIN: _from_jackpot,
    Kind.JACKPOT_CONTRIBUTION: bets.contribution,
    Kind.PROMO_WIN: _from_promotions,
    Kind.ROLLBACK: closings.rollback,
    Kind.CANCEL: closings.cancel,
    Kind.ADJUSTMENT: adjustments.adjustment,
    Kind.DEPOSIT: payments.deposit,
    Kind.DEPOSIT_REVERSAL: payments.deposit_reversal,
    Kind.WITHDRAWAL: closings.withdrawal,
    Kind.WITHDRAWAL_REVERSAL: closings.withdrawal_reversal,
    Kind.BONUS_GRANT: bonus.grant,
    Kind.WAGERING: bonus.wagering,
    Kind.BONUS_RELEASE: bonus.release,
    Kind.BONUS_FORFEIT: bonus.forfeit,
    Kind.ROUND_CLOSE: adjustments.note_event,
    Kind.PLAYER_STATE: refusals.player_state,
    Kind.SUSPENSE_ASSIGNMENT: suspense.assign,
    Kind.SUSPENSE_RETURN: suspense.give_back,
    Kind.ANSWER: suspense.answer,
    Kind.PROPOSAL: suspense.remember_proposal,
    Kind.OPERATOR_LIMIT: two_people.set_limit,
    Kind.QUARANTINE: quarantine.note_quarantine,
    Kind.OPENING_BALANCE: adjustments.confirm_balance,
    Kind.INFORMATIONAL: adjustments.note_event,
    Kind.HEARTBEAT: adjustments.note_event,
}
