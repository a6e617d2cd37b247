"""The brands of each provider's records, where an installation names them.

A brand is a part of every event's identity, and a header that a connector sets: with another one,
or none, a retry is another event. So once an installation names brands, a record without one of
its provider's is a dead letter. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from schemas.errors import RejectCode, Rejected

BrandsByProvider: TypeAlias = Mapping[str, frozenset[str]]
"""Brands by provider, those of `ANY_PROVIDER` for each that is not named; empty: any brand."""

ANY_PROVIDER: Final = "*"


def check_brand(brands: BrandsByProvider, provider: str, brand: str | None) -> None:
    """Check the brand of a provider's record; None is a missing header.

    Raises Rejected(UNKNOWN_BRAND) for one that is not named, unless no brand is named at all.
    """
    if not brands:
        return
    named = brands.get(provider, brands.get(ANY_PROVIDER, frozenset()))
    if brand in named:
        return
    what = "the header brand is missing" if brand is None else f"no brand is called {brand!r}"
    listed = f"has {', '.join(sorted(named))}" if named else "has none"
    raise Rejected(
        RejectCode.UNKNOWN_BRAND,
        f"{what}: {provider} {listed} in PITBOSS_BRANDS; have the connector send the right one",
    )
