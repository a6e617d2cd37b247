"""D13, drift of the return to player: a game pays more or less than its mathematics.

Key: brand, game, version and currency. Once a day, at midnight UTC of event time, the rounds of the
last 30 days are compared with the declared return: z = (payouts - return x stakes) / (sigma x root
of the sum of squared stakes). Only rounds with a stake and a payout of games whose return and sigma
are declared count.

False-positive traps: a volatile game (its own sigma is the measure), few rounds (`rounds`), many
games looked at every day (one look a day, and `hold` only from 4 sigma on), progressive jackpots
and prizes (they are no payouts of a round). It is slow by nature: at sigma 10 a drift of one point
needs nine million rounds for 3 sigma; results that are wrong by themselves are found by D14.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Final

import msgspec

from fraud_agents.detectors.base import RESULT, Finding, KeyedDetector, escape_key
from fraud_agents.features import z_thousandths
from fraud_agents.rules import Limit, Rule, Severity, make_rule
from schemas.events import GameResult
from schemas.topics import GAME_RESULTS

_DAY_MS: Final = 86_400_000
_DAYS: Final = 30

RULE: Final = make_rule(
    "D13",
    "review",
    1,
    "games",
    _DAYS * _DAY_MS,
    title="Drift of the return to player",
    stops_player=False,
    cooldown_ms=31 * _DAY_MS,
    idle_ms=40 * _DAY_MS,
    limits={
        "review": Limit(3_000, "thousandths of a sigma", "our default", "above"),
        "hold": Limit(4_000, "thousandths of a sigma", "our default", "above"),
        "rounds": Limit(500, "rounds", "ours: the sum of fewer is not near normal"),
    },
    words={"games": ["wheel-1/1 9600 150", "dice-1/1 9900 100"]},
    reason=(
        "Great Britain asks for live monitoring, with a tolerance from the game's volatility, and "
        "names a daily measurement over the last 30 days as one way. The words give for each game "
        "and version its return in ten-thousandths and its sigma for one unit of stake in "
        "hundredths."
    ),
)


class DaySums(msgspec.Struct, array_like=True):
    """Rounds of one day."""

    rounds: int = 0
    staked: int = 0
    paid: int = 0
    squares: int = 0
    first_offset: int = 0
    last_offset: int = 0


class DriftState(msgspec.Struct, array_like=True):
    """Days of one game, by their number since the epoch."""

    days: dict[int, DaySums] = {}
    due_day: int = 0
    last_id: str = ""


class RtpDrift(KeyedDetector[DriftState]):
    """D13 over one partition of the game results."""

    kinds: ClassVar[frozenset[str] | None] = frozenset({RESULT})
    topic: ClassVar[str] = GAME_RESULTS
    state_type = DriftState

    def __init__(self, rule: Rule, partition: int) -> None:
        super().__init__(rule, partition)
        rows = (line.split(" ") for line in rule.words["games"])
        self._games = {name: (int(rtp), int(sigma)) for name, rtp, sigma in rows}

    def key_of(self, event: GameResult) -> str | None:
        """Return game, version and currency; None for rounds that cannot be compared."""
        name = f"{event.game_id}/{event.game_version}"
        if name not in self._games or not event.stake_minor or event.payout_minor is None:
            return None
        return escape_key(event.brand, name, event.currency or "")

    def find(self, state: DriftState, event: GameResult, offset: int) -> Iterator[Finding]:
        """Add up a round, and have the game looked at when its day is over."""
        assert event.stake_minor is not None
        assert event.payout_minor is not None
        day = event.occurred_at // _DAY_MS
        sums = state.days.setdefault(day, DaySums(first_offset=offset))
        sums.rounds += 1
        sums.staked += event.stake_minor
        sums.paid += event.payout_minor
        sums.squares += event.stake_minor**2
        sums.last_offset = offset
        state.last_id = event.event_id
        if day > state.due_day:
            state.due_day = day
            self.schedule(self.key, str(day), (day + 1) * _DAY_MS + self.rule.grace_ms)
        return iter(())

    def find_due(self, key: str, state: DriftState, tag: str, due_ms: int) -> Iterator[Finding]:
        """Compare the last 30 days with the game's mathematics."""
        last_day = int(tag)
        for day in [one for one in state.days if one <= last_day - _DAYS]:
            del state.days[day]
        own = [sums for day, sums in sorted(state.days.items()) if day <= last_day]
        rounds, staked = sum(one.rounds for one in own), sum(one.staked for one in own)
        paid, squares = sum(one.paid for one in own), sum(one.squares for one in own)
        _, name, currency = key.split(":")
        rtp, sigma = self._games[name]
        # All in ten-thousandths of a minor unit; sigma is in hundredths.
        z = z_thousandths(10_000 * paid, rtp * staked, (100 * sigma) ** 2 * squares)
        if rounds < self.rule.limit("rounds") or abs(z) <= self.rule.limit("review"):
            return
        severity: Severity = "hold" if abs(z) > self.rule.limit("hold") else "review"
        yield Finding(
            reason="PAYS_MORE" if z > 0 else "PAYS_LESS",
            severity=severity,
            title=f"{name} returns {10_000 * paid // staked / 100} %, declared {rtp / 100} %",
            player_id=None,
            at_ms=due_ms,
            window=((last_day - _DAYS + 1) * _DAY_MS, (last_day + 1) * _DAY_MS),
            observed=abs(z),
            threshold=self.rule.limit("review"),
            unit="thousandths of a sigma",
            offsets=[own[0].first_offset, own[-1].last_offset],
            event_ids=[state.last_id],
            evidence={
                "rounds": str(rounds),
                "drift_ten_thousandths": str(10_000 * paid // staked - rtp),
                "z_thousandths": str(z),
                "sigma_hundredths": str(sigma),
            },
            exposed_minor=max(0, paid - rtp * staked // 10_000),
            currency=currency,
        )
