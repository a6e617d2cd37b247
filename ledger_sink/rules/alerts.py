"""The alert about one event that the ledger booked or put aside, and an operator has to look at.

It is made from an outcome's own fields, so the publisher makes the same one from memory and, after
a restart, from the tables: at least once, always under the same id.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.events import FraudAlert, OffsetRange, Position
from schemas.identity import alert_id


def event_alert(
    rule: str,
    rule_version: int,
    title: str,
    event_id: str,
    brand: str,
    player_id: str,
    occurred_at: int,
    source: Position,
    observed: int,
    unit: str,
    evidence: Mapping[str, str],
) -> FraudAlert:
    """Return the alert of a rule about one event, whose `observed` is above a threshold of 0."""
    return FraudAlert(
        alert_id=alert_id(rule, rule_version, event_id, occurred_at),
        rule_id=rule,
        rule_version=rule_version,
        severity="review",
        key=f"{brand}:{player_id}",
        player_id=player_id,
        title=title,
        episode_start=occurred_at,
        window_start=occurred_at,
        window_end=occurred_at,
        observed=observed,
        threshold=0,
        unit=unit,
        occurred_at=occurred_at,
        sources=[OffsetRange(source.topic, source.partition, source.offset, source.offset)],
        sample_event_ids=[event_id],
        evidence=dict(evidence),
    )
