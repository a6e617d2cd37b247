"""Alerts about debts: an event took an account of a player below zero, and an operator has to act.

An alert is made from an outcome's own fields, so the publisher makes the same one from memory and,
after a restart, from the tables: at least once, always under the same id.
"""

from __future__ import annotations

from typing import Final

from schemas.events import FraudAlert, OffsetRange, Position
from schemas.identity import alert_id

RULE: Final = "L01"
RULE_VERSION: Final = 1
REASONS: Final = frozenset({"BOOKED_INTO_DEBT", "REVERSED_INTO_DEBT"})


def debt_alert(
    event_id: str,
    brand: str,
    player_id: str,
    operation: str,
    reason: str,
    currency: str,
    available_minor: int,
    occurred_at: int,
    source: Position,
) -> FraudAlert:
    """Return the alert about one event.

    `observed` is how far cash and bonus together are below zero, in minor units.
    """
    return FraudAlert(
        alert_id=alert_id(RULE, RULE_VERSION, event_id, occurred_at),
        rule_id=RULE,
        rule_version=RULE_VERSION,
        severity="review",
        key=f"{brand}:{player_id}",
        player_id=player_id,
        title="The player was left in debt",
        episode_start=occurred_at,
        window_start=occurred_at,
        window_end=occurred_at,
        observed=max(-available_minor, 0),
        threshold=0,
        unit=f"minor units of {currency}",
        occurred_at=occurred_at,
        sources=[OffsetRange(source.topic, source.partition, source.offset, source.offset)],
        sample_event_ids=[event_id],
        evidence={
            "operation": operation,
            "reason": reason,
            "available_minor": str(available_minor),
        },
    )
