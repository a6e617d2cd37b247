"""Provider transactions before they are encoded in a provider's bytes: the oracle's input."""

from __future__ import annotations

from typing import NamedTuple

Identity = tuple[str, str, str, str]
"""Brand, provider, operation, transaction id."""

AttemptKey = tuple[str, int, int, int]
"""Raw topic, partition, offset, index of the item in its record."""


class IntentLeg(NamedTuple):
    """Leg of a transaction: a kind, and an amount in minor units of a currency if it has one."""

    kind: str
    minor: int | None = None
    currency: str | None = None
    is_free: bool = False
    campaign: str | None = None


class Intent(NamedTuple):
    """Provider transaction, independent of the provider's format."""

    identity: Identity
    player: str | None
    legs: tuple[IntentLeg, ...]
    reference: Identity | None = None
    round_id: str | None = None
    game: str | None = None
    round_closed: bool = False
    decides: bool = False
    cancels: AttemptKey | None = None
    """The attempt that a connector takes back."""
    actor: str = "cashier"
    source: str = "operator"
    """The source of a player state; `actor` is the person behind a message of the house."""

    @property
    def provider(self) -> str:
        """Provider that sends it."""
        return self.identity[1]

    @property
    def operation(self) -> str:
        """Operation in the provider's own words."""
        return self.identity[2]

    @property
    def content(self) -> tuple[object, ...]:
        """Content that must be equal for two intents to be the same transaction."""
        return (self.player, self.legs, self.reference, self.round_id, self.game)
