"""What the oracle remembers: players and their money, what was decided about each thing, what has
ended it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from lab.simulator.intents import AttemptKey, Identity, Intent
from schemas.policies import DEFAULT_POLICY, LedgerPolicy

CASH, BONUS, HELD = "cash", "bonus", "held"

Verdict = tuple[str, str]
"""Outcome and reason."""

Movement = tuple[str, str, str, int, int]
"""Currency, from, to, amount in minor units, version of the wallet after it."""


class OracleAnswer(NamedTuple):
    """An answer: outcome, reason, and what the player could bet in each currency right after it."""

    outcome: str
    reason: str
    available: Mapping[str, int] = {}


class OracleDecision(NamedTuple):
    """What was decided about something, and what it moved."""

    player: str | None
    intent: Intent
    place: AttemptKey
    answer: OracleAnswer
    movements: list[Movement]


class OracleState:
    """Everything that an answer may depend on."""

    def __init__(self, policies: Mapping[str, LedgerPolicy]) -> None:
        self.policies = policies
        self.money: dict[tuple[str, str], dict[str, int]] = defaultdict(
            lambda: {CASH: 0, BONUS: 0, HELD: 0}
        )
        self.versions: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.house: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.standings: dict[tuple[str, str], tuple[int, str]] = {}
        self.limits: dict[tuple[str, str], tuple[int, int | None]] = {}
        self.wagering: dict[tuple[str, str], tuple[int, int]] = {}
        self.answers: dict[tuple[Identity, AttemptKey], OracleAnswer] = {}
        self.decisions: dict[Identity, list[OracleDecision]] = {}
        self.closings: dict[tuple[Identity, str | None], str] = {}

    def policy(self, said: Intent) -> LedgerPolicy:
        """How this provider wants it."""
        return self.policies.get(said.provider, DEFAULT_POLICY)

    def decisions_of(self, identity: Identity | None, player: str | None) -> list[OracleDecision]:
        """How something of this player was decided, oldest first."""
        return (
            [decision for decision in self.decisions.get(identity, []) if decision.player == player]
            if identity
            else []
        )

    def posted_decision(
        self, identity: Identity | None, player: str | None
    ) -> OracleDecision | None:
        """Its last decision, if that was POSTED."""
        seen = self.decisions_of(identity, player)
        return seen[-1] if seen and seen[-1].answer.outcome == "POSTED" else None

    def closing_of(self, identity: Identity | None, player: str | None) -> str | None:
        """How something of this player was ended, or before anybody knew whose it would be."""
        if identity is None:
            return None
        own, of_nobody = self.closings.get((identity, player)), self.closings.get((identity, None))
        return of_nobody or own if own == "SETTLED" else own or of_nobody
