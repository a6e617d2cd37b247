"""Counts of what a normalising worker did since it started; telemetry reads them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from schemas.topics import TRANSACTIONS, UNRESOLVED


@dataclass
class NormaliseStats:
    """Plain counters; a batch is counted once it is durable, a repeated one again.

    `sent` counts events by topic (unqualified) and `versions` by (provider, version) that they were read as;
    `rejected` counts items by code. `clamped` events had a clock that was not believed. `fallbacks` counts items by
    (provider, expected version, version that could read them).
    """

    records: int = 0
    clamped: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    versions: Counter[tuple[str, str]] = field(default_factory=Counter)
    fallbacks: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @property
    def accepted(self) -> int:
        """Events that went to the log."""
        return self.sent[TRANSACTIONS]

    @property
    def unresolved(self) -> int:
        """Events that went to the resolver's topic."""
        return self.sent[UNRESOLVED]
