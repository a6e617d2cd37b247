"""Alerts about debts: an event took an account below zero, and an operator has to act."""

from __future__ import annotations

from typing import Final

from ledger_sink.rules.alerts import event_alert
from schemas.events import FraudAlert, Position

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
    return event_alert(
        RULE,
        RULE_VERSION,
        "The player was left in debt",
        event_id,
        brand,
        player_id,
        occurred_at,
        source,
        observed=max(-available_minor, 0),
        unit=f"minor units of {currency}",
        evidence={
            "operation": operation,
            "reason": reason,
            "available_minor": str(available_minor),
        },
    )
