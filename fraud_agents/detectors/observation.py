"""What detectors read of a canonical record: a tuple, because a named object a record would cost
more than the rule.
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
"""Fields of a WalletTransaction, in the order of an Observation; given to `schemas.codec.decoder`.
"""

Observation: TypeAlias = tuple[
    str, str, str, str, str | None, list[Leg], str | None, int, int | None, int | None
]


def has_clamped_time(event: Observation) -> bool:
    """Whether the event is older than its event time says.

    What a clock told was further before the append than the provider's tolerance, so the normaliser
    moved it forward to that border. A back-fill of a day would stand there within the minutes in
    which it was delivered.
    """
    _, _, _, _, _, _, _, occurred_at, provider_at, received_at = event
    told = received_at if provider_at is None else provider_at
    return told is not None and told < occurred_at


class Detector(Protocol):
    """One rule over one partition of the log: pure, so that state and alerts follow from the
    records alone.
    """

    rule: Rule

    def observe(self, event: Observation, offset: int) -> FraudAlert | None:
        """Take in the record at `offset`; each offset once, in the order of the log."""

    def contributions(self, key: str, start_ms: int, end_ms: int) -> list[Contribution]:
        """What the detector holds of a key in [start_ms, end_ms), by event time: for explaining an
        alert.
        """

    def state(self) -> bytes:
        """Everything that future answers depend on; equal states give equal bytes."""

    def restore(self, state: bytes) -> None:
        """Take over a state, before the first record.

        Raises ValueError for what is not a state of this detector.
        """
