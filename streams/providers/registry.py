"""Which dialects there are: an explicit list, nothing is discovered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from schemas.policies import LedgerPolicy
from streams.providers.adyen import Adyen
from streams.providers.dialect import Dialect
from streams.providers.house import House
from streams.providers.hub88 import Hub88
from streams.providers.playngo import PlayNGo


def by_provider(dialects: Iterable[Dialect]) -> Mapping[str, Dialect]:
    """Dialects under the names of their providers; a name twice is a mistake in the code (ValueError)."""
    named: dict[str, Dialect] = {}
    for dialect in dialects:
        if dialect.provider in named:
            message = f"two dialects for {dialect.provider!r}"
            raise ValueError(message)
        named[dialect.provider] = dialect
    return MappingProxyType(named)


DIALECTS: Final = by_provider((Hub88(), PlayNGo(), Adyen(), House()))
"""Every dialect with its default settings."""


def policies(dialects: Mapping[str, Dialect] = DIALECTS) -> Mapping[str, LedgerPolicy]:
    """What the ledger has to know of each provider."""
    return MappingProxyType({provider: dialect.policy for provider, dialect in dialects.items()})
