"""The part of a canonical record that detectors read, and the protocol of detectors.

An observation is a tuple, because a named object for each record would cost more than the rule.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeAlias

from fraud_agents.rules import Rule
from fraud_agents.windows import Contribution
from schemas.events import FraudAlert, Leg

FIELDS: Final = (
    "event_id",
    "brand",
    "provider",
    "region",
    "player_id",
    "legs",
    "game_id",
    "occurred_at",
    "provider_at",
    "received_at",
)
"""Fields of a WalletTransaction in the order of an Observation, for `schemas.codec.decoder`."""

Observation: TypeAlias = tuple[
    str, str, str, str, str | None, list[Leg], str | None, int, int | None, int | None
]


def has_clamped_time(event: Observation) -> bool:
    """Return whether the normaliser moved the event's time forward: the event is older.

    Its clock's time was further before the append than the provider's tolerance, so the normaliser
    moved it forward to that limit. A back-fill of a day would appear within the minutes in which it
    was delivered.
    """
    _, _, _, _, _, _, _, occurred_at, provider_at, received_at = event
    clock_time = received_at if provider_at is None else provider_at
    return clock_time is not None and clock_time < occurred_at


class Detector(Protocol):
    """One rule over one partition of the log.

    It is pure, so that state and alerts follow from the records alone.
    """

    rule: Rule

    def observe(self, event: Observation, offset: int) -> FraudAlert | None:
        """Take in the record at `offset`; each offset once, in the order of the log."""

    def contributions(self, key: str, start_ms: int, end_ms: int) -> list[Contribution]:
        """Return the retained events of a key in [start_ms, end_ms), by event time.

        Explanations of alerts need them.
        """

    def state(self) -> bytes:
        """Return everything that future answers depend on; equal states give equal bytes."""

    def restore(self, state: bytes) -> None:
        """Take over a state, before the first record.

        Raises ValueError for what is not a state of this detector.
        """
