"""Counts of what a normalising worker did since it started; telemetry reads them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class NormaliseStats:
    """Plain counters; a batch is counted once it is durable, a repeated one again.

    `accepted` events went to the log, `unresolved` ones to the resolver's topic; `rejected` counts items by code.
    `clamped` events had a clock that was not believed.
    """

    records: int = 0
    accepted: int = 0
    unresolved: int = 0
    clamped: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
