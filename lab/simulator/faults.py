"""The points at which faults can be injected, and a schedule drawn from the seed."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Final

from lab.simulator.process import FaultKind
from lab.simulator.simulation import Simulation
from lab.simulator.workers import LEDGER, NORMALISE, RESOLVE
from schemas.topics import BALANCES, OUTCOMES, TRANSACTIONS, UNRESOLVED

_DATABASE: Final = (FaultKind.KILL, FaultKind.CUT, FaultKind.FREEZE)
_SEND: Final = (FaultKind.KILL, FaultKind.FAIL, FaultKind.FREEZE)
_PROCESS: Final = (FaultKind.KILL, FaultKind.FREEZE)


def _sends(*topics: str) -> list[str]:
    return [f"{verb} {topic}" for verb in ("send", "sending", "sent") for topic in topics]


def _commits(*databases: str) -> list[str]:
    return [
        f"{database} {what}"
        for what in ("connect", "commit", "committed")
        for database in databases
    ]


FAULT_POINTS: Final[dict[str, dict[str, tuple[FaultKind, ...]]]] = {
    NORMALISE: {
        "fetched": _PROCESS,
        **dict.fromkeys(_sends(TRANSACTIONS, UNRESOLVED), _SEND),
        "commit offsets": _PROCESS,
    },
    LEDGER: {
        "fetched": _PROCESS,
        "read on": _PROCESS,
        **dict.fromkeys(_commits("store", "publisher", "claim"), _DATABASE),
        **dict.fromkeys(
            (
                f"ledger.{name}"
                for name in (
                    "lock_positions",
                    "demand_positions",
                    "demand_unknown",
                    "write_unread",
                    "known_entries",
                    "known_wallets",
                    "copy_entries",
                    "copy_transfers",
                    "copy_entries copied",
                    "insert_entries",
                    "insert_transfers",
                    "upsert_wallets",
                    "insert_batches",
                    "advance_positions",
                )
            ),
            _DATABASE,
        ),
        **dict.fromkeys(_sends(OUTCOMES, BALANCES), _SEND),
        "positions.claim": _DATABASE,
        "positions.outcomes_between": _DATABASE,
        "positions.published": _DATABASE,
        "commit offsets": _PROCESS,
    },
    RESOLVE: {
        "fetched": _PROCESS,
        **dict.fromkeys(
            (
                f"resolver.{name}"
                for name in (
                    "park",
                    "match",
                    "raise_barrier",
                    "set_log_ends",
                    "finalise",
                    "unappended",
                    "appended",
                )
            ),
            _DATABASE,
        ),
        **dict.fromkeys(_commits("resolver"), _DATABASE),
        **dict.fromkeys(_sends(TRANSACTIONS), _SEND),
        "positions.claim": _DATABASE,
        "commit offsets": _PROCESS,
    },
}
"""By role: every point that its process reaches, and the faults that may happen there."""

_ROLES: Final = (LEDGER, LEDGER, LEDGER, LEDGER, RESOLVE, NORMALISE, NORMALISE)
# Half of the faults of processes happen where the most can be lost: around COMMIT, and between
# it and the sends.
_CRITICAL_POINTS: Final = (
    *("store commit", "store committed", "store committed", "claim committed", "positions.claim"),
    *(
        f"send {OUTCOMES}",
        f"sending {BALANCES}",
        "resolver committed",
        f"send {TRANSACTIONS}",
        "fetched",
    ),
)


_DISTURBANCES: Final = (
    *("rebalance", "join", "leave", "database away", "clock set back"),
    *("unbookable event", "unbookable event", "quarantine in vain"),
)


class FaultSchedule:
    """Injects faults into a simulation at random times until it is cancelled."""

    def __init__(self, simulation: Simulation, rng: Random) -> None:
        self._simulation = simulation
        self._rng = rng
        self.environment_faults: list[str] = []

    @property
    def count(self) -> int:
        """Number of faults that have happened."""
        return len(self.environment_faults) + len(self._simulation.injected_faults)

    async def run(self, every_s: float) -> None:
        """Inject a fault about every `every_s` seconds, for ever."""
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / every_s))
            if self._rng.random() < 0.75:
                self._arm_process()
            else:
                await self._disturb_environment()

    def _arm_process(self) -> None:
        role = self._rng.choice(_ROLES)
        points = FAULT_POINTS[role]
        critical = [point for point in _CRITICAL_POINTS if point in points] or list(points)
        point = self._rng.choice(critical if self._rng.random() < 0.5 else list(points))
        fault = self._rng.choice(points[point])
        self._simulation.arm(role, point, fault, self._rng.choice((0.5, 5.0, 15.0, 35.0)))

    async def _disturb_environment(self) -> None:
        simulation = self._simulation
        what = self._rng.choice(_DISTURBANCES)
        self.environment_faults.append(what)
        simulation.trace(what)
        group = simulation.groups[self._rng.choice(_ROLES)]
        if what == "rebalance":
            group.rebalance()
        elif what == "join" and group.size < 3:
            group.join()
        elif what == "leave":
            group.leave()
        elif what == "unbookable event":
            simulation.unbookable.append_one()
        elif what == "quarantine in vain":
            simulation.unbookable.append_vain_steps()
        elif what == "clock set back":
            simulation.clock_ms -= self._rng.choice((1, 5_000, 3_600_000))
        elif what == "database away":
            simulation.server.is_away = True
            await asyncio.sleep(self._rng.choice((0.1, 1.0, 5.0)))
            simulation.server.is_away = False
