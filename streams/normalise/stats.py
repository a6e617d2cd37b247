"""Counts of what a normalising worker did since it started, and the line of its log that tells
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field

from schemas.topics import TRANSACTIONS, UNRESOLVED


@dataclass
class NormaliseStats:
    """Plain counters; a batch is counted once it is durable, a repeated one again.

    `sent` counts events by topic (unqualified) and `versions` by (provider, version) that they were
    read as; `rejected` counts items by code. `clamped` events had a clock that was not believed.
    `fallbacks` counts items by (provider, expected version, version that could read them).
    `telling.StatsLogger` puts them into the log.
    """

    records: int = 0
    clamped: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    versions: Counter[tuple[str, str]] = field(default_factory=Counter)
    fallbacks: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    @property
    def accepted_count(self) -> int:
        """Events that went to the log."""
        return self.sent[TRANSACTIONS]

    @property
    def unresolved_count(self) -> int:
        """Events that went to the resolver's topic."""
        return self.sent[UNRESOLVED]

    def copy(self) -> NormaliseStats:
        """What is counted by now; it does not count on."""
        return deepcopy(self)


def format_delta(now: NormaliseStats, before: NormaliseStats, gap_offsets: int) -> str | None:
    """What was counted in between, in a line; None where nothing was.

    `gap_offsets` are offsets in which the raw topics hold no record, such as the markers of
    transactions.
    """
    records, clamped = now.records - before.records, now.clamped - before.clamped
    sent, rejected = now.sent - before.sent, now.rejected - before.rejected
    parts = []
    if records:
        parts.append(f"{records:,} records")
    if sent:
        parts.append(f"sent {_listed(sent)}")
    if rejected:
        parts.append(f"{rejected.total():,} items rejected ({_listed(rejected)})")
    if clamped:
        parts.append(f"{clamped:,} clocks not believed")
    if gap_offsets:
        parts.append(f"{gap_offsets:,} offsets without a record")
    return "; ".join(parts) or None


def _listed(counts: Mapping[str, int]) -> str:
    """The most first; of equals, by name."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{times:,} {name}" for name, times in ordered)
