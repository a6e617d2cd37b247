"""The alert rules on a faster clock, for tests that make real faults.

A rule's windows (`[5m]`), `offset 15m` and `for: 2m` are so many intervals of the scrape; a test that scrapes and
evaluates ten times as often divides them by ten, so that each still holds as many samples. Nothing else of a rule
changes: what it selects, computes and compares with, its labels and its annotations.
"""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

FILE: Final = Path(__file__).parents[2] / "infra" / "observability" / "alerts.yml"
SCRAPE_S: Final = 10
"""Interval of scrapes and evaluations in infra/observability/prometheus.yml."""

ONLY_IN_A_FAULT: Final = {"Batches tried again", "PitbossDeadLetters", "PitbossSeriesDropped"}
"""Panels and alerts on series that a healthy run does not have: tests/acceptance/test_alerts.py queries them meanwhile."""
_DEFAULT: Final = " or vector(0)"

_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
_DURATION: Final = re.compile(r"(?P<before>\[|\boffset )(?P<count>\d+)(?P<unit>ms|[smh])\b")
_WHOLE: Final = re.compile(r"(\d+)(ms|[smh])")


def load_rules() -> dict[str, Any]:
    """Return the rule file as it is."""
    return dict(YAML(typ="safe").load(FILE))


def rules_of(file: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rules of a file, all groups together."""
    return [rule for group in file["groups"] for rule in group["rules"]]


def without_default(query: str) -> str:
    """Return a query that finds nothing where its series are missing, in place of 0."""
    return query.replace(_DEFAULT, "")


def compared_side(expression: str) -> str:
    """Return what an alert compares with its limit: of two that are compared, the one of now."""
    now = re.sub(r"\s+", " ", expression).rpartition(" unless ")[2]
    return re.split(r" (?:>|<|==) ", without_default(now))[0]


def speed_up(file: dict[str, Any], factor: int) -> dict[str, Any]:
    """Return a rule file whose durations are a `factor`th; raises ValueError where one is no whole number of ms."""
    faster = deepcopy(file)
    for rule in rules_of(faster):
        rule["expr"] = _DURATION.sub(
            lambda match: match["before"] + _divide(match["count"], match["unit"], factor),
            rule["expr"],
        )
        if "for" in rule:
            rule["for"] = divide_duration(rule["for"], factor)
    return faster


def divide_duration(text: str, factor: int) -> str:
    """Return a `factor`th of a duration as Prometheus writes it. Raises ValueError as `speed_up` does."""
    match = _WHOLE.fullmatch(text)
    if match is None:
        message = f"{text!r} is not a duration"
        raise ValueError(message)
    return _divide(match[1], match[2], factor)


def _divide(count: str, unit: str, factor: int) -> str:
    ms, rest = divmod(int(count) * _UNITS_MS[unit], factor)
    if rest or not ms:
        message = f"{count}{unit} is not {factor} times a whole number of milliseconds"
        raise ValueError(message)
    return f"{ms}ms"
