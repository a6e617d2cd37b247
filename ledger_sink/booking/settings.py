"""Settings of the ledger's worker."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.security import BrokerAddress

GROUP = "ledger.post"
"""The consumer group, before the namespace is put in front."""


@dataclass(frozen=True)
class LedgerSettings:
    """Everything that a ledger worker is configured by."""

    broker: BrokerAddress
    database_url: str
    namespace: str
    code_version: str
    group_instance_id: str | None = None
