"""The detectors, named one by one: what is not in this table does not run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from fraud_agents.detectors.d01_bet_velocity import BetVelocity
from fraud_agents.detectors.observation import FIELDS, Detector, Observation
from fraud_agents.rules import Rule

DETECTORS: Final[Mapping[str, Callable[[Rule, int], Detector]]] = MappingProxyType(
    {"D01": BetVelocity}
)
"""Rule id → what makes its detector for a rule and a partition of the log."""

__all__ = ["DETECTORS", "FIELDS", "BetVelocity", "Detector", "Observation"]
