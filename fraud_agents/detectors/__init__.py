"""The detectors, listed by rule id.

A detector runs if it stands in this table and its rule in `fraud_agents.rules.DEFAULT_RULES`.
"""

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
"""Constructor of the detector by rule id; its arguments are the rule and the log's partition."""

__all__ = ["DETECTORS", "FIELDS", "BetVelocity", "Detector", "Observation"]
