"""What the detectors over signals share: they see them in the order of event time."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import ClassVar, TypeVar

import msgspec

from fraud_agents.detectors.base import Finding, KeyedDetector
from fraud_agents.signals import Signal

S = TypeVar("S", bound=msgspec.Struct)


class Scope(Enum):
    """Which partitions a detector has to see together."""

    PLAYER = "one partition of each topic: all that a player does"
    ALL = "every partition"


class SignalDetector(KeyedDetector[S]):
    """Base of the detectors over signals. Subclasses give `find`."""

    scope: ClassVar[Scope]
    topics: ClassVar[tuple[str, ...]]
    """Topics whose records it has to see merged: it waits for the slowest of them, and no other."""
    signals: ClassVar[frozenset[str]]
    kinds: ClassVar[frozenset[str] | None] = frozenset()
    topic: ClassVar[str] = ""

    def _touch(self, key: str) -> S:
        # How far the watermark advances at a time depends on how the inputs' records interleave, so
        # a key is forgotten by the time of its next signal, not by that of the last sweep.
        states, watermark_ms = self._states, self.watermark_ms
        held = states.get(key)
        if held is not None and held[0] + self.rule.idle_ms >= watermark_ms:
            state: S = held[1]
        else:
            state = self.state_type()
            if held is not None:
                self.note_forgotten(key, held[1])
        states[key] = (watermark_ms, state)
        states.move_to_end(key)
        return state

    def find(self, state: S, event: Signal, offset: int) -> Iterable[Finding]:
        """Take in a signal of `key` and yield what it completes."""
        raise NotImplementedError
