"""A rule that asks for more or for less by some percent, to find who is near its edge. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from fraud_agents.rules import Limit, Rule

MARGINS: Final = (10, 25, 50)
"""Percents by which a rule is moved either way, the nearest first."""


def demand_more(rule: Rule, percent: int) -> Rule:
    """Return a rule whose every number takes `percent` more to raise an alert; less below zero.

    Its version stays, so it is not for publishing.
    """
    threshold = max(1, _moved(rule.threshold, percent))
    return msgspec.structs.replace(
        rule,
        threshold=threshold,
        close_below=min(threshold, max(1, _moved(rule.close_below, percent))),
        limits=_limits(rule.limits, percent),
        regions={name: _limits(limits, percent) for name, limits in rule.regions.items()},
    )


def _moved(value: int, percent: int) -> int:
    return -(-value * (100 + percent) // 100)


def _limits(limits: dict[str, Limit], percent: int) -> dict[str, Limit]:
    return {name: limit.demand_more(percent) for name, limit in limits.items()}
