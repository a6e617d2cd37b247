"""Players: brand, jurisdiction and currency of each, and the amounts usual in that currency."""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from lab.conformance.intents import DEFAULT_BRAND
from schemas.money import exponent_of


class Purse(msgspec.Struct, frozen=True):
    """Usual amounts in one currency, in minor units, smallest first."""

    currency: str
    stakes_minor: tuple[int, ...]
    deposits_minor: tuple[int, ...]

    @property
    def scale(self) -> int:
        """Decimals of the currency."""
        return exponent_of(self.currency)


class Player(msgspec.Struct, frozen=True):
    """A customer of one brand.

    `region` is the licence that the player plays under, empty where none applies.
    """

    id: str
    brand: str
    region: str
    purse: Purse

    @property
    def currency(self) -> str:
        """The currency of the player's only wallet."""
        return self.purse.currency


_EUR: Final = Purse("EUR", (20, 50, 100, 150, 200, 500), (2_000, 5_000, 10_000))
_GBP: Final = Purse("GBP", (10, 20, 50, 100, 250, 500), (1_000, 5_000, 10_000))
_SEK: Final = Purse("SEK", (200, 500, 1_000, 2_000, 5_000), (20_000, 50_000, 100_000))
_JPY: Final = Purse("JPY", (20, 50, 100, 150, 500), (3_000, 5_000, 10_000))
_KWD: Final = Purse("KWD", (50, 105, 250, 505, 1_000), (5_000, 10_000, 25_000))

# Markets: brand, licence, purse and how many players of a hundred. Yen have no decimals and Kuwaiti
# dinars three, so that no two decimals are taken for granted anywhere; one brand and one licence go
# unnamed in the headers.
_MARKETS: Final = (
    ("aurora", "MT", _EUR, 34),
    ("aurora", "GB", _GBP, 22),
    ("fjord", "SE", _SEK, 16),
    ("fjord", "MT", _EUR, 10),
    (DEFAULT_BRAND, "", _JPY, 10),
    (DEFAULT_BRAND, "CW", _KWD, 8),
)
_WEIGHTS: Final = tuple(weight for *_, weight in _MARKETS)


def make_players(rng: Random, count: int) -> list[Player]:
    """Draw players of all markets.

    Ids begin alike within one scenario and differently in two scenarios.
    """
    tag = f"{rng.getrandbits(24):06x}"
    markets = rng.choices(_MARKETS, weights=_WEIGHTS, k=count)
    return [
        Player(f"p-{tag}-{number:05d}", brand, region, purse)
        for number, (brand, region, purse, _) in enumerate(markets, start=1)
    ]
