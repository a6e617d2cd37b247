"""Settings of the drift role."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from runtime.security import BrokerAddress
from streams.providers.keyring import Keyring

NAME: Final = "drift"


@dataclass(frozen=True)
class DriftSettings:
    """Settings of a drift worker; it reads the dead letters of `providers` (None: of all)."""

    broker: BrokerAddress
    namespace: str
    keyring: Keyring = field(repr=False)
    providers: frozenset[str] | None = None
    group_instance_id: str | None = None
