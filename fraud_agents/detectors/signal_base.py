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
    signals: ClassVar[frozenset[str]]
    kinds: ClassVar[frozenset[str] | None] = frozenset()
    topic: ClassVar[str] = ""

    def find(self, state: S, event: Signal, offset: int) -> Iterable[Finding]:
        """Take in a signal of `key` and yield what it completes."""
        raise NotImplementedError
