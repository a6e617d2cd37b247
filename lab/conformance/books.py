"""The books that a provider keeps of its own: what each of its transactions has moved.

They follow its answers alone, and are compared with the ledger's: a provider and its casino settle
by the one or by the other. Amounts are minor units of the player's currency, positive where they
came to the player, in cash, bonus and held money together. Pure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from lab.conformance.intents import Identity, Intent, Verb
from schemas.identity import event_id

_GIVE: Final = frozenset(
    {
        *(Verb.WIN, Verb.FREE_WIN, Verb.JACKPOT_WIN, Verb.PROMO_WIN, Verb.BONUS_GRANTED),
        *(Verb.DEPOSIT, Verb.REFUND_RETURNED, Verb.CHARGEBACK_WON),
    }
)
_TAKE: Final = frozenset({Verb.BET, Verb.REFUND, Verb.CHARGEBACK, Verb.WITHDRAWAL_PAID})


def moved_minor(intent: Intent, referred: Intent | None = None) -> int:
    """Return what an accepted intent moves; `referred` is what a payout without an amount pays."""
    if intent.verb not in _GIVE | _TAKE:
        return 0
    amounts = [leg.minor for leg in intent.legs if leg.minor is not None]
    if not amounts and referred is not None:
        amounts = [leg.minor for leg in referred.legs if leg.minor is not None]
    return sum(amounts) if intent.verb in _GIVE else -sum(amounts)


class ProviderBooks:
    """The books of all providers of one casino."""

    def __init__(self) -> None:
        """Begin with empty books."""
        self._moved: dict[Identity, int] = {}
        self._taken_back: set[Identity] = set()

    def note_accepted(self, identity: Identity, minor: int) -> None:
        """Book a transaction that was answered with success; once, however often that comes."""
        if identity not in self._taken_back:
            self._moved[identity] = minor

    def note_taken_back(self, identity: Identity) -> None:
        """Book that nothing of a bet stands, whatever its own answers say, now or later."""
        self._taken_back.add(identity)
        self._moved.pop(identity, None)

    def stands(self, identity: Identity) -> bool:
        """Return whether a transaction was accepted and not taken back."""
        return identity in self._moved

    @property
    def accepted(self) -> frozenset[Identity]:
        """Every transaction that stands, also those that moved nothing."""
        return frozenset(self._moved)

    def moved_by_event(self) -> dict[str, dict[str, int]]:
        """Return what moved, by provider and by the id that the ledger has for the transaction."""
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for identity, minor in self._moved.items():
            if minor:
                found[identity[1]][event_id(*identity)] = minor
        return dict(found)


def differing_books(
    ours: Mapping[str, Mapping[str, int]], providers: Mapping[str, Mapping[str, int]]
) -> list[str]:
    """Return the transactions of which the ledger and a provider have another view, a line each.

    Both map providers to the ids of transactions to what they moved; zeros are left out.
    """
    lines = []
    for provider in sorted(ours.keys() | providers.keys()):
        booked, believed = ours.get(provider, {}), providers.get(provider, {})
        lines += [
            f"{provider}: the ledger moved {booked.get(event, 0)} for event {event}, and by its "
            f"answers the provider has {believed.get(event, 0)}"
            for event in sorted(booked.keys() | believed.keys())
            if booked.get(event, 0) != believed.get(event, 0)
        ]
    return lines
