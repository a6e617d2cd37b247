"""The values of a worker's metrics, in plain numbers, and as the data model of OpenTelemetry's SDK.

Workers count in dictionaries of their own, which costs nothing more than before; a `MetricSource`
reads them when they are collected. Durations are counted in buckets here: an instrument of the SDK
takes about 18 µs to record one, these about 1 µs. What is collected are the SDK's own data points,
so that its exporters take them as they are.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from runtime.telemetry import catalogue
from runtime.telemetry.catalogue import MESSAGING_BUCKETS_S, MetricType
from runtime.telemetry.samples import Labels, MetricSource
from schemas.errors import InvariantBroken

SCOPE: Final = "pitboss"
DROPPED: Final = "pitboss.telemetry.dropped.series"


@dataclass(slots=True)
class Durations:
    """Durations of one series, counted in buckets."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(MESSAGING_BUCKETS_S) + 1))
    sum_s: float = 0.0
    smallest_s: float = float("inf")
    largest_s: float = 0.0
    exemplars: dict[int, Exemplar] = field(default_factory=dict)
    """The last kept trace of each bucket."""

    def add(self, seconds: float) -> int:
        """Count one, and return its bucket."""
        bucket = bisect_left(MESSAGING_BUCKETS_S, seconds)
        self.counts[bucket] += 1
        self.sum_s += seconds
        self.smallest_s = min(self.smallest_s, seconds)
        self.largest_s = max(self.largest_s, seconds)
        return bucket


class Meters:
    """The metrics of one worker."""

    def __init__(self, role: str, resource: Resource | None = None) -> None:
        """Begin without values. Raises ValueError for an unknown role."""
        self.metrics: Final = catalogue.metrics_of(role)
        self._declared = {metric.name: metric for metric in self.metrics}
        self._resource = resource or Resource.create({"service.name": f"pitboss-{role}"})
        self._sources: list[MetricSource] = []
        self._durations: dict[str, dict[Labels, Durations]] = {}
        self._dropped: dict[str, set[Labels]] = {}
        self._start_ns = time.time_ns()

    def add_source(self, source: MetricSource) -> None:
        """Collect from `source`, too."""
        self._sources.append(source)

    def record(
        self, name: str, labels: Labels, seconds: float, exemplar: tuple[int, int] | None = None
    ) -> None:
        """Count a duration, unless its series is beyond the bound of its metric.

        `exemplar` is the trace and the span of a kept event that took so long.
        """
        series = self._durations.setdefault(name, {})
        durations = series.get(labels)
        if durations is None:
            if len(series) >= self._declared[name].series_max:
                self._dropped.setdefault(name, set()).add(labels)
                return
            durations = series[labels] = Durations()
        bucket = durations.add(seconds)
        if exemplar is not None:
            trace_id, span_id = exemplar
            durations.exemplars[bucket] = Exemplar({}, seconds, time.time_ns(), span_id, trace_id)

    def collect(self) -> MetricsData:
        """Return every metric that has a value. Raises InvariantBroken for an undeclared one."""
        now_ns = time.time_ns()
        values = self._read_sources()
        found = [
            metric
            for declared in self.metrics
            if (metric := self._export(declared, values.get(declared.name, {}), now_ns))
        ]
        scope = ScopeMetrics(InstrumentationScope(SCOPE), found, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])

    def _read_sources(self) -> dict[str, dict[Labels, float]]:
        values: dict[str, dict[Labels, float]] = {}
        for source in self._sources:
            for name, labels, value in source():
                declared = self._declared.get(name)
                if declared is None or len(labels) != len(declared.labels):
                    raise InvariantBroken(f"{name}{labels} is not declared in catalogue.py")
                series = values.setdefault(name, {})
                if labels not in series and len(series) >= declared.series_max:
                    self._note_dropped(name, labels)
                    continue
                series[labels] = series.get(labels, 0) + value
        for name, labels_of in self._dropped.items():
            values.setdefault(DROPPED, {})[name,] = len(labels_of)
        return values

    def _note_dropped(self, name: str, labels: Labels) -> None:
        dropped = self._dropped.setdefault(name, set())
        if len(dropped) < self._declared[name].series_max:
            dropped.add(labels)

    def _export(
        self, declared: catalogue.Metric, values: Mapping[Labels, float], now_ns: int
    ) -> Metric | None:
        cumulative = AggregationTemporality.CUMULATIVE
        data: Histogram | Sum | Gauge
        if declared.type is MetricType.HISTOGRAM:
            durations = self._durations.get(declared.name, {})
            points = [self._histogram(declared, *one, now_ns) for one in durations.items()]
            if not points:
                return None
            data = Histogram(points, cumulative)
        elif not values:
            return None
        else:
            numbers = self._numbers(declared, values, now_ns)
            is_counter = declared.type is MetricType.COUNTER
            data = Sum(numbers, cumulative, is_monotonic=True) if is_counter else Gauge(numbers)
        return Metric(declared.name, declared.meaning, declared.unit, data)

    def _numbers(
        self, declared: catalogue.Metric, values: Mapping[Labels, float], now_ns: int
    ) -> Sequence[NumberDataPoint]:
        return [
            NumberDataPoint(_attributes(declared, labels), self._start_ns, now_ns, value)
            for labels, value in values.items()
        ]

    def _histogram(
        self, declared: catalogue.Metric, labels: Labels, durations: Durations, now_ns: int
    ) -> HistogramDataPoint:
        return HistogramDataPoint(
            _attributes(declared, labels),
            self._start_ns,
            now_ns,
            sum(durations.counts),
            durations.sum_s,
            list(durations.counts),
            MESSAGING_BUCKETS_S,
            durations.smallest_s,
            durations.largest_s,
            list(durations.exemplars.values()),
        )


def _attributes(declared: catalogue.Metric, labels: Labels) -> dict[str, str]:
    return {name: value for name, value in zip(declared.labels, labels, strict=True) if value}
