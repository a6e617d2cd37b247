"""Alerts that stop their player: a block or a hold as an event of the log, caused by the alert.

The event goes through the casino's own raw topic like an operator's block, so the ledger's
decisions follow from the log alone, and a replay repeats what was logged instead of deciding anew.
Its id depends on the alert and the severity: after a restart it is sent again and is the same
event. All alerts speak for one source of blocks; in the ledger a hold of one does not weaken the
block of another. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias

from schemas.events import AlertStatus, FraudAlert
from schemas.rule_changes import AlertHandling

OPERATIONS: Final[Mapping[str, str]] = {"block": "player.blocked", "hold": "player.held"}
"""What an alert of a severity does to its player."""

ACTOR: Final = "fraud-agent"
REASON_CHARACTERS_MAX: Final = 500

RawHeaders: TypeAlias = Sequence[tuple[str, bytes | None]]
BuildRecord: TypeAlias = Callable[[Mapping[str, str], str, int], tuple[bytes, RawHeaders]]
"""Builds body and headers of a raw record of the house from an event, a brand and a time."""


class Enforcement:
    """Which severities stop a player, and how the record is built and signed.

    Whether an alert's rule may stop a player is asked before: `RuleVersions.may_stop`.
    """

    def __init__(self, severities: frozenset[str], build: BuildRecord) -> None:
        self._severities = severities
        self._build = build

    def record_for(
        self, alert: FraudAlert
    ) -> tuple[bytes | None, bytes, RawHeaders, int | None] | None:
        """Return the raw record that stops the alert's player; None where nothing is to be done."""
        operation = OPERATIONS.get(alert.severity)
        # A player of the control group would be blocked: the hold is in place of that.
        is_control = alert.handling == AlertHandling.CONTROL and "block" in self._severities
        if operation is None or not (alert.severity in self._severities or is_control):
            return None
        if alert.status == AlertStatus.CLOSED or alert.player_id is None:
            return None
        at = datetime.fromtimestamp(alert.occurred_at / 1_000, UTC)
        event = {
            "operation": operation,
            "id": f"{alert.alert_id}-{alert.severity}",
            "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "player_id": alert.player_id,
            "actor": ACTOR,
            "reason": f"{alert.rule_id}: {alert.title}"[:REASON_CHARACTERS_MAX],
            "alert_id": alert.alert_id,
        }
        body, headers = self._build(event, brand_of(alert.key), alert.occurred_at)
        return alert.player_id.encode(), body, headers, None


def brand_of(key: str) -> str:
    """Return the brand, with which the key of every detector begins."""
    return key.partition(":")[0].replace("%3A", ":").replace("%25", "%")
