"""Requests of the simulated providers on their way to the connector, before they are written."""

from __future__ import annotations

from typing import Final

import msgspec

from lab.conformance.intents import Intent
from lab.sandbox.players import Player
from lab.sandbox.records import Origin

HUB88: Final = "hub88"
PLAYNGO: Final = "playngo"
ADYEN: Final = "adyen"
HOUSE: Final = "house"

PROVIDERS: Final = (HUB88, PLAYNGO, ADYEN, HOUSE)
"""The providers of a scenario that names none."""


class IntentRequest(msgspec.Struct, frozen=True):
    """Intents that travel in one request: several only where the provider batches."""

    at_ms: int
    intents: tuple[Intent, ...]


class PoisonAction(msgspec.Struct, frozen=True):
    """A request that no dialect can accept: entry `kind` of the poison catalogue.

    The player is a real one.
    """

    at_ms: int
    kind: int
    player: Player


Request = IntentRequest | PoisonAction


class Delivery(msgspec.Struct, frozen=True):
    """One request on its way to the connector.

    It holds the time of arrival and all that varies between two sendings of one content. `nonce`
    (128 random bits) is the request id and, for a retry, the seed of its style.
    """

    request: Request
    at_ms: int
    phase: int
    nonce: int
    origin: Origin = Origin.FIRST
