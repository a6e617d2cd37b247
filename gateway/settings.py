"""Settings of the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.decisions.access import AccessRules
from gateway.tls import TlsFiles
from runtime.security import BrokerAddress

PORT_DEFAULT: Final = 8088


@dataclass(frozen=True)
class GatewaySettings:
    """Settings of one gateway process."""

    broker: BrokerAddress
    namespace: str = ""
    host: str = "127.0.0.1"
    port: int = PORT_DEFAULT
    """0 takes any free port."""
    keyring: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """As the normaliser has it; a provider without an entry is not checked."""
    session_key: bytes | None = field(default=None, repr=False)
    """Key of the session tokens; without one no session is known."""
    providers: frozenset[str] | None = None
    """Providers that are served; None: all that call over HTTP."""
    brands: Mapping[str, str] = field(default_factory=dict)
    """Region by brand; without any there is the default brand, under the shorter URLs."""
    currency: str = ""
    """Of every wallet, for calls that name neither a currency nor a session; empty: none."""
    connector: str = "gateway"
    files_folder: Path | None = None
    """Where bank statements and reports are put; None: no files are read."""
    tls: TlsFiles | None = None
    """None: plain HTTP, for a proxy before it."""
    access: AccessRules = field(default_factory=AccessRules)
    in_flight_max: int = 20_000
    """Calls that wait at the same time; more are answered at once as unavailable."""
    undecided_max: int = 256
    """Attempts that are appended and not decided at the same time; more wait for their turn, which
    goes round the providers. Above some 200 no more are decided a second: they only wait longer."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Turns of a provider for each one of another, where calls wait for their turn; 1 if not named.
    """
    connections_max: int | None = None
    """Connections at the same time; None: what the system allows, less what the rest needs."""
    head_timeout_s: float = 10.0
    """How long the first line and the headers of a request may take from their first byte on."""
    idle_timeout_s: float = 120.0
    """How long a connection is kept that sends nothing."""
    write_timeout_s: float = 30.0
    """How long an answer may lie in a connection whose other side takes nothing."""
    player_rate: float = 20.0
    """Bets of one player a second, of one provider and brand."""
    player_burst: float = 40.0
    provider_rate: float | None = None
    """Calls of one provider and brand a second; None: as many as come."""
    late_max: int = 50
    """Calls in a row that are not decided in time, after which calls are answered at once."""
    trial_s: float = 0.5
    """How often one call is tried then."""
    body_timeout_s: float = 5.0
    """How long the bytes of a body may take."""
    drain_timeout_s: float = 10.0
    """How long a stop waits for the answers to calls that are in progress."""
    cancel_share_s: float = 2.0
    """Of that time: what taking back the undecided calls may take."""
    patience_ms: int | None = None
    """How long every call waits for its decision; None: as long as its provider's face says."""
