"""Spans that wait for their export, and the export itself: traces and metrics by OTLP over HTTP.

Spans are made after the fact, from times that are known anyway, so that nothing is made for events
that are not kept. A collector that is away costs spans, never events: the queue is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from mode import Service
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from runtime.telemetry.meters import SCOPE, Meters
from runtime.telemetry.samples import MetricSample
from schemas.errors import UsageError

_LOG = logging.getLogger(__name__)

SPANS_MAX: Final = 8_192
BATCH_SPANS: Final = 512
EXPORT_EVERY_S: Final = 1.0
METRICS_EVERY_S: Final = 15.0
TIMEOUT_S: Final = 5.0
WARN_EVERY_S: Final = 60.0

KINDS: Final[Mapping[str, SpanKind]] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


@dataclass(frozen=True, slots=True)
class FinishedSpan:
    """One step of a trace, in plain values. Times are epoch ns."""

    name: str
    trace_id: int
    span_id: int
    parent_id: int | None
    start_ns: int
    end_ns: int
    kind: str = "internal"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    links: Sequence[tuple[int, int, Mapping[str, Any]]] = ()
    """Trace, span and attributes of each member of a batch."""
    error: str = ""


def messaging_attributes(
    verb: str, topic: str, partition: int | None, offset: int | None
) -> dict[str, str | int]:
    """Return the attributes of the semantic conventions for messaging, 1.44."""
    attributes: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.operation.name": verb,
        "messaging.operation.type": verb,
        "messaging.destination.name": topic,
    }
    if partition is not None:
        attributes["messaging.destination.partition.id"] = str(partition)
    if offset is not None:
        attributes["messaging.kafka.offset"] = offset
    return attributes


class SpanQueue:
    """Spans that are to be exported; of more than fit, the oldest are dropped and counted."""

    def __init__(self, spans_max: int = SPANS_MAX) -> None:
        """Begin empty."""
        self._spans: deque[FinishedSpan] = deque(maxlen=spans_max)
        self.kept = 0
        self.dropped = 0

    def add(self, span: FinishedSpan) -> None:
        """Add a span."""
        self.dropped += len(self._spans) == self._spans.maxlen
        self.kept += 1
        self._spans.append(span)

    def take(self, count: int = BATCH_SPANS) -> list[FinishedSpan]:
        """Take the oldest spans."""
        return [self._spans.popleft() for _ in range(min(count, len(self._spans)))]

    def samples(self) -> Iterator[MetricSample]:
        """Yield the counts as metrics."""
        yield MetricSample("pitboss.telemetry.spans", ("kept",), self.kept)
        yield MetricSample("pitboss.telemetry.spans", ("dropped",), self.dropped)


class Exporter(Protocol):
    """Exports what OpenTelemetry's SDK calls spans or metrics; blocks while it does."""

    def export(self, data: Any, /) -> Any:
        """Export, and return a result whose name is SUCCESS or FAILURE."""
        ...


class OtlpExport(Service):
    """Service that sends spans every second, and metrics every 15 s, to a collector."""

    def __init__(
        self,
        queue: SpanQueue,
        meters: Meters,
        resource: Resource,
        spans: Exporter,
        values: Exporter,
    ) -> None:
        """Prepare to export; `spans` and `values` are exporters of traces and of metrics."""
        super().__init__()
        self._queue = queue
        self._meters = meters
        self._resource = resource
        self._span_exporter = spans
        self._metric_exporter = values
        self._metrics_due_s = time.monotonic() + METRICS_EVERY_S
        self._warned_s = float("-inf")

    @Service.task
    async def _export_loop(self) -> None:
        while not self.should_stop:
            await self.sleep(EXPORT_EVERY_S)
            await self.export_spans()
            if time.monotonic() >= self._metrics_due_s:
                self._metrics_due_s = time.monotonic() + METRICS_EVERY_S
                await self.export_metrics()

    async def on_stop(self) -> None:
        """Send what is left, if the collector takes it soon."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                await self.export_spans()
                await self.export_metrics()

    async def export_spans(self) -> None:
        """Send all spans that wait, until the collector does not take some: these are lost."""
        is_taken = True
        while is_taken and (taken := self._queue.take()):
            spans = [to_sdk_span(span, self._resource) for span in taken]
            is_taken = await self._send(self._span_exporter, spans, f"{len(spans)} spans")

    async def export_metrics(self) -> None:
        """Send the values of all metrics."""
        await self._send(self._metric_exporter, self._meters.collect(), "metrics")

    async def _send(self, exporter: Exporter, data: Any, what: str) -> bool:
        try:
            result = await asyncio.to_thread(exporter.export, data)
            failure = "" if result.name == "SUCCESS" else result.name
        except Exception as error:  # noqa: BLE001 - whatever a collector does, events go on
            failure = repr(error)
        if failure and time.monotonic() - self._warned_s >= WARN_EVERY_S:
            self._warned_s = time.monotonic()
            _LOG.warning("%s are lost, the collector did not take them: %s", what, failure)
        return not failure


def to_sdk_span(span: FinishedSpan, resource: Resource) -> ReadableSpan:
    """Return a span as the exporters of OpenTelemetry's SDK take it."""
    parent = None if span.parent_id is None else _context(span.trace_id, span.parent_id)
    return ReadableSpan(
        span.name,
        _context(span.trace_id, span.span_id),
        parent,
        resource,
        span.attributes,
        links=[Link(_context(trace, member), of) for trace, member, of in span.links],
        kind=KINDS[span.kind],
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
        start_time=span.start_ns,
        end_time=max(span.start_ns, span.end_ns),
        instrumentation_scope=InstrumentationScope(SCOPE),
    )


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(1))


def create_export(
    queue: SpanQueue, meters: Meters, resource: Resource, endpoint: str
) -> OtlpExport:
    """Return the export to a collector, as in http://127.0.0.1:4318.

    Raises UsageError where its library is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise UsageError(
            "PITBOSS_OTLP needs opentelemetry-exporter-otlp-proto-http: install pitboss[telemetry]"
        ) from error
    base = endpoint.rstrip("/")
    return OtlpExport(
        queue,
        meters,
        resource,
        OTLPSpanExporter(endpoint=f"{base}/v1/traces", timeout=TIMEOUT_S),
        OTLPMetricExporter(endpoint=f"{base}/v1/metrics", timeout=TIMEOUT_S),
    )
