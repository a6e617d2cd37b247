"""Tables of the casino: sittings of many rounds, each a bet and its result; and bursts.

A burst is an account that bets faster than any person can: what the velocity detector is there to
find.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from random import Random
from typing import Final

from msgspec.structs import replace

from lab.sandbox.actions import (
    GAME_PROVIDERS,
    HUB88,
    PLAYNGO,
    Action,
    GameAction,
    GameSession,
    HouseAction,
    Verb,
)
from lab.sandbox.agenda import Agenda
from lab.sandbox.cashier import Cashier
from lab.sandbox.ids import Ids
from lab.sandbox.seats import Seat

# One bet every 3.8 s on average and none within the 2.5 s that Great Britain asks of a slot (RTS
# 14D).
ROUND_GAP_MS: Final = (2_600, 5_000)
SETTLING_MS: Final = (300, 1_500)
PAUSE_MS: Final = (5_000, 20_000)
SITTING_ROUNDS: Final = (6, 24)

# Shares of all rounds.
UNKNOWN_BET_SHARE: Final = 0.002  # rolled back although the bet never arrived, or not yet
OVERDRAWN_SHARE: Final = 0.005
FREE_SHARE: Final = 0.03
# Shares of paid rounds.
ROLLED_BACK_SHARE: Final = 0.02
WON_SHARE: Final = 0.45
CLOSED_BY_ZERO_WIN_SHARE: Final = 0.2  # lost, and the provider says so in a message of its own

# Wins in quarters of the bet and their weights; with a hit in 45 of 100 rounds about 0.86 of the
# bets come back.
_WIN_QUARTERS: Final = (1, 2, 4, 6, 8, 20, 40)
_WIN_WEIGHTS: Final = (12, 17, 22, 15, 18, 12, 4)

_GAMES: Final = {
    HUB88: (
        (1201, "aur_pharaoh"),
        (1202, "aur_fruits"),
        (1310, "aur_crash"),
        (1415, "aur_blackjack"),
    ),
    PLAYNGO: ((100210, "vikings"), (100310, "moonfall"), (100377, "gold-rush"), (100401, "tomb")),
}


class Casino:
    """Plays the rounds of all seats on one agenda."""

    def __init__(self, agenda: Agenda, rng: Random, ids: Ids, cashier: Cashier) -> None:
        self._agenda = agenda
        self._rng = rng
        self._ids = ids
        self._cashier = cashier

    def sit_down(self, seat: Seat, at_ms: int) -> Iterable[Action]:
        """Begin a sitting at some provider's game; the first round follows at once."""
        seat.session = self.open_session(self._rng.choice(GAME_PROVIDERS))
        seat.rounds_left = self._rng.randint(*SITTING_ROUNDS)
        self._agenda.plan(at_ms + self._rng.randint(500, 2_500), partial(self._play_round, seat))
        return self._cashier.before_table(seat, at_ms)

    def open_session(self, provider: str) -> GameSession:
        """Open a new sitting at one of the provider's games."""
        game_id, game_code = self._rng.choice(_GAMES[provider])
        return GameSession(provider, self._ids.uuid(), self._ids.number(), game_id, game_code)

    def _play_round(self, seat: Seat, at_ms: int) -> Iterable[Action]:
        if not seat.rounds_left:
            self._agenda.plan(at_ms + self._rng.randint(*PAUSE_MS), partial(self.sit_down, seat))
            yield from self._cashier.after_table(seat, at_ms)
            return
        seat.rounds_left -= 1
        self._agenda.plan(at_ms + self._rng.randint(*ROUND_GAP_MS), partial(self._play_round, seat))
        stake = self._rng.choice(seat.player.purse.stakes_minor)
        draw = self._rng.random()
        if seat.is_blocked:
            yield from self._play_blocked_round(seat, stake, at_ms)
        elif draw < UNKNOWN_BET_SHARE:
            yield from self._roll_back_unseen_bet(seat, stake, at_ms)
        elif draw < UNKNOWN_BET_SHARE + OVERDRAWN_SHARE:
            # A player in debt may owe more than a deposit, and no bet is below zero.
            more = max(seat.funds_minor + seat.player.purse.deposits_minor[0], 0)
            yield self.bet(seat, more + stake, at_ms)
        elif draw < UNKNOWN_BET_SHARE + OVERDRAWN_SHARE + FREE_SHARE:
            yield from self._play_free_round(seat, stake, at_ms)
        elif seat.funds_minor < stake:
            yield from self._cashier.top_up(seat, at_ms)
        else:
            yield from self._play_paid_round(seat, stake, at_ms)

    def _play_paid_round(self, seat: Seat, stake: int, at_ms: int) -> Iterable[Action]:
        draw = self._rng.random()
        seat.funds_minor -= stake
        if draw < ROLLED_BACK_SHARE:
            bet = self.bet(seat, stake, at_ms)
            self._agenda.plan(
                at_ms + self._rng.randint(1_000, 4_000), partial(self._roll_back, seat, bet)
            )
        elif draw < ROLLED_BACK_SHARE + WON_SHARE:
            bet = self.bet(seat, stake, at_ms)
            self.plan_win(seat, bet, self._prize(stake), at_ms)
        elif draw < ROLLED_BACK_SHARE + WON_SHARE + CLOSED_BY_ZERO_WIN_SHARE:
            bet = self.bet(seat, stake, at_ms)
            self.plan_win(seat, bet, 0, at_ms)
        else:
            bet = self.bet(seat, stake, at_ms, round_closed=True)
        yield bet
        if seat.funds_minor < seat.player.purse.stakes_minor[-1]:
            yield from self._cashier.top_up(seat, at_ms)

    def _prize(self, stake: int) -> int:
        return stake * self._rng.choices(_WIN_QUARTERS, _WIN_WEIGHTS)[0] // 4

    def bet(
        self,
        seat: Seat,
        amount_minor: int,
        at_ms: int,
        *,
        round_closed: bool = False,
        campaign_id: str | None = None,
    ) -> GameAction:
        """Build a bet in a round of its own; a round that the bet itself closes is lost."""
        session = seat.session
        assert session is not None, "a bet needs a sitting"
        is_hub88 = session.provider == HUB88
        return GameAction(
            at_ms=at_ms,
            verb=Verb.BET,
            player=seat.player,
            session=session,
            tx_id=self._tx_id(session),
            round_id=f"R-{self._ids.number()}" if is_hub88 else str(self._ids.number()),
            round_closed=round_closed,
            amount_minor=amount_minor,
            campaign_id=campaign_id,
        )

    def _tx_id(self, session: GameSession) -> str:
        return self._ids.uuid() if session.provider == HUB88 else str(self._ids.number())

    def plan_win(self, seat: Seat, bet: GameAction, prize: int, at_ms: int) -> None:
        """Plan the bet's win, zero included, for a moment later; it closes the round."""
        self._agenda.plan(
            at_ms + self._rng.randint(*SETTLING_MS), partial(self._settle, seat, bet, prize)
        )

    def _settle(self, seat: Seat, bet: GameAction, prize: int, at_ms: int) -> Iterable[Action]:
        seat.funds_minor += prize
        yield self._follow_up(bet, Verb.WIN, prize, self._tx_id(bet.session), at_ms)

    def _roll_back(self, seat: Seat, bet: GameAction, at_ms: int) -> Iterable[Action]:
        seat.funds_minor += bet.amount_minor
        yield self._make_rollback(bet, at_ms)

    def _make_rollback(self, bet: GameAction, at_ms: int) -> GameAction:
        tx_id = bet.tx_id if bet.session.provider == PLAYNGO else self._ids.uuid()
        return self._follow_up(bet, Verb.ROLLBACK, bet.amount_minor, tx_id, at_ms)

    def _follow_up(
        self, bet: GameAction, verb: Verb, amount_minor: int, tx_id: str, at_ms: int
    ) -> GameAction:
        return GameAction(
            at_ms=at_ms,
            verb=verb,
            player=bet.player,
            session=bet.session,
            tx_id=tx_id,
            round_id=bet.round_id,
            round_closed=True,
            amount_minor=amount_minor,
            bet_tx_id=bet.tx_id,
            campaign_id=bet.campaign_id,
        )

    def _roll_back_unseen_bet(self, seat: Seat, stake: int, at_ms: int) -> Iterable[Action]:
        bet = self.bet(seat, stake, at_ms)
        yield self._make_rollback(bet, at_ms)
        if self._rng.random() < 0.5:  # half of them do arrive, too late: no money may move
            self._agenda.plan(
                at_ms + self._rng.randint(500, 5_000), lambda due_ms: (replace(bet, at_ms=due_ms),)
            )

    def _play_blocked_round(self, seat: Seat, stake: int, at_ms: int) -> Iterable[Action]:
        bet = self.bet(seat, stake, at_ms)
        yield bet
        # Hub88 rolls back after any answer but NOT_ENOUGH_MONEY and LIMIT_REACHED (docs.hub88.io,
        # Wallet API).
        if bet.session.provider == HUB88:
            late = at_ms + self._rng.randint(*SETTLING_MS)
            self._agenda.plan(late, lambda due_ms: (self._make_rollback(bet, due_ms),))

    def _play_free_round(self, seat: Seat, stake: int, at_ms: int) -> Iterable[Action]:
        session = seat.session
        assert session is not None, "free rounds need a sitting"
        campaign = self._ids.uuid() if session.provider == HUB88 else str(self._ids.number())
        bet = self.bet(seat, 0, at_ms, campaign_id=campaign)
        self.plan_win(seat, bet, self._prize(stake) if self._rng.random() < WON_SHARE else 0, at_ms)
        yield bet

    def block(self, seat: Seat, at_ms: int) -> Iterable[Action]:
        """Block a player for some twenty seconds, while the player continues to bet."""
        seat.is_blocked = True
        self._agenda.plan(at_ms + self._rng.randint(18_000, 24_000), partial(self._release, seat))
        yield self._state(seat, "player.blocked", "unusual pattern under review", at_ms)

    def _release(self, seat: Seat, at_ms: int) -> Iterable[Action]:
        seat.is_blocked = False
        yield self._state(seat, "player.released", "review found nothing", at_ms)

    def _state(self, seat: Seat, operation: str, reason: str, at_ms: int) -> HouseAction:
        fields = (("actor", "risk.desk"), ("reason", reason))
        return HouseAction(at_ms, operation, self._ids.uuid(), seat.player, fields)


BURST_BETS: Final = 600
BURST_MS: Final = 55_000
"""600 bets within 55 s: over 500 in a minute, and one episode only, because the account bets no
more after it.
"""
WIN_EVERY: Final = 10


def plan_burst(seat: Seat, provider: str, start_ms: int, rng: Random, ids: Ids) -> list[GameAction]:
    """Return the whole burst in order of time, every tenth bet with a win.

    All bets are at the smallest stake; the seat does nothing else.
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
        agenda.plan(at_ms, partial(_bet_in_burst, casino, seat, wins=number % WIN_EVERY == 0))
    return [action for action in agenda.run() if isinstance(action, GameAction)]


def _bet_in_burst(casino: Casino, seat: Seat, at_ms: int, *, wins: bool) -> Iterable[Action]:
    stake = seat.player.purse.stakes_minor[0]
    bet = casino.bet(seat, stake, at_ms, round_closed=not wins)
    if wins:
        casino.plan_win(seat, bet, 2 * stake, at_ms)
    return (bet,)


def funds_needed_minor(seat: Seat) -> int:
    """Return twice what the burst costs, so that none of its bets is refused for funds."""
    return 2 * BURST_BETS * seat.player.purse.stakes_minor[0]
