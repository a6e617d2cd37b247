"""State of a simulated player, the only thing that changes while a scenario is played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from lab.conformance.intents import (
    FREE_VERBS,
    KINDS,
    GameSession,
    Identity,
    Intent,
    IntentLeg,
    Verb,
)
from lab.conformance.writers.writer import Writer
from lab.sandbox.players import Player

_PAYMENT_METHODS: Final = ("visa", "mc", "ideal", "paypal")


@dataclass(slots=True)
class Seat:
    """One player at play.

    `funds_minor` is what the player believes to have: it keeps play plausible and proves nothing.
    """

    player: Player
    funds_minor: int = 0
    is_blocked: bool = False
    awaits_deposit: bool = False
    session: GameSession | None = None
    rounds_left: int = 0


@dataclass(frozen=True, slots=True)
class Deposit:
    """A deposit that a payment provider has confirmed; `identity` is its notice."""

    seat: Seat
    opened: Identity
    identity: Identity
    amount_minor: int


def payment_method(player: Player) -> str:
    """Return how a player pays."""
    return _PAYMENT_METHODS[int(player.id[-2:]) % len(_PAYMENT_METHODS)]


def make_intent(
    writer: Writer,
    verb: Verb,
    player: Player,
    tx_id: str,
    at_ms: int,
    amount_minor: int | None = None,
    *,
    campaign: str | None = None,
    **more: Any,
) -> Intent:
    """Return an intent about a player, with one leg of the verb's kind unless `legs` are given.

    A verb without a kind (an identity check) has no leg.

    `amount_minor` is in the player's currency; without it the leg has no amount. `more` are further
    fields of the intent; without `region` it is the player's.
    """
    currency = None if amount_minor is None else player.currency
    is_free = campaign is not None and verb in FREE_VERBS
    legs = more.pop("legs", ())
    if not legs and verb in KINDS:
        legs = (IntentLeg(KINDS[verb], amount_minor, currency, is_free, campaign),)
    return Intent(
        verb,
        (player.brand, writer.provider, writer.says[verb], tx_id),
        player.id,
        legs,
        at_ms=at_ms,
        **({"region": player.region} | more),
    )


def can_serve(writer: Writer, player: Player) -> bool:
    """Return whether the provider can print all amounts of the player's currency."""
    return writer.decimals_max is None or writer.decimals_max >= player.purse.scale


def choose(rng: Random, writers: Sequence[Writer]) -> Writer:
    """Draw one of the writers; where there is only one, nothing is drawn."""
    return writers[0] if len(writers) == 1 else rng.choice(writers)
