"""What the oracle remembers: players and their money, what was decided about each thing, what has ended it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from lab.simulator.intents import Identity, Place, Said
from schemas.policies import DEFAULT_POLICY, LedgerPolicy

CASH, BONUS, HELD = "cash", "bonus", "held"

Verdict = tuple[str, str]
"""Outcome and reason."""

Moved = tuple[str, str, str, int, int]
"""Currency, from, to, amount in minor units, version of the wallet after it."""


class Told(NamedTuple):
    """An answer: outcome, reason, and what the player could bet in each currency right after it."""

    outcome: str
    reason: str
    available: Mapping[str, int] = {}


class Decision(NamedTuple):
    """What was decided about something, and what it moved."""

    player: str | None
    said: Said
    place: Place
    told: Told
    moved: list[Moved]


class Memory:
    """Everything that an answer may depend on."""

    def __init__(self, policies: Mapping[str, LedgerPolicy]) -> None:
        self.policies = policies
        self.money: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: {CASH: 0, BONUS: 0, HELD: 0})
        self.versions: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.house: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.standings: dict[tuple[str, str], tuple[int, str]] = {}
        self.limits: dict[tuple[str, str], tuple[int, int | None]] = {}
        self.wagering: dict[tuple[str, str], tuple[int, int]] = {}
        self.told: dict[tuple[Identity, Place], Told] = {}
        self.decided: dict[Identity, list[Decision]] = {}
        self.closed: dict[tuple[Identity, str | None], str] = {}

    def policy(self, said: Said) -> LedgerPolicy:
        """How this provider wants it."""
        return self.policies.get(said.provider, DEFAULT_POLICY)

    def seen(self, identity: Identity | None, player: str | None) -> list[Decision]:
        """How something of this player was decided, oldest first."""
        return (
            [decision for decision in self.decided.get(identity, []) if decision.player == player] if identity else []
        )

    def booked(self, identity: Identity | None, player: str | None) -> Decision | None:
        """Its last decision, if that was POSTED."""
        seen = self.seen(identity, player)
        return seen[-1] if seen and seen[-1].told.outcome == "POSTED" else None

    def closed_as(self, identity: Identity | None, player: str | None) -> str | None:
        """How something of this player was ended, or before anybody knew whose it would be."""
        if identity is None:
            return None
        own, of_nobody = self.closed.get((identity, player)), self.closed.get((identity, None))
        return of_nobody or own if own == "SETTLED" else own or of_nobody
