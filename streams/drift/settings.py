"""Settings of the drift role."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from streams.providers.keyring import Keyring

NAME: Final = "drift"

RATE_DEFAULT: Final = 0.01


@dataclass(frozen=True)
class DriftSettings:
    """Settings of a drift worker; `rate` is the share of raw records that it checks, 0 to 1.

    `providers` are those whose topics it reads; None: all.
    """

    bootstrap_servers: str
    namespace: str
    keyring: Keyring = field(repr=False)
    rate: float = RATE_DEFAULT
    providers: frozenset[str] | None = None
    group_instance_id: str | None = None
