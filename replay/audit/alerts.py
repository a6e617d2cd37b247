"""The detectors over a log once more: what they find now is what was published then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fraud_agents.detectors import FIELDS
from fraud_agents.detectors.partition import PartitionDetectors
from fraud_agents.rules import DEFAULT_RULES
from ledger_sink.rules.book import LogEvent
from schemas.events import FraudAlert


def rerun_detectors(log: Mapping[int, Iterable[LogEvent]]) -> dict[str, FraudAlert]:
    """By their ids the alerts that the default rules raise over a whole log, given by partition."""
    found: dict[str, FraudAlert] = {}
    for part, records in log.items():
        watch = PartitionDetectors(DEFAULT_RULES, part)
        for sourced in records:
            event = sourced.event
            observation = tuple(getattr(event, name) for name in FIELDS)
            found |= {
                alert.alert_id: alert for alert in watch.observe(observation, sourced.source.offset)
            }
    return found


def differing_alerts(
    published: Mapping[str, FraudAlert], raised: Mapping[str, FraudAlert]
) -> Sequence[str]:
    """The ids under which two sets of alerts do not say the same."""
    return sorted(
        name for name in published.keys() | raised.keys() if published.get(name) != raised.get(name)
    )
