"""Stories that a provider's writer can tell: facts in their order, and pairs that cancel out.

A story is made of the verbs that the writer `says`, so every adapter with a writer has stories. Its
players have money, so that no bet is refused, and no bet is both won and rolled back: then the
order of arrival is not a reason for other money. `lab.conformance.packing` writes a story in
several ways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Final

import msgspec

from lab.conformance.intents import (
    DEFAULT_BRAND,
    FREE_VERBS,
    KINDS,
    GameSession,
    Identity,
    Intent,
    IntentLeg,
    Market,
    MarketOutcome,
    Verb,
    scale_of,
)
from lab.conformance.writers import house
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import Sending, Writer

START_MS: Final = 1_795_183_400_123
"""20 November 2026, 14:03:20.123 UTC."""
STEP_MS: Final = 1_000

_PLAYERS: Final = 2
_ROUNDS: Final = 2
_OPENING_MAJOR: Final = 1_000_000
_HOUSE: Final = house.WRITER
_NOTICES: Final = (Verb.DEPOSIT_REFUSED, Verb.CAPTURE, Verb.REFUND_REFUSED, Verb.PAYOUT)
_BECAUSE: Final = (("reason", "documents missing"),)
_CHECKS: Final = (Verb.CHECK_STARTED, Verb.CHECK_PENDING, Verb.CHECK_FAILED, Verb.CHECK_PASSED)

MIRRORS: Final[Mapping[Verb, tuple[Verb, ...]]] = {
    Verb.ROLLBACK: (Verb.BET, Verb.SPIN),
    Verb.REFUND_RETURNED: (Verb.REFUND,),
    Verb.CHARGEBACK_WON: (Verb.CHARGEBACK,),
    Verb.WITHDRAWAL_REFUSED: (Verb.WITHDRAWAL_REQUESTED,),
    Verb.MARKET_UNSETTLED: (Verb.MARKET_SETTLED,),
}
"""Verbs that take back what another one did, and that other one."""


class Mirror(msgspec.Struct, frozen=True):
    """An act and what takes it back, after the facts that the act needs."""

    basis: tuple[Intent, ...]
    act: Intent
    undo: Intent


class Story(msgspec.Struct, frozen=True):
    """Facts in the order in which they happened.

    `opening` is the house's: it gives the players money and opens their deposits, before all else.
    """

    opening: tuple[Intent, ...]
    facts: tuple[Intent, ...]
    mirrors: tuple[Mirror, ...]


def make_story(writer: Writer, currencies: Sequence[str], rng: Random) -> Story:
    """Make a story of one provider in one of its currencies, the same for the same `rng`."""
    usable = [
        currency
        for currency in currencies
        if writer.decimals_max is None or scale_of(currency) <= writer.decimals_max
    ]
    currency, state = rng.choice(usable), rng.getstate()
    story = _StoryMaker(writer, currency, rng).make()
    if not all(_is_printable(writer, fact) for fact in story.facts):
        rng.setstate(state)
        story = _StoryMaker(writer, currency, rng, 10 ** scale_of(currency)).make()
    return story


def _is_printable(writer: Writer, fact: Intent) -> bool:
    """Return whether the provider can print the fact; it may have no minor units in a currency."""
    try:
        writer.write((fact,), Sending(fact.at_ms), None)
    except ValueError:
        return False
    return True


class _StoryMaker:
    """Draws amounts, multiples of `unit_minor`, and ids, and gives each fact its time."""

    def __init__(self, writer: Writer, currency: str, rng: Random, unit_minor: int = 1) -> None:
        self._writer = writer
        self._currency = currency
        self._unit_minor = unit_minor
        self._rng = rng
        self._ids = Ids(rng)
        self._at_ms = START_MS
        self._opening: list[Intent] = []
        self._facts: list[Intent] = []
        self._mirrors: list[Mirror] = []

    def make(self) -> Story:
        says = self._writer.says
        for number in range(_PLAYERS):
            player = f"p-{self._rng.getrandbits(32):08x}-{number}"
            self._open_wallet(player)
            parts: list[tuple[bool, Callable[[str], None]]] = [
                (bool({Verb.BET, Verb.SPIN} & says.keys()), self._play),
                (Verb.DEPOSIT in says, self._pay),
                (Verb.WITHDRAWAL_REQUESTED in says, self._withdraw),
                (Verb.CHECK_PASSED in says, self._check),
                (Verb.REPORT_ROW in says, self._report),
            ]
            for is_known, tell in parts:
                if is_known:
                    tell(player)
        if Verb.MARKET_SETTLED in says:
            self._settle_markets()
        return Story(tuple(self._opening), tuple(self._facts), tuple(self._mirrors))

    def _open_wallet(self, player: str) -> None:
        opening = _OPENING_MAJOR * 10 ** scale_of(self._currency)
        details = (("actor", "ann"), ("reason", "opening"))
        proposed = self._intent(_HOUSE, Verb.ADJUSTMENT_PROPOSED, player, opening, details=details)
        approved = self._intent(
            _HOUSE,
            Verb.ADJUSTMENT_APPROVED,
            player,
            reference=proposed.identity,
            details=(("actor", "bob"),),
        )
        self._opening += [proposed, approved]

    def _play(self, player: str) -> None:
        says = self._writer.says
        for _ in range(_ROUNDS):
            if Verb.SPIN in says:
                self._add(self._spin(player, is_free=False))
            if Verb.FREE_SPIN in says:
                self._add(self._spin(player, is_free=True))
            for first, win in ((Verb.BET, Verb.WIN), (Verb.FREE_BET, Verb.FREE_WIN)):
                if first in says and win in says:
                    self._play_round(player, first, win)
        self._roll_back(player)

    def _play_round(self, player: str, first: Verb, win: Verb) -> None:
        bet = self._bet(player, first)
        prize = self._rng.choice((0, self._draw_minor()))
        self._add(bet, self._follow(bet, win, prize, round_closed=True))
        for verb in (Verb.JACKPOT_WIN, Verb.PROMO_WIN, Verb.GAME_ADJUSTMENT, Verb.ROUND_CLOSE):
            if verb in self._writer.says and first is Verb.BET:
                amount = None if verb is Verb.ROUND_CLOSE else self._draw_minor()
                self._add(self._follow(bet, verb, amount))

    def _roll_back(self, player: str) -> None:
        says = self._writer.says
        if Verb.ROLLBACK not in says:
            return
        bets = []
        if Verb.BET in says:
            bets.append(self._bet(player, Verb.BET))
        if Verb.SPIN in says:
            bets.append(self._spin(player, is_free=False))
        for bet in bets:
            amount = bet.legs[0].minor
            undo = self._follow(bet, Verb.ROLLBACK, amount)
            self._add(bet, undo)
            self._mirrors.append(Mirror((), bet, undo))

    def _bet(self, player: str, verb: Verb) -> Intent:
        return self._intent(
            self._writer,
            verb,
            player,
            0 if verb is Verb.FREE_BET else self._draw_minor(),
            round_id=self._writer.draw_round(self._ids),
            session=self._open_session(),
            campaign=self._writer.draw_campaign(self._ids) if verb is Verb.FREE_BET else None,
        )

    def _spin(self, player: str, *, is_free: bool) -> Intent:
        campaign = self._writer.draw_campaign(self._ids) if is_free else None
        win = IntentLeg("WIN", self._draw_minor(), self._currency, is_free, campaign)
        bet = IntentLeg("BET", self._draw_minor(), self._currency)
        return self._intent(
            self._writer,
            Verb.FREE_SPIN if is_free else Verb.SPIN,
            player,
            legs=(win,) if is_free else (bet, win),
            round_id=self._writer.draw_round(self._ids),
            session=self._open_session(),
            round_closed=True,
        )

    def _follow(self, bet: Intent, verb: Verb, amount: int | None, **more: Any) -> Intent:
        assert bet.player is not None
        at_ms = self._at_ms + STEP_MS
        campaign = bet.legs[0].campaign
        if verb is Verb.PROMO_WIN:
            campaign = self._writer.draw_campaign(self._ids)
        return self._intent(
            self._writer,
            verb,
            bet.player,
            amount,
            tx_id=self._writer.draw_follow_up_id(self._ids, verb, at_ms, bet),
            reference=bet.identity,
            round_id=bet.round_id,
            session=bet.session,
            campaign=campaign,
            **more,
        )

    def _open_session(self) -> GameSession:
        game = self._rng.choice(self._writer.games)
        return GameSession(self._writer.provider, self._ids.uuid(), self._ids.number(), game)

    def _pay(self, player: str) -> None:
        """Tell deposits: one that stays, and for each way back one that goes and comes back."""
        says = self._writer.says
        stays = self._deposit(player)
        self._add(stays, *(self._notice(verb, stays) for verb in _NOTICES if verb in says))
        for undo, acts in MIRRORS.items():
            for act in acts:
                if undo in says and act in says and act in (Verb.REFUND, Verb.CHARGEBACK):
                    deposit = self._deposit(player)
                    taken = self._notice(act, deposit)
                    back = self._notice(undo, deposit)
                    self._add(deposit, taken, back)
                    self._mirrors.append(Mirror((deposit,), taken, back))
        for act in (Verb.REFUND, Verb.CHARGEBACK):
            if act in says:
                deposit = self._deposit(player)
                self._add(deposit, self._notice(act, deposit))

    def _deposit(self, player: str) -> Intent:
        amount = self._draw_minor()
        opened = self._intent(_HOUSE, Verb.DEPOSIT_OPENED, player, amount, psp=self._writer)
        self._opening.append(opened)
        return self._intent(
            self._writer,
            Verb.DEPOSIT,
            player,
            amount,
            reference=opened.identity,
            deposit_id=opened.tx_id,
        )

    def _notice(self, verb: Verb, deposit: Intent) -> Intent:
        assert deposit.player is not None
        is_first = verb is Verb.DEPOSIT_REFUSED
        is_payout = verb is Verb.PAYOUT
        return self._intent(
            self._writer,
            verb,
            deposit.player,
            deposit.legs[0].minor,
            reference=None if is_payout else deposit.reference if is_first else deposit.identity,
            deposit_id=None if is_payout else deposit.deposit_id,
        )

    def _withdraw(self, player: str) -> None:
        for verbs in (
            (Verb.WITHDRAWAL_APPROVED, Verb.WITHDRAWAL_PAID),
            (Verb.WITHDRAWAL_REFUSED,),
        ):
            requested = self._intent(
                self._writer, Verb.WITHDRAWAL_REQUESTED, player, self._draw_minor()
            )
            following = [
                self._intent(
                    self._writer, verb, player, reference=requested.identity, details=_BECAUSE
                )
                for verb in verbs
                if verb in self._writer.says
            ]
            self._add(requested, *following)
            if verbs[0] is Verb.WITHDRAWAL_REFUSED and following:
                self._mirrors.append(Mirror((), requested, following[0]))

    def _check(self, player: str) -> None:
        for verb in _CHECKS:
            if verb in self._writer.says:
                self._add(self._intent(self._writer, verb, player))

    def _report(self, player: str) -> None:
        legs = [
            IntentLeg("INFORMATIONAL", self._draw_minor(), self._currency),
            *(IntentLeg("INFORMATIONAL", 0, self._currency) for _ in range(3)),
        ]
        self._add(self._intent(self._writer, Verb.REPORT_ROW, player, legs=tuple(legs)))

    def _settle_markets(self) -> None:
        for _ in range(_ROUNDS):
            match_id = f"sr:match:{self._rng.randrange(10**7, 10**8)}"
            stays, goes, void = self._draw_markets(match_id)
            settled = self._result(Verb.MARKET_SETTLED, stays, goes)
            self._add(settled)
            if Verb.MARKET_UNSETTLED in self._writer.says:
                self._add(self._result(Verb.MARKET_UNSETTLED, goes))
                once = self._result(Verb.MARKET_SETTLED, stays, goes)
                back = self._result(Verb.MARKET_UNSETTLED, stays, goes)
                self._mirrors.append(Mirror((), once, back))
            if Verb.MARKET_CANCELLED in self._writer.says:
                self._add(self._result(Verb.MARKET_CANCELLED, void))

    def _draw_markets(self, match_id: str) -> Iterator[Market]:
        for market_id, specifiers in (("1", ""), ("18", "total=2.5"), ("16", "hcp=-0.75|map=1")):
            has_won = self._rng.random() < 0.5
            outcomes = (MarketOutcome("12", has_won), MarketOutcome("13", not has_won, "0.5"))
            yield Market(match_id, market_id, specifiers, outcomes)

    def _result(self, verb: Verb, *markets: Market) -> Intent:
        identity = self._identity(self._writer, verb, markets[0].match_id)
        return Intent(verb, identity, markets=markets, at_ms=self._tick())

    def _intent(
        self,
        writer: Writer,
        verb: Verb,
        player: str,
        amount: int | None = None,
        *,
        tx_id: str | None = None,
        campaign: str | None = None,
        legs: tuple[IntentLeg, ...] = (),
        psp: Writer | None = None,
        **more: Any,
    ) -> Intent:
        at_ms = self._tick()
        drawn = tx_id or writer.draw_id(self._ids, verb, at_ms)
        if psp is not None:
            drawn = psp.shape_deposit_id(drawn)
            more["details"] = (("psp", psp.provider),)
        if not legs and verb in KINDS:
            currency = None if amount is None else self._currency
            is_free = campaign is not None and verb in FREE_VERBS
            legs = (IntentLeg(KINDS[verb], amount, currency, is_free, campaign),)
        identity = self._identity(writer, verb, drawn)
        return Intent(verb, identity, player, legs, at_ms=at_ms, **more)

    def _identity(self, writer: Writer, verb: Verb, tx_id: str) -> Identity:
        return (DEFAULT_BRAND, writer.provider, writer.says[verb], tx_id)

    def _tick(self) -> int:
        self._at_ms += STEP_MS
        return self._at_ms

    def _draw_minor(self) -> int:
        """Draw an amount above zero, of which a story has few that are alike."""
        return self._unit_minor * self._rng.randint(1, 10 ** self._rng.randint(1, 4))

    def _add(self, *facts: Intent) -> None:
        self._facts += facts
