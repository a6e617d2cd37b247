"""Which blows there are, where they may fall, and a schedule of them drawn from the seed."""

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
        **dict.fromkeys(_commits("store", "publisher", "claim"), _DATABASE),
        **dict.fromkeys(
            (
                f"ledger.{name}"
                for name in (
                    "lock_positions",
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
"""By role: every point that its process reaches, and what may happen there."""

_ROLES: Final = (LEDGER, LEDGER, LEDGER, LEDGER, RESOLVE, NORMALISE, NORMALISE)
# Most blows fall where it hurts most: around the COMMIT and between it and what is sent.
_SORE: Final = (
    *("store commit", "store committed", "store committed", "claim committed", "positions.claim"),
    *(
        f"send {OUTCOMES}",
        f"sending {BALANCES}",
        "resolver committed",
        f"send {TRANSACTIONS}",
        "fetched",
    ),
)


class FaultSchedule:
    """Falls upon a world until enough have fallen."""

    def __init__(self, world: Simulation, chance: Random) -> None:
        self._world = world
        self._chance = chance
        self.environment_faults: list[str] = []

    @property
    def count(self) -> int:
        """How many have fallen."""
        return len(self.environment_faults) + len(self._world.injected_faults)

    async def run(self, every_s: float) -> None:
        """Strike for ever, about so often."""
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / every_s))
            if self._chance.random() < 0.75:
                self._strike()
            else:
                await self._shake()

    def _strike(self) -> None:
        role = self._chance.choice(_ROLES)
        points = FAULT_POINTS[role]
        sore = [point for point in _SORE if point in points] or list(points)
        point = self._chance.choice(sore if self._chance.random() < 0.5 else list(points))
        blow = self._chance.choice(points[point])
        self._world.arm(role, point, blow, self._chance.choice((0.5, 5.0, 15.0, 35.0)))

    async def _shake(self) -> None:
        world = self._world
        what = self._chance.choice(
            ("rebalance", "join", "leave", "database away", "clock set back")
        )
        self.environment_faults.append(what)
        world.trace(what)
        group = world.groups[self._chance.choice(_ROLES)]
        if what == "rebalance":
            group.rebalance()
        elif what == "join" and group.size < 3:
            group.join()
        elif what == "leave":
            group.leave()
        elif what == "clock set back":
            world.clock_ms -= self._chance.choice((1, 5_000, 3_600_000))
        elif what == "database away":
            world.server.is_away = True
            await asyncio.sleep(self._chance.choice((0.1, 1.0, 5.0)))
            world.server.is_away = False
