"""Metrics as text for Prometheus, version 0.0.4 of its exposition format.

Names and units follow OpenTelemetry's "Prometheus and OpenMetrics Compatibility". A renderer of our
own, and not opentelemetry-exporter-prometheus: that one is a beta over the instruments of the SDK,
keeps a second registry in every process, and leaves exemplars out as the format does (they go by
OTLP).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, Metric, MetricsData

from runtime.telemetry.catalogue import BY_NAME

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def format_exposition(data: MetricsData) -> str:
    """Return the text of a scrape."""
    return "".join(f"{line}\n" for metric in _metrics_of(data) for line in _lines_of(metric))


def _metrics_of(data: MetricsData) -> Iterator[Metric]:
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            yield from scope.metrics


def _lines_of(metric: Metric) -> Iterator[str]:
    declared = BY_NAME[metric.name]
    name = declared.prometheus_name
    yield f"# HELP {name} {declared.meaning}"
    yield f"# TYPE {name} {declared.type}"
    if isinstance(metric.data, Histogram):
        for point in metric.data.data_points:
            yield from _buckets(name, point)
        return
    for number in metric.data.data_points:
        assert not isinstance(number, HistogramDataPoint)
        yield f"{name}{_labels(number.attributes)} {_number(number.value)}"  # type: ignore[union-attr]


def _buckets(name: str, point: HistogramDataPoint) -> Iterator[str]:
    bounds: Sequence[float | str] = [*point.explicit_bounds, "+Inf"]
    for bound, count in zip(bounds, accumulate(point.bucket_counts), strict=True):
        edge = bound if isinstance(bound, str) else _number(bound)
        yield f"{name}_bucket{_labels(point.attributes, (('le', edge),))} {count}"
    yield f"{name}_sum{_labels(point.attributes)} {_number(point.sum)}"
    yield f"{name}_count{_labels(point.attributes)} {point.count}"


def _labels(attributes: Mapping[str, Any] | None, more: Iterable[tuple[str, str]] = ()) -> str:
    pairs = [(name.replace(".", "_"), str(value)) for name, value in (attributes or {}).items()]
    texts = [f'{name}="{value.translate(_ESCAPES)}"' for name, value in (*pairs, *more)]
    return f"{{{','.join(texts)}}}" if texts else ""


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
