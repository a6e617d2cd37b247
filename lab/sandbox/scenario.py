"""Scenarios: the same few numbers and keys make the same records, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from random import Random
from typing import Final

import msgspec

from lab.conformance.intents import Intent, Verb
from lab.conformance.writers.find import find_writers
from lab.conformance.writers.ids import Ids
from lab.conformance.writers.writer import Writer
from lab.sandbox.actions import (
    ADYEN,
    HOUSE,
    PROVIDERS,
    Delivery,
    IntentRequest,
    PoisonAction,
    Request,
)
from lab.sandbox.agenda import Agenda
from lab.sandbox.cashier import Cashier, batch_intents
from lab.sandbox.casino import (
    BURST_BETS,
    BURST_MS,
    WIN_EVERY,
    Casino,
    funds_needed_minor,
    game_writers,
    plan_burst,
)
from lab.sandbox.feeds import Feeds
from lab.sandbox.keys import SandboxKeys
from lab.sandbox.mixing import add_duplicates, displace, draw_retries, sort_by_time
from lab.sandbox.players import make_players
from lab.sandbox.poison import CATALOGUE
from lab.sandbox.records import PHASE_DEPOSITS, PHASE_PLAY, Origin, RawEvent
from lab.sandbox.seats import Seat, can_serve
from lab.sandbox.writing import ReportProgress, write_all
from schemas.errors import UsageError

EVENTS_PER_PLAYER: Final = 50
OPENING_MS: Final = 30_000
NOTICES_MS: Final = 30_000
PLAY_AFTER_MS: Final = 80_000
"""Play begins this long after the scenario: first deposits are opened, then authorised, then sent
again if at all.
"""
ARRIVALS_MS: Final = 15_000
SPEEDING_AFTER_MS: Final = (10_000, 20_000)
BLOCK_AFTER_MS: Final = (20_000, 30_000)
REVERSALS_AFTER_MS: Final = (30_000, 70_000)

_DUPLICATES_OF_RETRIES: Final = (
    5  # every fifth redelivery repeats the bytes, the others only the content
)
_RECORDS_OF_A_BURST: Final = BURST_BETS + BURST_BETS // WIN_EVERY


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of a scenario.

    `events` is the number of raw records of all kinds: first sendings, retries,
    duplicates, poison, speeding. A batch of notices is one record.

    `players` does not count the speeders; without it there is one for each fifty events, which
    makes about two minutes of play. `start_ms` is the epoch time of the first deposit: choose it
    with `duration_ms`, so that the traffic ends before now. `retry_share` and `reorder_share` are
    shares of all records.

    `providers` send it, each what its writer knows. The casino's cashier opens every deposit and a
    payment provider confirms it, so `house` and, where no other fits, `adyen` always take part.

    Ids come from `seed`, `events`, the number of players and the providers together: the same
    scenario fed again later repeats its transactions, and two different scenarios never meet in one
    id. Raises UsageError for numbers that do not fit, or a provider without a writer.
    """

    seed: int
    start_ms: int
    events: int = 20_000
    players: int | None = None
    retry_share: float = 0.01
    reorder_share: float = 0.01
    poison: int = 5
    speeders: int = 1
    providers: tuple[str, ...] = PROVIDERS

    def __post_init__(self) -> None:
        if min(self.seed, self.start_ms, self.poison, self.speeders) < 0:
            raise UsageError("seed, start, poison and speeders are numbers from 0 upward")
        if not (0 <= self.retry_share <= 0.5 and 0 <= self.reorder_share <= 0.5):
            raise UsageError("the shares of retries and of reordered records lie between 0 and 0.5")
        if self.player_count < 1:
            raise UsageError("a scenario needs a player")
        if self.play_count_min < self.player_count:
            speeders = (
                f" and {self.speeders} speeders ({_RECORDS_OF_A_BURST} events each)"
                if self.speeders
                else ""
            )
            raise UsageError(
                f"{self.events} events are too few for {self.player_count} players{speeders},"
                f" with {self.poison} unusable ones: ask for more events, or for fewer of them"
            )

    @property
    def writers(self) -> dict[str, Writer]:
        """The writers of all providers that send something."""
        writers = find_writers((*self.providers, HOUSE))
        payers = [writer for writer in writers.values() if Verb.DEPOSIT in writer.says]
        if any(writer.decimals_max is None for writer in payers):
            return writers
        return writers | find_writers((ADYEN,))

    @property
    def player_count(self) -> int:
        """Number of players besides the speeders."""
        return max(1, self.events // EVENTS_PER_PLAYER) if self.players is None else self.players

    @property
    def redelivered_count(self) -> int:
        """Number of retries and exact duplicates together."""
        return round(self.events * self.retry_share)

    @property
    def play_count_min(self) -> int:
        """Records that are left for play if every first deposit's notice travels alone."""
        deposits = 2 * (self.player_count + self.speeders)
        return (
            self.events
            - deposits
            - self.redelivered_count
            - self.poison
            - self.speeders * _RECORDS_OF_A_BURST
        )


def generate(
    scenario: Scenario, keys: SandboxKeys, progress: ReportProgress | None = None
) -> list[RawEvent]:
    """Generate all raw records in the order in which to feed them, `scenario.events` of them."""
    return write_all(deliveries_of(scenario), keys, progress)


def duration_ms(scenario: Scenario) -> int:
    """Return the time from the scenario's start to its last record.

    It plays the scenario without writing and signing.
    """
    return max(delivery.at_ms for delivery in deliveries_of(scenario)) - scenario.start_ms


def deliveries_of(scenario: Scenario) -> list[Delivery]:
    """Play the scenario up to, but without, writing it in bytes."""
    seed = f"pitboss sandbox {scenario.seed} {scenario.events} {scenario.player_count}"
    if scenario.providers != PROVIDERS:
        seed = f"{seed} {','.join(scenario.providers)}"
    rng = Random(seed)
    play = _Play(scenario, rng)
    deposits = [play.deliver(PHASE_DEPOSITS, request) for request in play.first_deposits()]
    bursts = [play.deliver(PHASE_PLAY, request) for request in play.bursts()]
    poison = [play.deliver(PHASE_PLAY, request, Origin.POISON) for request in play.poison()]
    rest = scenario.events - len(deposits) - len(bursts) - len(poison) - scenario.redelivered_count
    rounds = [play.deliver(PHASE_PLAY, request) for request in islice(play.rounds(), rest)]
    duplicates = scenario.redelivered_count // _DUPLICATES_OF_RETRIES
    first = sort_by_time([*deposits, *bursts, *poison, *rounds])
    batching = {name for name, writer in play.writers.items() if writer.batch_max > 1}
    again = draw_retries(first, scenario.redelivered_count - duplicates, rng, batching)
    stream = add_duplicates(sort_by_time([*first, *again]), duplicates, rng)
    return displace(stream, round(scenario.events * scenario.reorder_share), rng)


class _Play:
    """The cast of one scenario and its actions.

    All methods draw from one generator, so the order of their calls counts.
    """

    def __init__(self, scenario: Scenario, rng: Random) -> None:
        self._scenario = scenario
        self._rng = rng
        self._ids = Ids(rng)
        self._agenda = Agenda()
        self.writers = scenario.writers
        self._cashier = Cashier(self._agenda, rng, self._ids, self.writers)
        self._casino = Casino(self._agenda, rng, self._ids, self._cashier, self.writers)
        self._feeds = Feeds(self._agenda, rng, self._ids, self.writers)
        seats = [
            Seat(player) for player in make_players(rng, scenario.player_count + scenario.speeders)
        ]
        self._speeders, self._seats = seats[: scenario.speeders], seats[scenario.speeders :]
        self._play_ms = scenario.start_ms + PLAY_AFTER_MS

    def deliver(self, phase: int, request: Request, origin: Origin = Origin.FIRST) -> Delivery:
        return Delivery(request, request.at_ms, phase, self._rng.getrandbits(128), origin)

    def first_deposits(self) -> Iterator[Request]:
        """Every player's deposit, opened and then authorised.

        A speeder's is enough for the burst, the others' are of the usual size.
        """
        intents: list[Intent] = []
        for seat in (*self._speeders, *self._seats):
            speeds = seat in self._speeders
            amount = (
                funds_needed_minor(seat)
                if speeds
                else self._rng.choice(seat.player.purse.deposits_minor)
            )
            intents += self._cashier.first_deposit(
                seat,
                amount,
                opened_at_ms=self._scenario.start_ms + self._rng.randrange(OPENING_MS),
                settled_at_ms=self._scenario.start_ms
                + OPENING_MS
                + self._rng.randrange(NOTICES_MS),
                may_be_reversed=not speeds,
            )
        intents.sort(key=lambda intent: intent.at_ms)
        return batch_intents(intents, self._rng, self.writers)

    def bursts(self) -> Iterator[Request]:
        for number, seat in enumerate(self._speeders):
            hosts = [host for host in game_writers(self.writers) if can_serve(host, seat.player)]
            if not hosts:
                raise UsageError(
                    f"no provider of {', '.join(self.writers)} has games in {seat.player.currency}"
                    " for an account that speeds: add one, or ask for no speeders"
                )
            start_ms = self._play_ms + self._rng.randint(*SPEEDING_AFTER_MS)
            host = hosts[number % len(hosts)]
            burst = plan_burst(seat, host, start_ms, self._rng, self._ids, self.writers)
            for intent in burst:
                yield IntentRequest(intent.at_ms, (intent,))

    def poison(self) -> Iterator[PoisonAction]:
        kinds = [
            number for number, (_, sender, _) in enumerate(CATALOGUE) if sender in self.writers
        ]
        for number in range(self._scenario.poison):
            at_ms = self._play_ms + self._rng.randrange(BURST_MS)
            player = self._rng.choice(self._seats).player
            yield PoisonAction(at_ms, kinds[number % len(kinds)], player)

    def rounds(self) -> Iterator[Request]:
        """Play without end, and what the back office does meanwhile."""
        for seat in self._seats:
            arrival_ms = self._play_ms + self._rng.randrange(ARRIVALS_MS)
            self._agenda.plan(arrival_ms, partial(self._casino.sit_down, seat))
        watched = self._rng.choice(self._seats)
        self._agenda.plan(self._in(BLOCK_AFTER_MS), partial(self._casino.block, watched))
        self._agenda.plan(self._in(REVERSALS_AFTER_MS), self._cashier.charge_back)
        self._agenda.plan(self._in(REVERSALS_AFTER_MS), self._cashier.refuse_refund)
        for _ in range(max(1, len(self._seats) // 100)):
            self._agenda.plan(self._in(REVERSALS_AFTER_MS), self._cashier.refund)
        self._feeds.begin(self._seats, self._play_ms)
        return batch_intents(self._agenda.run(), self._rng, self.writers)

    def _in(self, window_ms: tuple[int, int]) -> int:
        return self._play_ms + self._rng.randint(*window_ms)
