"""Settings of the fraud role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fraud_agents.detectors import DEFAULT_RULES
from fraud_agents.enforcement import Enforcement
from fraud_agents.rules import Rule
from runtime.security import BrokerAddress

GROUP: Final = "fraud.detect"


@dataclass(frozen=True)
class FraudSettings:
    """Settings of a fraud worker."""

    broker: BrokerAddress
    database_url: str
    namespace: str
    code_version: str
    """Release that is named in dead letters."""
    rules: tuple[Rule, ...] = DEFAULT_RULES
    snapshot_interval_ms: int = 30_000
    """A successor reads at most this much again, which takes seconds; more frequent writes gain
    nothing."""
    snapshot_records: int = 200_000
    """The same bound for catching up, when half a minute is millions of records."""
    group_instance_id: str | None = None
    enforcement: Enforcement | None = None
    """What alerts do to their players; None: nothing."""
