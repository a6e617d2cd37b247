"""The detectors, one file each; `catalogue` lists them, `partition` runs them over a partition."""

from fraud_agents.detectors.catalogue import D01_BET_VELOCITY, DEFAULT_RULES, DETECTORS, PAST_RULES
from fraud_agents.detectors.d01_bet_velocity import BetVelocity
from fraud_agents.detectors.observation import Detector, Observation

__all__ = [
    "D01_BET_VELOCITY",
    "DEFAULT_RULES",
    "DETECTORS",
    "PAST_RULES",
    "BetVelocity",
    "Detector",
    "Observation",
]
