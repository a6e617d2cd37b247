"""An account that bets faster than any person can: what the velocity detector is there to find."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from random import Random
from typing import Final

from lab.sandbox.actions import Action, GameAction
from lab.sandbox.agenda import Agenda
from lab.sandbox.cashier import Cashier
from lab.sandbox.casino import Casino
from lab.sandbox.ids import Ids
from lab.sandbox.seats import Seat

BURST_BETS: Final = 600
BURST_MS: Final = 55_000
"""600 bets within 55 s: over 500 in a minute, and one episode only, because the account bets no
more after it.
"""
WIN_EVERY: Final = 10


def plan_burst(seat: Seat, provider: str, start_ms: int, rng: Random, ids: Ids) -> list[GameAction]:
    """The whole burst in order of time, every tenth bet with a win; at the smallest stake, and
    nothing else.
    """
    agenda = Agenda()
    casino = Casino(agenda, rng, ids, Cashier(agenda, rng, ids))
    seat.session = casino.open_session(provider)
    for number in range(BURST_BETS):
        # Evenly spread like a script, with a network's jitter that stays below the distance of two
        # bets.
        at_ms = (
            start_ms + number * BURST_MS // BURST_BETS + rng.randrange(BURST_MS // BURST_BETS // 2)
        )
        agenda.plan(at_ms, partial(_bet, casino, seat, wins=number % WIN_EVERY == 0))
    return [action for action in agenda.run() if isinstance(action, GameAction)]


def _bet(casino: Casino, seat: Seat, at_ms: int, *, wins: bool) -> Iterable[Action]:
    stake = seat.player.purse.stakes_minor[0]
    bet = casino.bet(seat, stake, at_ms, round_closed=not wins)
    if wins:
        casino.plan_win(seat, bet, 2 * stake, at_ms)
    return (bet,)


def funds_needed_minor(seat: Seat) -> int:
    """What pays for the burst twice over, so that no bet of it is refused for funds."""
    return 2 * BURST_BETS * seat.player.purse.stakes_minor[0]
