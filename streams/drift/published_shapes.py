"""Memory of the published shapes, and the budget of further ones: otherwise pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from schemas.events import SchemaDrift
from streams.drift.checking import SIGNATURE_REJECTIONS

SHAPES_MAX: Final = 200
"""Shapes published of one provider, version and event at most. A provider with new names or values
in each record would otherwise fill the topic, and 200 shapes of one message show its drift."""

_UNSIGNED: Final = frozenset(code.value for code in SIGNATURE_REJECTIONS)
_Budget = tuple[str, str, str, bool]


class PublishedShapes:
    """Ids of published shapes.

    Records with a wrong signature have a budget of their own: a stranger's records cannot use up
    the provider's.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._ids: set[str] = set()
        self._counts: Counter[_Budget] = Counter()
        self.over_budget: Counter[_Budget] = Counter()
        """Unpublished shapes beyond the budget, by the key of the budget."""

    def __len__(self) -> int:
        return len(self._ids)

    def has(self, drift_id: str) -> bool:
        """Return whether this shape is published."""
        return drift_id in self._ids

    def learn(self, drift: SchemaDrift) -> None:
        """Add a shape that is on the topic."""
        if drift.drift_id not in self._ids:
            self._ids.add(drift.drift_id)
            self._counts[_budget(drift)] += 1

    def take_new(self, drifts: Iterable[SchemaDrift]) -> list[SchemaDrift]:
        """Return the new shapes to publish, as far as the budget allows, and remember them."""
        taken = []
        for drift in drifts:
            if drift.drift_id in self._ids:
                continue
            budget = _budget(drift)
            if self._counts[budget] >= SHAPES_MAX:
                self.over_budget[budget] += 1
                continue
            self.learn(drift)
            taken.append(drift)
        return taken

    def forget(self, drifts: Iterable[SchemaDrift]) -> None:
        """Forget shapes that could not be published."""
        for drift in drifts:
            if drift.drift_id in self._ids:
                self._ids.remove(drift.drift_id)
                self._counts[_budget(drift)] -= 1


def _budget(drift: SchemaDrift) -> _Budget:
    return drift.provider, drift.provider_version, drift.event, drift.rejected in _UNSIGNED
