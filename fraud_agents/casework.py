"""What people do about alerts: who works on one, and what they found. Never changed once written.

The detector closes an alert when its episode is over; a person closes its case with a verdict, on
which the precision of a rule in production rests. Neither lifts a block: `pitboss alerts release`
does.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec
from psycopg import AsyncConnection

from runtime.postgres.statements import statements_of


class CaseActionKind(StrEnum):
    """What was done."""

    ASSIGNED = "ASSIGNED"
    CLOSED = "CLOSED"


class Verdict(StrEnum):
    """What a person found an alert to be."""

    FRAUD = "fraud"
    NO_FRAUD = "no-fraud"
    UNCLEAR = "unclear"


class CaseAction(msgspec.Struct, frozen=True):
    """One action: `value` is the person it is assigned to, or the verdict."""

    kind: str
    value: str
    actor: str
    reason: str
    made_at: int = 0

    def __str__(self) -> str:
        """Return it for a line."""
        what = "assigned to" if self.kind == CaseActionKind.ASSIGNED else "closed as"
        return f"{what} {self.value} by {self.actor}: {self.reason}"


async def add_action(connection: AsyncConnection[Any], alert_id: str, action: CaseAction) -> None:
    """Record an action on an alert."""
    statement = statements_of("fraud_agents", "casework")["add"]
    row = {name: getattr(action, name) for name in ("kind", "value", "actor", "reason")}
    await connection.execute(statement, {"alert_id": alert_id, **row})


async def actions_of(connection: AsyncConnection[Any], alert_id: str) -> list[CaseAction]:
    """Return what was done about an alert, in order."""
    statement = statements_of("fraud_agents", "casework")["of_alert"]
    cursor = await connection.execute(statement, {"alert_id": alert_id})
    return [CaseAction(*row) for row in await cursor.fetchall()]
