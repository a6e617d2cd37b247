"""Settings of the resolver's worker."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.security import BrokerAddress

GROUP = "ledger.resolve"
"""The consumer group, before the namespace is put in front."""


@dataclass(frozen=True)
class ResolveSettings:
    """Everything that a resolver is configured by."""

    broker: BrokerAddress
    database_url: str
    namespace: str
    code_version: str
    normalise_group: str
    group_instance_id: str | None = None
    providers: frozenset[str] | None = None
    """Those whose raw topics are read, so a barrier waits for them; None: all."""
    min_age_ms: int = 60_000
    """"Not found" is final no sooner than this after the event was parked first, even if all
    barriers are passed."""
    sweep_interval_ms: int = 100
