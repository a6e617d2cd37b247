"""One seed, one simulation: draw a hostile casino and its misfortunes, let them happen, look at
what is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

from lab.simulator.broker import SimulatedRecord
from lab.simulator.checks import find_failures
from lab.simulator.clock import Deadlock, SimulatedLoop
from lab.simulator.faults import FaultSchedule
from lab.simulator.intents import Intent
from lab.simulator.simulation import SettleTimeout, Simulation
from lab.simulator.traffic import SimulatedTraffic, group_into_records
from lab.simulator.workers import LEDGER, NORMALISE, RESOLVE
from schemas.policies import LedgerPolicy, Treatment

EVENTS_MIN: Final = 500
FAULTS_MIN: Final = 10
_TREATMENTS: Final[tuple[Treatment, ...]] = ("BOOK", "BOOK", "REFUSE")
_PLAY_S: Final = 40.0
_GIVE_UP: Final = 0.03
_SENT_TWICE: Final = 0.03
_HELD_BACK: Final = 0.05


class SeedResult(NamedTuple):
    """What came of one seed: events said, faults that struck, and everything that does not hold."""

    seed: int
    events: int
    faults: int
    failures: list[str]


def simulate(seed: int, trace: Callable[[str], None] = lambda _: None) -> SeedResult:
    """Play one seed. The same seed and the same code do the same, to the last byte."""
    loop = SimulatedLoop()
    try:
        return loop.run_until_complete(_play(seed, trace))
    finally:
        loop.close()


def draw_policies(chance: Random) -> dict[str, LedgerPolicy]:
    """Providers differ in what they ask of the ledger; so do seeds."""

    def policy() -> LedgerPolicy:
        win_without_bet, win_after_rollback, rollback_after_win = (
            chance.choice(_TREATMENTS) for _ in range(3)
        )
        return LedgerPolicy(
            refused_id_reusable=chance.random() < 0.5,
            win_without_bet=win_without_bet,
            win_after_rollback=win_after_rollback,
            rollback_after_win=rollback_after_win,
            # Nobody sweeps here; but it has bets marked that a win has named.
            open_round_max_age_ms=chance.choice((None, None, 1)),
        )

    return {provider: policy() for provider in ("hub88", "hundredhp", "playngo", "house")}


async def _play(seed: int, trace: Callable[[str], None]) -> SeedResult:
    chance = Random(f"pitboss simulate {seed}")
    world = Simulation(chance, draw_policies(chance), trace, partitions=chance.choice((2, 3, 5)))
    blows = FaultSchedule(world, chance)
    for role, size in (
        (NORMALISE, chance.randint(1, 2)),
        (LEDGER, chance.randint(1, 3)),
        (RESOLVE, 1),
    ):
        for _ in range(size):
            world.groups[role].join()
    falling = asyncio.ensure_future(blows.run(_PLAY_S / 35))
    try:
        traffic = SimulatedTraffic(chance)
        await _feed(world, chance, traffic)
        while blows.count < FAULTS_MIN:
            if falling.done():
                falling.result()
            await _feed_some(world, chance, traffic, 20)
        falling.cancel()
        await world.settle()
        wrong = await find_failures(world)
    except (SettleTimeout, Deadlock) as error:
        unexpected = [line for group in world.groups.values() for line in group.unexpected_exits]
        wrong = [*unexpected, f"never settled: {error}"]
    finally:
        falling.cancel()
        await world.close()
    return SeedResult(seed, len(world.intents), blows.count, wrong)


async def _feed(world: Simulation, chance: Random, traffic: SimulatedTraffic) -> None:
    for record in group_into_records(traffic.opening(), chance):
        world.append_intents(record)
    await asyncio.sleep(0.5)
    await _feed_some(world, chance, traffic, EVENTS_MIN - len(world.intents))
    for said in traffic.held_back_intents():
        world.append_intents([said])


async def _feed_some(
    world: Simulation, chance: Random, traffic: SimulatedTraffic, count: int
) -> None:
    """Say about so many things, in bursts, a few of them late, twice, or taken back."""
    until, held_back = len(world.intents) + count, list[list[Intent]]()
    pause_s = _PLAY_S / EVENTS_MIN
    while len(world.intents) < until:
        for record in group_into_records(traffic.step(), chance):
            if chance.random() < _HELD_BACK:
                held_back.append(record)
            else:
                _send(world, chance, world.append_intents(record))
        if held_back and chance.random() < 0.2:
            _send(
                world, chance, world.append_intents(held_back.pop(chance.randrange(len(held_back))))
            )
        if chance.random() < 0.3:
            await asyncio.sleep(chance.expovariate(0.3 / pause_s))
    for record in held_back:
        world.append_intents(record)


def _send(world: Simulation, chance: Random, record: SimulatedRecord) -> None:
    if chance.random() < _SENT_TWICE:
        world.schedule(chance.expovariate(1.0), world.append_again, record)
    if chance.random() < _GIVE_UP:
        # Before the decision, at about the same moment, or long after it.
        world.schedule(chance.choice((0.0, 0.02, 0.1, 1.0, 5.0)), world.append_cancel, record)
