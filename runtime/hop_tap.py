"""A tap for `pitboss bench latency --hops`: when each step of a batch of records ended.

Closed, as it always is outside of that command, a note costs the call of an empty loop a batch, and
nothing a record. Open, it costs a formatted line a batch.
"""

from __future__ import annotations

import atexit
import time
from pathlib import Path
from typing import Final, Literal, TextIO, TypeAlias

HopStep: TypeAlias = Literal[
    "fetched",
    "normalised",
    "produced",
    "taken",
    "grouped",
    "decided",
    "committed",
    "packed",
    "published",
]

_TAPS: Final[list[TextIO]] = []


def open_tap(file: Path) -> None:
    """Write the notes of this process to a file, until it ends."""
    # Block-buffered: a note must not wait for a disk.
    tap = file.open("w", encoding="utf-8", buffering=1 << 16)
    atexit.register(tap.close)
    _TAPS.append(tap)


def note_step(step: HopStep, topic: str, partition: int, first: int, after: int) -> None:
    """Note that a step of the records `[first, after)` of a partition has just ended."""
    for tap in _TAPS:
        tap.write(f"{step} {topic} {partition} {first} {after} {time.time_ns()}\n")
