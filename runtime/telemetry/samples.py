"""What a part of a worker hands over when its metrics are collected. Loads no library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

Labels: TypeAlias = tuple[str, ...]
"""Values of a metric's labels, in the order in which it declares them."""


class MetricSample(NamedTuple):
    """The value of one series."""

    name: str
    labels: Labels
    value: float


MetricSource: TypeAlias = Callable[[], Iterable[MetricSample]]
"""Returns what a part of a worker has counted until now."""


def count_samples(name: str, counts: Mapping[Any, float]) -> Iterator[MetricSample]:
    """Yield a sample of each of some counts, by their one label or by a tuple of several."""
    for key, count in counts.items():
        yield MetricSample(name, (key,) if isinstance(key, str) else key, count)
