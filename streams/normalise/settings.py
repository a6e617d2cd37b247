"""Settings of the normalising worker: frozen, and never read from the environment here."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.dead_letters.key_holds import ParkLimits
from runtime.security import BrokerAddress
from schemas.errors import UsageError
from streams.normalise.mapping.brands import BrandsByProvider
from streams.providers.keyring import Keyring


@dataclass(frozen=True)
class ParkSettings:
    """Database of parked records, and the providers whose rejections make a player wait.

    Without any provider, records that wait already are released as usual, and no others begin to
    wait.
    """

    database_url: str = field(repr=False)
    providers: frozenset[str] = frozenset()
    limits: ParkLimits = field(default_factory=ParkLimits)


@dataclass(frozen=True)
class NormaliseSettings:
    """Settings of a normalising worker.

    `keyring` holds key material by provider and is never shown.
    """

    broker: BrokerAddress
    namespace: str
    code_version: str
    keyring: Keyring = field(repr=False)
    group_instance_id: str | None = None
    providers: frozenset[str] | None = None
    """Those whose raw topics are read; None: of every provider."""
    brands: BrandsByProvider = field(default_factory=dict)
    """Brands by provider; empty: a record may have any brand, or none."""
    sample_rate: float = 0.01
    """Share of the raw records that drift checks, 0 to 1."""
    park: ParkSettings | None = None
    """Only with it a normaliser needs the database."""


def parked_providers(settings: NormaliseSettings) -> frozenset[str]:
    """Return the providers whose rejections may make a player wait.

    Raises UsageError for one without a key: without a signature anyone could make any player wait.
    """
    assert settings.park is not None
    unsigned = sorted(settings.park.providers - settings.keyring.keys())
    if unsigned:
        raise UsageError(
            f"players of {', '.join(unsigned)} cannot be made to wait: the keys file holds no key "
            "of theirs, and without a signature anyone could make any player wait; add the keys, "
            "or remove the providers from PITBOSS_PARK"
        )
    return settings.park.providers
