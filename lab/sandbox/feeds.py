"""What moves no wallet money: results of matches, identity checks, reports to a regulator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Final

from lab.conformance.intents import (
    DEFAULT_BRAND,
    KINDS,
    Intent,
    IntentLeg,
    Market,
    MarketOutcome,
    Verb,
)
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import Writer
from lab.sandbox.agenda import Agenda
from lab.sandbox.seats import Seat, can_serve, make_intent

MATCHES: Final = 3  # live at a time, for each feed
ODDS_EVERY_MS: Final = (2_000, 6_000)
ALIVE_EVERY_MS: Final = 10_000
MATCH_MS: Final = (15_000, 40_000)
UNSETTLED_SHARE: Final = 0.2  # of settlements
CANCELLED_SHARE: Final = 0.15  # of matches

CHECK_SHARE: Final = 0.1  # of players
CHECK_STEP_MS: Final = (2_000, 8_000)
CHECK_FAILED_SHARE: Final = 0.3
CHECK_REJECTED_SHARE: Final = 0.05

REPORT_EVERY_MS: Final = 30_000
REPORT_PLAYERS: Final = 5

_BEGIN_WITHIN_MS: Final = 5_000


class Feeds:
    """Plays everything beside the tables, for the providers that know such messages."""

    def __init__(
        self, agenda: Agenda, rng: Random, ids: Ids, writers: Mapping[str, Writer]
    ) -> None:
        self._agenda = agenda
        self._rng = rng
        self._ids = ids
        self._writers = writers.values()

    def begin(self, seats: Sequence[Seat], at_ms: int) -> None:
        """Plan the first step of every story."""
        for writer in self._writers:
            if Verb.MARKET_SETTLED in writer.says:
                for _ in range(MATCHES):
                    self._plan(at_ms, (0, _BEGIN_WITHIN_MS), partial(self._begin_match, writer))
            if Verb.FEED_ALIVE in writer.says:
                self._plan(at_ms, (0, 0), partial(self._stay_alive, writer))
            if Verb.CHECK_PASSED in writer.says:
                for seat in seats[: max(1, round(CHECK_SHARE * len(seats)))]:
                    begin = partial(self._step_check, writer, seat, Verb.CHECK_STARTED)
                    self._plan(at_ms, (0, _BEGIN_WITHIN_MS), begin)
            if Verb.REPORT_ROW in writer.says:
                report = partial(self._report, writer, seats)
                self._plan(at_ms, (0, _BEGIN_WITHIN_MS), report)

    def _plan(self, at_ms: int, after_ms: tuple[int, int], step: partial[Iterable[Intent]]) -> None:
        self._agenda.plan(at_ms + self._rng.randint(*after_ms), step)

    # Matches.

    def _begin_match(self, writer: Writer, at_ms: int) -> Iterable[Intent]:
        match_id = f"sr:match:{self._rng.randrange(10**7, 10**8)}"
        markets = self._draw_markets(match_id)
        end_ms = at_ms + self._rng.randint(*MATCH_MS)
        self._agenda.plan(end_ms, partial(self._end_match, writer, markets))
        yield from self._change_odds(writer, markets, end_ms, at_ms)

    def _draw_markets(self, match_id: str) -> tuple[Market, ...]:
        total = f"total={self._rng.randint(1, 4)}.5"
        has_home_won, is_over = self._rng.random() < 0.5, self._rng.random() < 0.5
        winners = (MarketOutcome("1", has_home_won), MarketOutcome("3", not has_home_won))
        totals = (MarketOutcome("12", is_over), MarketOutcome("13", not is_over))
        handicap = (MarketOutcome("1714", True, "0.5"), MarketOutcome("1715", False, "0.5"))
        return (
            Market(match_id, "1", "", winners),
            Market(match_id, "18", total, totals),
            Market(match_id, "16", "hcp=-0.75", handicap),
        )

    def _change_odds(
        self, writer: Writer, markets: tuple[Market, ...], end_ms: int, at_ms: int
    ) -> Iterable[Intent]:
        if Verb.ODDS_CHANGED not in writer.says:
            return
        next_ms = at_ms + self._rng.randint(*ODDS_EVERY_MS)
        if next_ms < end_ms:
            step = partial(self._change_odds, writer, markets, end_ms)
            self._agenda.plan(next_ms, step)
        yield self._result(writer, Verb.ODDS_CHANGED, markets, at_ms)

    def _end_match(
        self, writer: Writer, markets: tuple[Market, ...], at_ms: int
    ) -> Iterable[Intent]:
        self._plan(at_ms, ODDS_EVERY_MS, partial(self._begin_match, writer))
        if Verb.MARKET_CANCELLED in writer.says and self._rng.random() < CANCELLED_SHARE:
            yield self._result(writer, Verb.MARKET_CANCELLED, markets[:1], at_ms)
            markets = markets[1:]
        if Verb.MARKET_UNSETTLED in writer.says and self._rng.random() < UNSETTLED_SHARE:
            self._plan(at_ms, CHECK_STEP_MS, partial(self._unsettle, writer, markets))
        yield self._result(writer, Verb.MARKET_SETTLED, markets, at_ms)

    def _unsettle(
        self, writer: Writer, markets: tuple[Market, ...], at_ms: int
    ) -> Iterable[Intent]:
        yield self._result(writer, Verb.MARKET_UNSETTLED, markets, at_ms)

    def _stay_alive(self, writer: Writer, at_ms: int) -> Iterable[Intent]:
        self._plan(at_ms, (ALIVE_EVERY_MS, ALIVE_EVERY_MS), partial(self._stay_alive, writer))
        yield self._result(writer, Verb.FEED_ALIVE, (), at_ms)

    def _result(
        self, writer: Writer, verb: Verb, markets: tuple[Market, ...], at_ms: int
    ) -> Intent:
        about = markets[0].match_id if markets else self._ids.uuid()
        identity = (DEFAULT_BRAND, writer.provider, writer.says[verb], about)
        legs = (IntentLeg(KINDS[verb]),) if verb in KINDS else ()
        return Intent(verb, identity, legs=legs, markets=markets, at_ms=at_ms)

    # Identity checks.

    def _step_check(self, writer: Writer, seat: Seat, verb: Verb, at_ms: int) -> Iterable[Intent]:
        following = self._following_check(seat, verb)
        if following is not None and following in writer.says:
            step = partial(self._step_check, writer, seat, following)
            self._plan(at_ms, CHECK_STEP_MS, step)
        if verb in writer.says:
            tx_id = writer.draw_id(self._ids, verb, at_ms)
            yield make_intent(writer, verb, seat.player, tx_id, at_ms)

    def _following_check(self, seat: Seat, verb: Verb) -> Verb | None:
        if verb in {Verb.CHECK_STARTED, Verb.CHECK_FAILED}:
            return Verb.CHECK_PENDING
        if verb is not Verb.CHECK_PENDING:
            return None
        draw = self._rng.random()
        if draw < CHECK_REJECTED_SHARE:
            seat.is_blocked = True
            return Verb.CHECK_REJECTED
        is_failed = draw < CHECK_REJECTED_SHARE + CHECK_FAILED_SHARE
        return Verb.CHECK_FAILED if is_failed else Verb.CHECK_PASSED

    # Reports.

    def _report(self, writer: Writer, seats: Sequence[Seat], at_ms: int) -> Iterable[Intent]:
        self._plan(at_ms, (REPORT_EVERY_MS, REPORT_EVERY_MS), partial(self._report, writer, seats))
        served = [seat for seat in seats if can_serve(writer, seat.player)]
        for seat in self._rng.sample(served, min(REPORT_PLAYERS, len(served))):
            player = seat.player
            staked = self._rng.randrange(1, 500) * player.purse.stakes_minor[0]
            amounts = (staked, max(0, seat.funds_minor), 0, 0)
            yield make_intent(
                writer,
                Verb.REPORT_ROW,
                player,
                writer.draw_id(self._ids, Verb.REPORT_ROW, at_ms),
                at_ms,
                legs=tuple(IntentLeg("INFORMATIONAL", each, player.currency) for each in amounts),
            )
