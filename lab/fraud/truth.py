"""Ground truth: what was injected, what only looks like it, and who it is about."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec

from lab.fraud.story import PlayerStory, Stream

EDGE_SHARE: Final = 0.05
"""A case at the edge, and a near-miss, lie within this share of the number that decides."""


class Level(StrEnum):
    """How far a case is from the number of its definition."""

    OVER = "OVER"
    EDGE = "EDGE"
    NEAR = "NEAR"


class Truth(msgspec.Struct, kw_only=True):
    """One injected case, near-miss or hard negative.

    `severity` is the least that the alert must have, `severity_max` the most that it may have; a
    near-miss has neither and must be silent. `complete_ms` is the event time at which the
    definition is met.
    """

    number: int
    detector: str
    name: str
    level: Level
    players: list[str]
    severity: str | None
    severity_max: str = "block"
    complete_ms: int = 0
    also: list[str] = []
    """Detectors for which the players of this case are a case, too, neither counted for nor against
    them."""
    keys: list[str] = []
    """Keys other than players, such as games, that its alert may name instead."""


class CaseWriter:
    """What a case needs: the stream, a time, and the number at the right side of the border."""

    def __init__(self, stream: Stream, level: Level, start_ms: int, truth: Truth) -> None:
        self.stream = stream
        self.rng = stream.rng
        self.level = level
        self.at_ms = start_ms
        self.truth = truth

    def player(self, region: str = "MT", **more: str) -> PlayerStory:
        """Return a new player who is part of the case."""
        story = PlayerStory(self.stream, region, **more)
        self.truth.players.append(story.player_id)
        return story

    def above(self, limit: int, *, inclusive: bool = True, far: float = 2.0) -> int:
        """Return a number for the level of a definition that is met at `limit`, or above it.

        At the level NEAR it is within 5 % on the other side.
        """
        first = limit if inclusive else limit + 1
        if self.level is Level.NEAR:
            return self.rng.randint(round(limit * (1 - EDGE_SHARE)), first - 1)
        last = round(limit * (1 + EDGE_SHARE))
        if self.level is Level.EDGE:
            return self.rng.randint(first, max(first, last))
        return self.rng.randint(max(first, last), max(first, round(limit * far)))

    def below(self, limit: int, *, far: float = 0.3) -> int:
        """Return a number for the level of a definition that is met below `limit`."""
        if self.level is Level.NEAR:
            return self.rng.randint(limit, round(limit * (1 + EDGE_SHARE)))
        first = round(limit * (1 - EDGE_SHARE))
        if self.level is Level.EDGE:
            return self.rng.randint(first, limit - 1)
        return self.rng.randint(round(limit * far), first)

    def complete(self, at_ms: int) -> None:
        """Say when the definition is met."""
        self.truth.complete_ms = at_ms


class CaseType(msgspec.Struct, frozen=True):
    """A way to meet a detector's definition, at the levels that it has.

    One with the level NEAR alone is a trap: what the definition warns of.
    """

    detector: str
    name: str
    write: Callable[[CaseWriter], None]
    severity: str = "review"
    levels: tuple[Level, ...] = (Level.OVER, Level.EDGE, Level.NEAR)
    near_severity_max: str | None = None
    """Where a near-miss of this number still meets a milder condition: its severity."""
