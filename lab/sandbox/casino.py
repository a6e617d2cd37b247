"""Tables of the casino: sittings of many rounds, each a bet and its result; and bursts.

A burst is an account that bets faster than any person can: what the velocity detector is there to
find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from random import Random
from typing import Final

from msgspec.structs import replace

from lab.conformance.intents import GameSession, Intent, IntentLeg, Verb
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import Writer
from lab.sandbox.actions import HOUSE
from lab.sandbox.agenda import Agenda
from lab.sandbox.cashier import Cashier
from lab.sandbox.seats import Seat, can_serve, choose, make_intent

# One bet every 3.8 s on average and none within the 2.5 s that Great Britain asks of a slot (RTS
# 14D).
ROUND_GAP_MS: Final = (2_600, 5_000)
SETTLING_MS: Final = (300, 1_500)
EXTRAS_MS: Final = (1_600, 2_500)  # after the win
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

# Shares of rounds at providers that know the verb.
_EXTRA_SHARES: Final = {
    Verb.JACKPOT_WIN: 0.01,
    Verb.PROMO_WIN: 0.01,
    Verb.GAME_ADJUSTMENT: 0.005,
    Verb.ROUND_CLOSE: 1.0,
}

DrawPrize = Callable[[], int]


class Casino:
    """Plays the rounds of all seats on one agenda."""

    def __init__(
        self,
        agenda: Agenda,
        rng: Random,
        ids: Ids,
        cashier: Cashier,
        writers: Mapping[str, Writer],
    ) -> None:
        self._agenda = agenda
        self._rng = rng
        self._ids = ids
        self._cashier = cashier
        self._writers = writers

    def sit_down(self, seat: Seat, at_ms: int) -> Iterable[Intent]:
        """Begin a sitting at some provider's game; the first round follows at once.

        A player whom no game provider can serve only pays in and out.
        """
        hosts = [writer for writer in game_writers(self._writers) if can_serve(writer, seat.player)]
        if hosts:
            seat.session = self.open_session(choose(self._rng, hosts))
            seat.rounds_left = self._rng.randint(*SITTING_ROUNDS)
        self._agenda.plan(at_ms + self._rng.randint(500, 2_500), partial(self._play_round, seat))
        return self._cashier.before_table(seat, at_ms)

    def open_session(self, writer: Writer) -> GameSession:
        """Open a new sitting at one of the provider's games."""
        game = self._rng.choice(writer.games)
        return GameSession(writer.provider, self._ids.uuid(), self._ids.number(), game)

    def _play_round(self, seat: Seat, at_ms: int) -> Iterable[Intent]:
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
            yield self._bet(seat, more + stake, at_ms)
        elif draw < UNKNOWN_BET_SHARE + OVERDRAWN_SHARE + FREE_SHARE:
            yield from self._play_free_round(seat, stake, at_ms)
        elif seat.funds_minor < stake:
            yield from self._cashier.top_up(seat, at_ms)
        else:
            yield from self._play_paid_round(seat, stake, at_ms)

    def _play_paid_round(self, seat: Seat, stake: int, at_ms: int) -> Iterable[Intent]:
        draw = self._rng.random()
        seat.funds_minor -= stake
        if draw < ROLLED_BACK_SHARE:
            bet = self._bet(seat, stake, at_ms)
            if Verb.ROLLBACK in self._writer_of(bet).says:
                self._agenda.plan(
                    at_ms + self._rng.randint(1_000, 4_000), partial(self._roll_back, seat, bet)
                )
        else:
            bet = self._play_result(seat, stake, at_ms, draw - ROLLED_BACK_SHARE)
            self._plan_extras(seat, bet, at_ms)
        yield bet
        if seat.funds_minor < seat.player.purse.stakes_minor[-1]:
            yield from self._cashier.top_up(seat, at_ms)

    def _play_result(self, seat: Seat, stake: int, at_ms: int, draw: float) -> Intent:
        if draw < WON_SHARE:
            return self.play(seat, stake, at_ms, partial(self._draw_prize, stake))
        if draw < WON_SHARE + CLOSED_BY_ZERO_WIN_SHARE:
            return self.play(seat, stake, at_ms, lambda: 0)
        return self._bet(seat, stake, at_ms, round_closed=True)

    def _draw_prize(self, stake: int) -> int:
        return stake * self._rng.choices(_WIN_QUARTERS, _WIN_WEIGHTS)[0] // 4

    def play(
        self,
        seat: Seat,
        stake: int,
        at_ms: int,
        draw_prize: DrawPrize,
        campaign: str | None = None,
    ) -> Intent:
        """Build a bet and plan its win, zero included, for a moment later; it closes the round.

        At a provider of spins the win is a part of the bet.
        """
        bet = self._bet(seat, stake, at_ms, campaign=campaign)
        prize = draw_prize()
        if bet.verb in {Verb.SPIN, Verb.FREE_SPIN}:
            seat.funds_minor += prize
            win = IntentLeg("WIN", prize, seat.player.currency, campaign is not None, campaign)
            return replace(bet, legs=(*bet.legs[:-1], win), round_closed=True)
        self._agenda.plan(
            at_ms + self._rng.randint(*SETTLING_MS), partial(self._settle, seat, bet, prize)
        )
        return bet

    def _bet(
        self,
        seat: Seat,
        amount_minor: int,
        at_ms: int,
        *,
        round_closed: bool = False,
        campaign: str | None = None,
    ) -> Intent:
        """Build a bet in a round of its own; a round that the bet itself closes is lost.

        At a provider of spins it is a lost spin; a free spin has no leg of a bet.
        """
        session, currency = seat.session, seat.player.currency
        assert session is not None, "a bet needs a sitting"
        writer = self._writers[session.provider]
        verb = Verb.BET if campaign is None else Verb.FREE_BET
        legs: tuple[IntentLeg, ...] = ()
        if Verb.SPIN in writer.says:
            lost = IntentLeg("WIN", 0, currency, campaign is not None, campaign)
            verb = Verb.SPIN if campaign is None else Verb.FREE_SPIN
            legs = (IntentLeg("BET", amount_minor, currency), lost) if campaign is None else (lost,)
        return make_intent(
            writer,
            verb,
            seat.player,
            writer.draw_id(self._ids, verb, at_ms),
            at_ms,
            amount_minor,
            campaign=campaign,
            legs=legs,
            round_id=writer.draw_round(self._ids),
            session=session,
            round_closed=round_closed,
        )

    def _writer_of(self, intent: Intent) -> Writer:
        return self._writers[intent.provider]

    def _settle(self, seat: Seat, bet: Intent, prize: int, at_ms: int) -> Iterable[Intent]:
        seat.funds_minor += prize
        verb = Verb.FREE_WIN if bet.verb is Verb.FREE_BET else Verb.WIN
        yield self._follow_up(seat, bet, verb, prize, at_ms)

    def _roll_back(self, seat: Seat, bet: Intent, at_ms: int) -> Iterable[Intent]:
        seat.funds_minor += bet.legs[0].minor or 0
        yield self._make_rollback(seat, bet, at_ms)

    def _make_rollback(self, seat: Seat, bet: Intent, at_ms: int) -> Intent:
        return self._follow_up(seat, bet, Verb.ROLLBACK, bet.legs[0].minor, at_ms)

    def _follow_up(
        self, seat: Seat, bet: Intent, verb: Verb, amount_minor: int | None, at_ms: int
    ) -> Intent:
        writer = self._writer_of(bet)
        return make_intent(
            writer,
            verb,
            seat.player,
            writer.draw_follow_up_id(self._ids, verb, at_ms, bet),
            at_ms,
            amount_minor,
            campaign=bet.legs[0].campaign,
            reference=bet.identity,
            round_id=bet.round_id,
            session=bet.session,
            round_closed=True,
        )

    def _plan_extras(self, seat: Seat, bet: Intent, at_ms: int) -> None:
        """Plan what only some providers know: jackpots, prizes, corrections, a round's end."""
        says = self._writer_of(bet).says
        for verb, share in _EXTRA_SHARES.items():
            if verb in says and self._rng.random() < share:
                act = partial(self._play_extra, seat, bet, verb)
                self._agenda.plan(at_ms + self._rng.randint(*EXTRAS_MS), act)

    def _play_extra(self, seat: Seat, bet: Intent, verb: Verb, at_ms: int) -> Iterable[Intent]:
        amount_minor = None
        if verb is not Verb.ROUND_CLOSE:
            amount_minor = 10 * seat.player.purse.stakes_minor[0]
            seat.funds_minor += amount_minor
        extra = self._follow_up(seat, bet, verb, amount_minor, at_ms)
        if verb is Verb.PROMO_WIN:
            campaign = self._writer_of(bet).draw_campaign(self._ids)
            extra = replace(extra, legs=(extra.legs[0]._replace(campaign=campaign),))
        yield extra

    def _roll_back_unseen_bet(self, seat: Seat, stake: int, at_ms: int) -> Iterable[Intent]:
        bet = self._bet(seat, stake, at_ms)
        if Verb.ROLLBACK not in self._writer_of(bet).says:
            return
        yield self._make_rollback(seat, bet, at_ms)
        if self._rng.random() < 0.5:  # half of them do arrive, too late: no money may move
            self._agenda.plan(
                at_ms + self._rng.randint(500, 5_000), lambda due_ms: (replace(bet, at_ms=due_ms),)
            )

    def _play_blocked_round(self, seat: Seat, stake: int, at_ms: int) -> Iterable[Intent]:
        bet = self._bet(seat, stake, at_ms)
        yield bet
        if self._writer_of(bet).rolls_back_refused_bets:
            late = at_ms + self._rng.randint(*SETTLING_MS)
            self._agenda.plan(late, lambda due_ms: (self._make_rollback(seat, bet, due_ms),))

    def _play_free_round(self, seat: Seat, stake: int, at_ms: int) -> Iterable[Intent]:
        session = seat.session
        assert session is not None, "free rounds need a sitting"
        writer = self._writers[session.provider]
        if not {Verb.FREE_BET, Verb.FREE_SPIN} & set(writer.says):
            return
        campaign = writer.draw_campaign(self._ids)
        yield self.play(
            seat,
            0,
            at_ms,
            lambda: self._draw_prize(stake) if self._rng.random() < WON_SHARE else 0,
            campaign,
        )

    def play_in_burst(self, seat: Seat, at_ms: int, *, wins: bool) -> Iterable[Intent]:
        """Bet the smallest stake; a bet that wins pays twice."""
        stake = seat.player.purse.stakes_minor[0]
        if wins:
            return (self.play(seat, stake, at_ms, lambda: 2 * stake),)
        return (self._bet(seat, stake, at_ms, round_closed=True),)

    def block(self, seat: Seat, at_ms: int) -> Iterable[Intent]:
        """Block a player for some twenty seconds, while the player continues to bet."""
        seat.is_blocked = True
        self._agenda.plan(at_ms + self._rng.randint(18_000, 24_000), partial(self._release, seat))
        yield self._state(seat, Verb.PLAYER_BLOCKED, "unusual pattern under review", at_ms)

    def _release(self, seat: Seat, at_ms: int) -> Iterable[Intent]:
        seat.is_blocked = False
        yield self._state(seat, Verb.PLAYER_RELEASED, "review found nothing", at_ms)

    def _state(self, seat: Seat, verb: Verb, reason: str, at_ms: int) -> Intent:
        house = self._writers[HOUSE]
        tx_id = house.draw_id(self._ids, verb, at_ms)
        details = (("actor", "risk.desk"), ("reason", reason))
        return make_intent(house, verb, seat.player, tx_id, at_ms, details=details)


def game_writers(writers: Mapping[str, Writer]) -> list[Writer]:
    """Return the writers of game providers."""
    return [writer for writer in writers.values() if {Verb.BET, Verb.SPIN} & set(writer.says)]


BURST_BETS: Final = 600
BURST_MS: Final = 55_000
"""600 bets within 55 s: over 500 in a minute, and one episode only, because the account bets no
more after it.
"""
WIN_EVERY: Final = 10


def plan_burst(
    seat: Seat, writer: Writer, start_ms: int, rng: Random, ids: Ids, writers: Mapping[str, Writer]
) -> list[Intent]:
    """Return the whole burst in order of time, every tenth bet with a win.

    All bets are at the smallest stake; the seat does nothing else.
    """
    agenda = Agenda()
    casino = Casino(agenda, rng, ids, Cashier(agenda, rng, ids, writers), writers)
    seat.session = casino.open_session(writer)
    for number in range(BURST_BETS):
        # Evenly spread like a script, with a network's jitter that stays below the distance of two
        # bets.
        at_ms = (
            start_ms + number * BURST_MS // BURST_BETS + rng.randrange(BURST_MS // BURST_BETS // 2)
        )
        agenda.plan(at_ms, partial(casino.play_in_burst, seat, wins=number % WIN_EVERY == 0))
    return list(agenda.run())


def funds_needed_minor(seat: Seat) -> int:
    """Return twice what the burst costs, so that none of its bets is refused for funds."""
    return 2 * BURST_BETS * seat.player.purse.stakes_minor[0]
