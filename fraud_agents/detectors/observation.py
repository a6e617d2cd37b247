"""The protocol of detectors, and what they ask of every record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias

from fraud_agents.rules import Rule
from schemas.events import FraudAlert, GameResult, PlayerEvent, RiskSignal, WalletTransaction

Observation: TypeAlias = WalletTransaction | PlayerEvent | GameResult | RiskSignal
"""A record of a topic that detectors read."""


def has_clamped_time(event: WalletTransaction | PlayerEvent | GameResult) -> bool:
    """Return whether the normaliser moved the event's time forward: the event is older.

    Its clock's time was further before the append than the provider's tolerance, so the normaliser
    moved it forward to that limit. A back-fill of a day would appear within the minutes in which it
    was delivered.
    """
    clock_time = event.received_at if event.provider_at is None else event.provider_at
    return clock_time is not None and clock_time < event.occurred_at


class Detector(Protocol):
    """One rule over one partition of a topic.

    It is pure, so that state and alerts follow from the records alone.
    """

    rule: Rule
    kinds: ClassVar[frozenset[str] | None]
    """Kinds of legs, or types of player events, that it looks at; None for every record."""
    topic: ClassVar[str]
    sees_repeats: ClassVar[bool]
    """Whether it is shown events whose id was there before."""
    watermark_ms: int
    """Newest event time of the partition: set before each record."""

    def observe(self, event: Any, offset: int) -> Sequence[FraudAlert]:
        """Take in the record at `offset`; each offset once, in the order of the log."""

    @property
    def next_due_ms(self) -> int:
        """Event time of its first timer; it is advanced then, and once a minute."""

    def advance(self, watermark_ms: int) -> Sequence[FraudAlert]:
        """Raise the watermark and return what is due."""

    def close_cases(self, is_kept: Callable[[FraudAlert], bool]) -> Sequence[FraudAlert]:
        """Forget the open alerts that are not kept, and return the records that close them."""

    def state(self) -> bytes:
        """Return everything that future answers depend on; equal states give equal bytes."""

    def restore(self, state: bytes) -> None:
        """Take over a state, before the first record.

        Raises ValueError for what is not a state of this detector.
        """
