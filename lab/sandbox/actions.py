"""Actions of the simulated casino, before a writer encodes them in a provider's dialect.

Amounts are minor units of the player's currency; times are simulated epoch milliseconds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from lab.sandbox.players import Player
from lab.sandbox.records import Origin

HUB88: Final = "hub88"
PLAYNGO: Final = "playngo"
ADYEN: Final = "adyen"
HOUSE: Final = "house"

GAME_PROVIDERS: Final = (HUB88, PLAYNGO)
PROVIDERS: Final = (HUB88, PLAYNGO, ADYEN, HOUSE)


class Verb(StrEnum):
    """Kind of a game provider's request to the wallet."""

    BET = "BET"
    WIN = "WIN"
    ROLLBACK = "ROLLBACK"


class GameSession(msgspec.Struct, frozen=True):
    """One sitting of a player at one game of one provider."""

    provider: str
    token: str
    number: int
    game_id: int
    game_code: str


class GameAction(msgspec.Struct, frozen=True):
    """A bet, a win or a rollback; `bet_tx_id` is the bet that a win or a rollback refers to.

    `campaign_id` names the free rounds that a bet or win belongs to; such a bet costs nothing.
    """

    at_ms: int
    verb: Verb
    player: Player
    session: GameSession
    tx_id: str
    round_id: str
    round_closed: bool
    amount_minor: int
    bet_tx_id: str | None = None
    campaign_id: str | None = None


class HouseAction(msgspec.Struct, frozen=True):
    """An operation of the casino's own cashier or back office.

    `fields` are those special to the operation, as text.
    """

    at_ms: int
    operation: str
    id: str
    player: Player
    fields: tuple[tuple[str, str], ...] = ()


class PspItem(msgspec.Struct, frozen=True):
    """One notice of the payment provider.

    It names our reference, not the player; `player` is here for routing only.
    """

    at_ms: int
    event_code: str
    success: bool
    psp_reference: str
    merchant_reference: str
    player: Player
    amount_minor: int
    original_reference: str = ""
    reason: str = ""


class PspBatch(msgspec.Struct, frozen=True):
    """Notices of one brand's merchant account that travel in one request."""

    at_ms: int
    items: tuple[PspItem, ...]


class PoisonAction(msgspec.Struct, frozen=True):
    """A request that no dialect can accept: entry `kind` of the poison catalogue.

    The player is a real one.
    """

    at_ms: int
    kind: int
    player: Player


Action = GameAction | HouseAction | PspItem
Request = GameAction | HouseAction | PspBatch | PoisonAction


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
