"""Events that are nobody's: the resolver has looked everywhere, and it is final. Pure.

Money that has really moved waits in suspense for a person. A rollback leaves a tombstone all the
same, so that a bet that comes after it, whoever bets, moves no money.
"""

from __future__ import annotations

from typing import Final

from ledger_sink.rules import accounts
from ledger_sink.rules.amounts import NOTED, Verdict, minor_of
from ledger_sink.rules.book import NO_PLAYER, Posting
from ledger_sink.rules.journal import REVERSED
from ledger_sink.rules.references import BET_NOT_FOUND
from schemas.events import Kind, Outcome

PLAYER_UNKNOWN: Final = (Outcome.UNRESOLVED.value, "PLAYER_UNKNOWN")

_NO_MONEY: Final = frozenset({Kind.INFORMATIONAL, Kind.HEARTBEAT, Kind.ROUND_CLOSE})


def decide_without_player(posting: Posting) -> Verdict:
    """What becomes of an event whose player nobody knows."""
    event = posting.event
    psp, suspense = accounts.psp_account(event.provider), accounts.suspense_account(event.provider)
    kinds = {leg.kind for leg in event.legs}
    for leg in event.legs:
        if leg.amount is None or leg.currency is None:
            continue
        if leg.kind == Kind.DEPOSIT:
            posting.move_between_house_accounts(leg.currency, psp, suspense, minor_of(leg))
        elif leg.kind == Kind.DEPOSIT_REVERSAL:
            posting.move_between_house_accounts(leg.currency, suspense, psp, minor_of(leg))
    if kinds <= _NO_MONEY:
        return NOTED
    target_id = posting.log_event.reference_id
    if target_id is not None and target_id not in posting.book.entries:
        if Kind.WIN in kinds and posting.policy.win_without_bet == "REFUSE":
            return BET_NOT_FOUND
        if Kind.ROLLBACK in kinds and (target_id, NO_PLAYER) not in posting.book.closings:
            posting.close(target_id, NO_PLAYER, REVERSED)
    return PLAYER_UNKNOWN
