"""Events that a partition has had before, by id: they are shown to few detectors. Pure.

A provider sends an event again with another time, so a copy after a round was closed would look
like a bet placed too late, and stakes would count twice. An id is remembered for one to two periods
of the partition's event time, in two generations, as a number of 64 bits: that is 8 bytes of a
snapshot for each event.
"""

from __future__ import annotations

import sys
from array import array
from hashlib import blake2b
from typing import Final

import msgspec

PERIOD_MS: Final = 600_000
"""Providers repeat within minutes."""


class RepeatState(msgspec.Struct, frozen=True, array_like=True):
    """Snapshot: the ids of both generations as sorted 8-byte little-endian integers."""

    rotate_ms: int
    current: bytes
    previous: bytes


class RepeatFilter:
    """The ids of one partition's recent events."""

    def __init__(self) -> None:
        self._current: set[int] = set()
        self._previous: set[int] = set()
        self._rotate_ms = 0

    def is_repeat(self, event_id: str, watermark_ms: int) -> bool:
        """Return whether the event was there before; remember it."""
        if watermark_ms >= self._rotate_ms:
            # After a longer silence both generations are out of date.
            is_next = watermark_ms < self._rotate_ms + PERIOD_MS
            self._previous = self._current if is_next else set()
            self._current = set()
            self._rotate_ms = watermark_ms - watermark_ms % PERIOD_MS + PERIOD_MS
        number = _number_of(event_id)
        if number in self._current or number in self._previous:
            return True
        self._current.add(number)
        return False

    def dump(self) -> RepeatState:
        """Return a snapshot; equal filters give equal ones."""
        return RepeatState(self._rotate_ms, _bytes_of(self._current), _bytes_of(self._previous))

    def restore(self, state: RepeatState) -> None:
        """Take over a snapshot."""
        self._rotate_ms = state.rotate_ms
        self._current, self._previous = _numbers_of(state.current), _numbers_of(state.previous)


def _number_of(event_id: str) -> int:
    try:
        # Hex digits of a UUID outside its version and variant.
        return int(event_id[:8] + event_id[28:36], 16)
    except ValueError:
        return int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest())


def _bytes_of(numbers: set[int]) -> bytes:
    packed = array("Q", sorted(numbers))
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _numbers_of(data: bytes) -> set[int]:
    packed = array("Q")
    packed.frombytes(data)
    if sys.byteorder == "big":
        packed.byteswap()
    return set(packed)
