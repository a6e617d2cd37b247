"""The simulator's intents: the oracle's input, and what the simulated connectors append."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final, TypeAlias

from msgspec.structs import replace

from lab.conformance.intents import (
    DECIDED_VERBS,
    Game,
    GameSession,
    Identity,
    Intent,
    IntentLeg,
    Verb,
)
from lab.conformance.writers.find import find_writers
from lab.conformance.writers.writer import Headers, Sending, connector_headers
from lab.simulator.bundle import BUNDLE
from lab.simulator.bundle import WRITER as BUNDLE_WRITER

PROVIDERS: Final = ("hub88", "playngo", "adyen", "house", "hundredhp")

AttemptKey: TypeAlias = tuple[str, int, int, int]
"""Raw topic, partition, offset, index of the item in its record."""

ConnectorRecord: TypeAlias = tuple[bytes, bytes, Headers]
"""Key, value and headers of a raw record as a connector appends it."""

_WRITERS: Final = {**find_writers(PROVIDERS), BUNDLE: BUNDLE_WRITER}
_REGION: Final = "MT"
_RESTYLED_SHARE: Final = 0.3


class SimulatedIntent(Intent, frozen=True):
    """An intent, or the cancel of an attempt that a connector takes back (`cancels`).

    `other_references` are what its reference may mean besides. `is_implied`: the reference is known
    from its neighbours in the same message alone.
    """

    cancels: AttemptKey | None = None
    other_references: tuple[Identity, ...] = ()
    is_implied: bool = False

    @property
    def decides(self) -> bool:
        """Whether its sender waits for a yes or no."""
        return self.verb in DECIDED_VERBS and self.cancels is None

    @property
    def actor(self) -> str:
        """The person behind a message of the house."""
        return self.detail("actor")

    @property
    def source(self) -> str:
        """The source of a player state."""
        return self.detail("source")

    @property
    def content(self) -> tuple[object, ...]:
        """Content that must be equal for two intents to be the same transaction."""
        stated = None if self.is_implied else self.reference
        return (self.player, self.legs, stated, self.other_references, self.round_id, self.game)


def operation_of(provider: str, verb: Verb) -> str:
    """Return the provider's operation for a verb."""
    return _WRITERS[provider].says[verb]


def verb_of(provider: str, operation: str) -> Verb:
    """Return the verb of a provider's operation: of several, the first."""
    says = _WRITERS[provider].says
    return next(verb for verb, known in says.items() if known == operation)


def simulated_intent(
    identity: Identity,
    player: str | None,
    legs: tuple[IntentLeg, ...],
    reference: Identity | None = None,
    *,
    game: str | None = None,
    actor: str = "cashier",
    source: str = "operator",
    **more: Any,
) -> SimulatedIntent:
    """Return an intent of this identity; `more` are further fields.

    Messages of the house get every detail that some operation needs: the dialect ignores those of
    other operations.
    """
    _, provider, operation, _ = identity
    verb = verb_of(provider, operation)
    if provider == "house":
        details = (("psp", "adyen"), ("actor", actor), ("reason", "a test"), ("source", source))
        more["details"] = details
    if verb in {Verb.DEPOSIT, Verb.DEPOSIT_REFUSED} and reference is not None:
        more["deposit_id"] = reference[3]
    session = GameSession(provider, "s-1", 1, Game(game, 1)) if game is not None else None
    return SimulatedIntent(
        verb, identity, player, legs, reference, session=session, region=_REGION, **more
    )


def link_call(items: Sequence[SimulatedIntent]) -> list[SimulatedIntent]:
    """Return a call's intents with each win bound to the bet of its round that is beside it."""
    linked = []
    for intent in items:
        is_win = intent.verb is Verb.WIN and intent.cancels is None
        if is_win and intent.provider == BUNDLE:
            bet = next(
                (
                    one.identity
                    for one in items
                    if one.verb is Verb.BET and one.round_id == intent.round_id
                ),
                None,
            )
            linked.append(replace(intent, reference=bet, is_implied=bet is not None))
        else:
            linked.append(intent)
    return linked


def encode_record(
    items: Sequence[SimulatedIntent], received_ms: int, provider_ms: int, rng: Random
) -> ConnectorRecord:
    """Encode intents as one record, by the writer of their provider.

    It writes no signatures: other tests prove those, and they cost the most time. Some sendings
    come in another style.
    """
    first = items[0]
    style = rng if rng.random() < _RESTYLED_SHARE else None
    sending = Sending(provider_ms, rng.getrandbits(128), style)
    dated = [replace(intent, at_ms=provider_ms) for intent in items]
    message = _WRITERS[first.provider].write(dated, sending, None)
    headers = connector_headers(message, received_ms, "simulator", first.brand, first.region)
    return message.key.encode(), message.body, headers
