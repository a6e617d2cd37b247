"""Which shapes were told already, and how many more may be: pure but for its memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from schemas.events import SchemaDrift
from streams.drift.checking import SIGNATURE_REJECTIONS

SHAPES_MAX: Final = 200
"""Of one provider, version and event. A provider that sends names or values of its own making in
each record would otherwise fill the topic; who looks at 200 shapes of one message has seen enough.
"""

_UNSIGNED: Final = frozenset(code.value for code in SIGNATURE_REJECTIONS)
_Budget = tuple[str, str, str, bool]


class PublishedShapes:
    """The ids of told shapes.

    Records with a wrong signature have a budget of their own: a stranger's cannot use up the
    provider's.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._ids: set[str] = set()
        self._counts: Counter[_Budget] = Counter()
        self.over_budget: Counter[_Budget] = Counter()
        """New shapes beyond the budget, by what the budget is of: they are not told."""

    def __len__(self) -> int:
        return len(self._ids)

    def has(self, drift_id: str) -> bool:
        """Whether this shape was told."""
        return drift_id in self._ids

    def learn(self, drift: SchemaDrift) -> None:
        """Take one in that is on the topic."""
        if drift.drift_id not in self._ids:
            self._ids.add(drift.drift_id)
            self._counts[_budget(drift)] += 1

    def take_new(self, drifts: Iterable[SchemaDrift]) -> list[SchemaDrift]:
        """Those that are to be told; from now on they are known."""
        told = []
        for drift in drifts:
            if drift.drift_id in self._ids:
                continue
            budget = _budget(drift)
            if self._counts[budget] >= SHAPES_MAX:
                self.over_budget[budget] += 1
                continue
            self.learn(drift)
            told.append(drift)
        return told

    def forget(self, drifts: Iterable[SchemaDrift]) -> None:
        """They could not be told after all."""
        for drift in drifts:
            if drift.drift_id in self._ids:
                self._ids.remove(drift.drift_id)
                self._counts[_budget(drift)] -= 1


def _budget(drift: SchemaDrift) -> _Budget:
    return drift.provider, drift.provider_version, drift.event, drift.rejected in _UNSIGNED
