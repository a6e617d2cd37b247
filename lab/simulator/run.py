"""One seed, one simulation: draw a hostile casino and its faults, run them, check the result.

The event loop is here too: its time is simulated, so a simulation never waits for a clock.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from random import Random
from typing import Any, Final, NamedTuple

from lab.simulator.broker import SimulatedRecord
from lab.simulator.bundle import BUNDLE
from lab.simulator.checks import find_failures
from lab.simulator.faults import FaultSchedule
from lab.simulator.intents import SimulatedIntent
from lab.simulator.simulation import SettleTimeout, Simulation
from lab.simulator.traffic import SimulatedTraffic, group_into_records
from lab.simulator.workers import LEDGER, NORMALISE, RESOLVE
from schemas.policies import LedgerPolicy, Placement, Treatment

EVENTS_MIN: Final = 500
FAULTS_MIN: Final = 10
_TREATMENTS: Final[tuple[Treatment, ...]] = ("BOOK", "BOOK", "REFUSE")
_TRAFFIC_S: Final = 40.0
_CANCEL_SHARE: Final = 0.03
_REPEAT_SHARE: Final = 0.03
_DELAY_SHARE: Final = 0.05
_UNBOOKABLE_MAX: Final = 3
"""Events that cannot be booked, besides those among the faults."""


class Deadlock(RuntimeError):
    """Nothing is ready and no timer is set: what the tasks wait for will never come."""


class _TimeJump(selectors.SelectSelector):
    """Selector that moves simulated time to the next timer instead of waiting for sockets."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """Jump to the next timer. Raises Deadlock if there is none."""
        if timeout is None:
            raise Deadlock("nothing is ready and no timer is set")
        self.now_s += max(timeout, 0.0)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Event loop of asyncio with simulated time.

    Tasks run in the order in which they became ready, which does not depend on the machine.
    """

    def __init__(self) -> None:
        self._time_jump = _TimeJump()
        super().__init__(self._time_jump)

    def time(self) -> float:
        """Return the simulated seconds since the loop was made."""
        return self._time_jump.now_s


class SeedResult(NamedTuple):
    """Result of one seed: number of intents, number of faults, and every rule that failed."""

    seed: int
    events: int
    faults: int
    failures: list[str]


def simulate(seed: int, trace: Callable[[str], None] = lambda _: None) -> SeedResult:
    """Run one seed. The same seed and the same code give the same run, to the last byte."""
    loop = SimulatedLoop()
    try:
        return loop.run_until_complete(_simulate(seed, trace))
    finally:
        loop.close()


def draw_policies(rng: Random) -> dict[str, LedgerPolicy]:
    """Draw a ledger policy for each provider of games, for the house and for payments."""

    def policy() -> LedgerPolicy:
        win_without_bet, win_after_rollback, rollback_after_win = (
            rng.choice(_TREATMENTS) for _ in range(3)
        )
        return LedgerPolicy(
            refused_id_reusable=rng.random() < 0.5,
            win_without_bet=win_without_bet,
            win_after_rollback=win_after_rollback,
            rollback_after_win=rollback_after_win,
            # The simulation has no sweep, but an age makes the ledger mark bets that a win names.
            open_round_max_age_ms=rng.choice((None, None, 1)),
        )

    drawn = {provider: policy() for provider in ("hub88", "hundredhp", "playngo", "house", BUNDLE)}
    placement: Placement = rng.choice(("BOOK", "SUSPENSE", "SUSPENSE"))
    return drawn | {"adyen": LedgerPolicy(reversal_beyond_payment=placement)}


async def _simulate(seed: int, trace: Callable[[str], None]) -> SeedResult:
    rng = Random(f"pitboss simulate {seed}")
    simulation = Simulation(rng, draw_policies(rng), trace, partitions=rng.choice((2, 3, 5)))
    faults = FaultSchedule(simulation, rng)
    for role, size in (
        (NORMALISE, rng.randint(1, 2)),
        (LEDGER, rng.randint(1, 3)),
        (RESOLVE, 1),
    ):
        for _ in range(size):
            simulation.groups[role].join()
    injecting = asyncio.ensure_future(faults.run(_TRAFFIC_S / 35))
    try:
        traffic = SimulatedTraffic(rng)
        await _feed(simulation, rng, traffic)
        while faults.count < FAULTS_MIN:
            if injecting.done():
                injecting.result()
            await _feed_some(simulation, rng, traffic, 20)
        injecting.cancel()
        await simulation.settle()
        failures = await find_failures(simulation)
    except (SettleTimeout, Deadlock) as error:
        exits = [line for group in simulation.groups.values() for line in group.unexpected_exits]
        failures = [*exits, f"never settled: {error}"]
    finally:
        injecting.cancel()
        await simulation.close()
    return SeedResult(seed, len(simulation.intents), faults.count, failures)


async def _feed(simulation: Simulation, rng: Random, traffic: SimulatedTraffic) -> None:
    for record in group_into_records(traffic.opening(), rng):
        simulation.append_intents(record)
    await asyncio.sleep(0.5)
    for _ in range(rng.randint(0, _UNBOOKABLE_MAX)):
        simulation.plan(rng.uniform(0, _TRAFFIC_S), simulation.unbookable.append_one)
    await _feed_some(simulation, rng, traffic, EVENTS_MIN - len(simulation.intents))
    for intent in traffic.held_back_intents():
        simulation.append_intents([intent])


async def _feed_some(
    simulation: Simulation, rng: Random, traffic: SimulatedTraffic, count: int
) -> None:
    """Append about `count` intents in bursts, a few of them late, twice, or cancelled."""
    goal, held_back = len(simulation.intents) + count, list[list[SimulatedIntent]]()
    pause_s = _TRAFFIC_S / EVENTS_MIN
    while len(simulation.intents) < goal:
        for record in group_into_records(traffic.step(), rng):
            if rng.random() < _DELAY_SHARE:
                held_back.append(record)
            else:
                _append(simulation, rng, record)
        if held_back and rng.random() < 0.2:
            _append(simulation, rng, held_back.pop(rng.randrange(len(held_back))))
        if rng.random() < 0.3:
            await asyncio.sleep(rng.expovariate(0.3 / pause_s))
    for record in held_back:
        simulation.append_intents(record)


def _append(simulation: Simulation, rng: Random, intents: list[SimulatedIntent]) -> None:
    record: SimulatedRecord = simulation.append_intents(intents)
    if rng.random() < _REPEAT_SHARE:
        simulation.schedule(rng.expovariate(1.0), simulation.append_again, record)
    if rng.random() < _CANCEL_SHARE:
        # Before the decision, at about the same moment, or long after it.
        delay_s = rng.choice((0.0, 0.02, 0.1, 1.0, 5.0))
        simulation.schedule(delay_s, simulation.append_cancel, record)
