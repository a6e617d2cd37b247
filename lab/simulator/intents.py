"""What somebody said, before it was spelled in a provider's bytes: the language that the oracle
understands.
"""

from __future__ import annotations

from typing import NamedTuple

Identity = tuple[str, str, str, str]
"""Brand, provider, operation, transaction id."""

AttemptKey = tuple[str, int, int, int]
"""Raw topic, partition, offset, number of the item in its record."""


class IntentLeg(NamedTuple):
    """One leg: a kind, an amount in minor units of a currency where it has one."""

    kind: str
    minor: int | None = None
    currency: str | None = None
    is_free: bool = False
    campaign: str | None = None


class Intent(NamedTuple):
    """One provider transaction."""

    identity: Identity
    player: str | None
    legs: tuple[IntentLeg, ...]
    reference: Identity | None = None
    round_id: str | None = None
    game: str | None = None
    round_closed: bool = False
    decides: bool = False
    cancels: AttemptKey | None = None
    """The attempt that a connector gave up on."""
    actor: str = "cashier"
    source: str = "operator"
    """Who is behind a statement of the house, and on whose behalf a player is blocked."""

    @property
    def provider(self) -> str:
        """Who said it."""
        return self.identity[1]

    @property
    def operation(self) -> str:
        """In the provider's own word."""
        return self.identity[2]

    @property
    def content(self) -> tuple[object, ...]:
        """What must be the same for it to be the same transaction again."""
        return (self.player, self.legs, self.reference, self.round_id, self.game)
