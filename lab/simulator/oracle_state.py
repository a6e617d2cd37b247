"""The oracle's state: players and their money, decisions, and closings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from lab.conformance.intents import Identity
from lab.simulator.intents import AttemptKey, SimulatedIntent
from schemas.policies import DEFAULT_POLICY, LedgerPolicy

CASH, BONUS, HELD = "cash", "bonus", "held"

Verdict = tuple[str, str]
"""Outcome and reason."""

Movement = tuple[str, str, str, int, int]
"""Currency, from, to, amount in minor units, version of the wallet after it."""


class OracleAnswer(NamedTuple):
    """Answer to an attempt; `available` is what the player could bet right after it."""

    outcome: str
    reason: str
    available: Mapping[str, int] = {}


class OracleDecision(NamedTuple):
    """Decision on an intent, and the movements that it caused.

    `group` are the transactions that it was decided with; empty where it was decided alone.
    """

    player: str | None
    intent: SimulatedIntent
    attempt_key: AttemptKey
    answer: OracleAnswer
    movements: list[Movement]
    group: frozenset[Identity] = frozenset()


class OracleState:
    """Everything that an answer may depend on.

    `standings` has the newest player state by player and source, `limits` the newest limit by
    player and currency, each with its time; `wagering` the requirement by player and currency:
    the amount left to bet, and the wallet's version at its grant. `operator_limits` is by currency
    what one operator may move alone, `item_ends` the act by which an operator closed an open item.
    """

    def __init__(self, policies: Mapping[str, LedgerPolicy]) -> None:
        self.policies = policies
        self.money: dict[tuple[str, str], dict[str, int]] = defaultdict(
            lambda: {CASH: 0, BONUS: 0, HELD: 0}
        )
        self.versions: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.house: defaultdict[tuple[str, str], int] = defaultdict(int)
        self.brands: dict[str, str] = {}
        """By player, the brand under which the player's money moved first."""
        self.reversals: dict[tuple[str | None, Identity, str], tuple[int, int]] = {}
        """By player, payment and currency: taken from the player, and waiting in suspense."""
        self.standings: dict[tuple[str, str], tuple[int, str]] = {}
        self.limits: dict[tuple[str, str], tuple[int, int | None]] = {}
        self.wagering: dict[tuple[str, str], tuple[int, int]] = {}
        self.answers: dict[tuple[Identity, AttemptKey], OracleAnswer] = {}
        self.decisions: dict[Identity, list[OracleDecision]] = {}
        self.closings: dict[tuple[Identity, str | None], str] = {}
        self.operator_limits: dict[str, int] = {}
        self.item_ends: dict[Identity, Identity] = {}

    def available(self, player: str | None) -> dict[str, int]:
        """Return what a player can bet now, by currency of the wallets in which money moved."""
        return {
            currency: wallet[CASH] + wallet[BONUS]
            for (owner, currency), wallet in self.money.items()
            if owner == player and self.versions[owner, currency]
        }

    def policy(self, intent: SimulatedIntent) -> LedgerPolicy:
        """Return the ledger policy of the intent's provider."""
        return self.policies.get(intent.provider, DEFAULT_POLICY)

    def decisions_of(self, identity: Identity | None, player: str | None) -> list[OracleDecision]:
        """Return the decisions on a transaction of this player, oldest first."""
        return (
            [decision for decision in self.decisions.get(identity, []) if decision.player == player]
            if identity
            else []
        )

    def posted_decision(
        self, identity: Identity | None, player: str | None
    ) -> OracleDecision | None:
        """Return the last decision on a transaction if its outcome is POSTED."""
        seen = self.decisions_of(identity, player)
        return seen[-1] if seen and seen[-1].answer.outcome == "POSTED" else None

    def resolve(self, intent: SimulatedIntent, player: str | None) -> SimulatedIntent:
        """Return the intent with the one reference that it means of all that it may mean."""
        if intent.reference is None or not intent.other_references:
            return intent
        candidates = (intent.reference, *intent.other_references)
        came = [identity for identity in candidates if self.decisions_of(identity, player)]
        closings = {identity: self.closing_of(identity, player) for identity in candidates}
        booked = [
            identity
            for identity in came
            if self.posted_decision(identity, player) and closings[identity] in (None, "SETTLED")
        ]
        untouched = [identity for identity in candidates if closings[identity] is None]
        meant = (*booked, *came, *untouched, intent.reference)[0]
        return replace(
            intent,
            reference=meant,
            other_references=() if came else tuple(one for one in candidates if one != meant),
        )

    def closing_of(self, identity: Identity | None, player: str | None) -> str | None:
        """Return how a transaction was closed: for this player, or while its player was unknown."""
        if identity is None:
            return None
        own = self.closings.get((identity, player))
        without_player = self.closings.get((identity, None))
        return without_player or own if own == "SETTLED" else own or without_player
