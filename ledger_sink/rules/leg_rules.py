"""One rule a kind: which accounts a leg moves money between. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ledger_sink.rules import accounts, adjustments, bets, bonus, closings, states
from ledger_sink.rules.accounts import CASH
from ledger_sink.rules.amounts import BOOKED, Verdict, currency_of, minor_of
from ledger_sink.rules.book import Posting
from schemas.events import Kind, Leg

LegRule = Callable[[Posting, Leg], Verdict]


def _credit_from(account: Callable[[Posting], str]) -> LegRule:
    def rule(posting: Posting, leg: Leg) -> Verdict:
        posting.credit(
            posting.select_wallet(currency_of(leg)), CASH, account(posting), minor_of(leg)
        )
        return BOOKED

    return rule


def _deposit_reversal(posting: Posting, leg: Leg) -> Verdict:
    posting.debit(
        posting.select_wallet(currency_of(leg)),
        CASH,
        accounts.psp_account(posting.event.provider),
        minor_of(leg),
    )
    return BOOKED


LEG_RULES: Final[dict[str, LegRule]] = {
    Kind.BET: bets.bet,
    Kind.WIN: bets.win,
    Kind.JACKPOT_WIN: _credit_from(
        lambda posting: accounts.jackpot_account(posting.event.provider)
    ),
    Kind.JACKPOT_CONTRIBUTION: bets.contribution,
    Kind.PROMO_WIN: _credit_from(lambda posting: accounts.promotions_account(posting.event.brand)),
    Kind.ROLLBACK: closings.rollback,
    Kind.CANCEL: closings.cancel,
    Kind.ADJUSTMENT: adjustments.adjustment,
    Kind.DEPOSIT: _credit_from(lambda posting: accounts.psp_account(posting.event.provider)),
    Kind.DEPOSIT_REVERSAL: _deposit_reversal,
    Kind.WITHDRAWAL: closings.withdrawal,
    Kind.WITHDRAWAL_REVERSAL: closings.withdrawal_reversal,
    Kind.BONUS_GRANT: bonus.grant,
    Kind.WAGERING: bonus.wagering,
    Kind.BONUS_RELEASE: bonus.release,
    Kind.BONUS_FORFEIT: bonus.forfeit,
    Kind.ROUND_CLOSE: adjustments.note_event,
    Kind.PLAYER_STATE: states.player_state,
    Kind.INFORMATIONAL: adjustments.note_event,
    Kind.HEARTBEAT: adjustments.note_event,
}
