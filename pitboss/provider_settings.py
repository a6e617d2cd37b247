"""Settings that name providers: a list of them, and the brands of each."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from schemas.errors import UsageError, suggest

ALL_PROVIDERS: Final = "all"
"""Value of PITBOSS_PROVIDERS that means every provider, where some are stored."""

ALL_OTHERS: Final = "*"
"""Name of PITBOSS_BRANDS for the providers that it does not name."""

_BRAND: Final = re.compile(r"[^\s:|,\x00-\x1f]{1,64}")


def check_providers(names: Collection[str] | None, place: str) -> None:
    """Check the names of providers, or the one word `all`; None is right.

    Raises UsageError with the nearest name, naming `place`.
    """
    if names is None or set(names) == {ALL_PROVIDERS}:
        return
    from streams.providers.registry import DIALECTS

    if not names:
        raise UsageError(f"{place} names no provider: name some, or {ALL_PROVIDERS!r}")
    if ALL_PROVIDERS in names:
        raise UsageError(f"{place} names {ALL_PROVIDERS!r} beside others: give one or the other")
    for name in sorted(names):
        if name not in DIALECTS:
            hint = suggest(name, DIALECTS) or ": `pitboss providers list` names all of them"
            raise UsageError(f"{place}: no adapter is called {name!r}{hint}")


def check_brand_owners(brands: Mapping[str, Any] | None, place: str) -> None:
    """Check the names of providers that brands are given for; `*` stands for all others.

    Raises UsageError with the nearest name, naming `place`.
    """
    check_providers(set(brands or ()) - {ALL_OTHERS} or None, place)


def format_brands(brands: Mapping[str, Collection[str]]) -> str:
    """Format brands by provider as the environment variable takes them, sorted."""
    return ",".join(
        f"{provider}:{'|'.join(sorted(names))}" for provider, names in sorted(brands.items())
    )


def parse_brands(text: str) -> dict[str, frozenset[str]] | None:
    """Parse `hub88:acme|zeta,*:acme`; None for another form."""
    found: dict[str, frozenset[str]] = {}
    for item in filter(None, (item.strip() for item in text.split(","))):
        provider, _, listed = item.partition(":")
        names = [name.strip() for name in listed.split("|")]
        if provider in found or not are_brands(names):
            return None
        found[provider] = frozenset(names)
    return found


def are_brands(given: Any) -> bool:
    """Return whether a value of the TOML file is a list of brands."""
    return (
        isinstance(given, list)
        and bool(given)
        and all(isinstance(name, str) and _BRAND.fullmatch(name) for name in given)
    )
