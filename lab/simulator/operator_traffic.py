"""What operators do in the simulated casino, and what all traffic is drawn with."""

from __future__ import annotations

from random import Random
from typing import Final

from lab.conformance.intents import KINDS, Identity, IntentLeg, Verb
from lab.simulator.intents import SimulatedIntent, operation_of, simulated_intent

CURRENCIES: Final = ("EUR", "EUR", "EUR", "EUR", "JPY", "KWD")
BRANDS: Final = ("acme", "zeta")
HUGE: Final = 9 * 10**18
"""Two of these are more than a wallet can hold."""
RECENT: Final = 12
_LIMITS: Final = (0, 100, 2_000, 10_000)
_APPROVALS: Final = {
    Verb.ASSIGNMENT_PROPOSED: Verb.ASSIGNMENT_APPROVED,
    Verb.RETURN_PROPOSED: Verb.RETURN_APPROVED,
}
_ITEM_VERBS: Final = (
    Verb.SUSPENSE_ASSIGNED,
    Verb.SUSPENSE_ASSIGNED,
    Verb.SUSPENSE_RETURNED,
    Verb.ITEM_ANSWERED,
    *_APPROVALS,
    Verb.ASSIGNMENT_PROPOSED,
)


class OperatorTraffic:
    """Draws players and identities, and the intents of operators."""

    def __init__(self, rng: Random, players: int) -> None:
        self.rng = rng
        self.players = [f"p-{number}" for number in range(players)]
        self._counts: dict[tuple[str, str], int] = {}
        self._recent: dict[str, list[SimulatedIntent]] = {}
        self._held_back: list[SimulatedIntent] = []
        # In few casinos only: a player with so much money is never refused again.
        self._has_huge_amounts = rng.random() < 0.1
        self._history: list[SimulatedIntent] = []

    def _player(self) -> str:
        return self.rng.choice(self.players)

    def _brand(self, player: str) -> str:
        return BRANDS[self.players.index(player) % len(BRANDS)]

    def _currency(self, player: str) -> str:
        if self.rng.random() < 0.03:
            return self.rng.choice(CURRENCIES)
        return CURRENCIES[self.players.index(player) % len(CURRENCIES)]

    def _identity(self, player: str, provider: str, verb: Verb) -> Identity:
        """Return an identity with a new id, or in 2 of 100 cases with a used one.

        All brands and providers use the same ids.
        """
        brand, operation = self._brand(player), operation_of(provider, verb)
        count = self._counts.get((brand, provider), 0) + 1
        if count > 1 and self.rng.random() < 0.02:
            return (brand, provider, operation, f"t{self.rng.randrange(1, count)}")
        self._counts[brand, provider] = count
        return (brand, provider, operation, f"t{count}")

    def _recent_intent(self, kind: str, player: str | None = None) -> SimulatedIntent | None:
        recent = [
            intent
            for intent in self._recent.get(kind, [])
            if player is None or intent.player == player
        ]
        return self.rng.choice(recent) if recent else None

    def _remember(self, kind: str, intent: SimulatedIntent) -> SimulatedIntent:
        self._recent[kind] = [*self._recent.get(kind, []), intent][-RECENT:]
        return intent

    def adjustment(self) -> list[SimulatedIntent]:
        """Return an operator's correction of either sign.

        Half of them are proposals, each with an approval by the same or another operator.
        """
        player, minor = self._player(), self.rng.choice((-700, 30, 200))
        if self._has_huge_amounts and self.rng.random() < 0.6:
            player, minor = self.players[-1], self.rng.choice((HUGE, HUGE, -HUGE))
        leg = IntentLeg("ADJUSTMENT", minor, self._currency(player))
        if self.rng.random() < 0.5:
            identity = self._identity(player, "house", Verb.ADJUSTMENT)
            return [simulated_intent(identity, player, (leg,))]
        identity = self._identity(player, "house", Verb.ADJUSTMENT_PROPOSED)
        proposed = simulated_intent(
            identity, player, (leg._replace(kind="INFORMATIONAL"),), actor="anna"
        )
        proposal = self._recent_intent("proposal") or proposed
        whose = proposal.player if self.rng.random() < 0.9 else player
        identity = self._identity(whose or "", "house", Verb.ADJUSTMENT_APPROVED)
        reference = (identity[0], *proposal.identity[1:])
        actor = self.rng.choice(("anna", "bert"))
        approved = simulated_intent(
            identity, whose, (IntentLeg("ADJUSTMENT"),), reference, actor=actor
        )
        return [self._remember("proposal", proposed), approved]

    def limit(self) -> list[SimulatedIntent]:
        """Return a new limit of one operator: proposed, and approved by the same or another one."""
        player = self._player()
        leg = IntentLeg("PROPOSAL", self.rng.choice(_LIMITS), self._currency(player))
        identity = self._identity(player, "house", Verb.LIMIT_PROPOSED)
        proposed = simulated_intent(identity, None, (leg,), actor="anna")
        approved = simulated_intent(
            self._identity(player, "house", Verb.LIMIT_APPROVED),
            None,
            (IntentLeg("OPERATOR_LIMIT"),),
            identity,
            actor=self.rng.choice(("anna", "bert", "bert", "bert")),
        )
        return self._approve_later(proposed, approved)

    def open_item(self) -> list[SimulatedIntent]:
        """Return what an operator does with an event: most of them wait for no one.

        Money in suspense is assigned to a player or returned, by one operator or two; other items
        are answered. Some acts come twice, or for two players.
        """
        kind = "misfit" if self.rng.random() < 0.9 else "payment"
        event = self._recent_intent(kind) or self._recent_intent("payment")
        if event is None:
            return []
        verb = self.rng.choice(_ITEM_VERBS)
        if verb is Verb.ITEM_ANSWERED and self._history:
            event = self.rng.choice(self._history[-40:])
        brand = event.brand
        own = [player for player in self.players if self._brand(player) == brand]
        player = self.rng.choice(own if own and self.rng.random() < 0.9 else self.players)
        identity = (brand, *self._identity(player, "house", verb)[1:])
        owner = player if verb in {Verb.SUSPENSE_ASSIGNED, Verb.ASSIGNMENT_PROPOSED} else None
        act = simulated_intent(
            identity, owner, (IntentLeg(KINDS[verb]),), event.identity, actor="anna"
        )
        if verb not in _APPROVALS:
            return [act]
        approval = _APPROVALS[verb]
        approved = simulated_intent(
            (brand, *self._identity(player, "house", approval)[1:]),
            owner if self.rng.random() < 0.95 else None if owner is None else self._player(),
            (IntentLeg(KINDS[approval]),),
            identity,
            actor=self.rng.choice(("anna", "bert", "bert", "bert")),
        )
        return self._approve_later(act, approved)

    def _approve_later(
        self, proposed: SimulatedIntent, approved: SimulatedIntent
    ) -> list[SimulatedIntent]:
        """Return a proposal; its approval comes mostly after it has been decided."""
        if self.rng.random() < 0.2:
            return [proposed, approved]
        self._held_back.append(approved)
        return [proposed]

    def state(self) -> list[SimulatedIntent]:
        """Return a block, hold, release or limit of a player, from one of two sources."""
        player = self._player()
        verb = self.rng.choice(
            (
                Verb.PLAYER_BLOCKED,
                Verb.PLAYER_HELD,
                Verb.PLAYER_RELEASED,
                Verb.PLAYER_RELEASED,
                Verb.PLAYER_RELEASED,
                Verb.PLAYER_LIMITED,
                Verb.PLAYER_UNLIMITED,
            )
        )
        leg = IntentLeg("PLAYER_STATE")
        if verb in {Verb.PLAYER_LIMITED, Verb.PLAYER_UNLIMITED}:
            leg = leg._replace(currency=self._currency(player))
        if verb is Verb.PLAYER_LIMITED:
            leg = leg._replace(minor=self.rng.choice((200, 10_000)))
        source = self.rng.choice(("operator", "operator", "kyc"))
        identity = self._identity(player, "house", verb)
        return [simulated_intent(identity, player, (leg,), source=source)]
