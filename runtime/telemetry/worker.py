"""Telemetry of one worker: its meters, its batches, its spans, and the services behind them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any, Final, Protocol

from opentelemetry.sdk.resources import Resource

from runtime.kafka.agent_loop import BatchObserver
from runtime.kafka.app import PitbossApp
from runtime.kafka.batches import RecordBatch
from runtime.kafka.memory_tuning import resident_bytes
from runtime.kafka.records import RawRecord, readable_headers
from runtime.telemetry.event_spans import (
    MS,
    arrival_hops,
    hop_spans,
    root_span,
    trace_of_event,
)
from runtime.telemetry.lag import LagMeter
from runtime.telemetry.meters import Meters
from runtime.telemetry.pages import StartMark, TelemetryPages, WorkerState
from runtime.telemetry.samples import MetricSample, count_samples
from runtime.telemetry.settings import TelemetrySettings
from runtime.telemetry.spans import FinishedSpan, SpanQueue, create_export, messaging_attributes
from runtime.telemetry.traces import (
    TraceParent,
    find_traceparent,
    parse_traceparent,
    span_id_of,
    trace_id_of,
    trace_id_of_place,
)
from schemas import codec
from schemas.events import AlertStatus, FraudAlert, WalletTransaction
from schemas.topics import TRANSACTIONS

PROCESS_DURATION: Final = "messaging.process.duration"
CONSUMED: Final = "messaging.client.consumed.messages"


class RejectedRecord(Protocol):
    """A record that has become a dead letter."""

    @property
    def record(self) -> RawRecord:
        """The record."""

    @property
    def code(self) -> Any:
        """Why it cannot be used."""

    @property
    def record_index(self) -> int | None:
        """Which item of the record it is about."""


class WorkerTelemetry:
    """What a worker records, and where it is collected."""

    def __init__(self, role: str, worker: str, settings: TelemetrySettings) -> None:
        """Begin to record; `worker` names this process among others of its role."""
        self.settings = settings
        self.state = WorkerState(role, worker, time.time())
        self.resource = Resource.create(
            {
                "service.name": f"pitboss-{role}",
                "service.namespace": "pitboss",
                "service.instance.id": worker or f"{role}-{os.getpid()}",
                "service.version": version("pitboss"),
            }
        )
        self.meters = Meters(role, self.resource)
        self.spans = SpanQueue() if settings.otlp else None
        """Spans that are to be exported; None where no collector is set."""
        if self.spans is not None:
            self.meters.add_source(self.spans.samples)
        self._consumed: Counter[tuple[str, str]] = Counter()
        self.meters.add_source(self._samples)

    def observe_batch(self, group: str) -> BatchObserver:
        """Return the observer of the batches of a consumer group."""
        meters, consumed = self.meters, self._consumed

        def observe(batch: RecordBatch, seconds: float, code: str) -> None:
            meters.record(PROCESS_DURATION, (group, batch.topic, code), seconds)
            if not code:
                consumed[group, batch.topic] += batch.count

        return observe

    def observe_letters(self, rejections: Sequence[RejectedRecord]) -> None:
        """Make a span of each record that has become a dead letter."""
        if self.spans is None:
            return
        now_ns = time.time_ns()
        for rejection in rejections:
            record = rejection.record
            place = f"{record.topic}-{record.partition}@{record.offset}"
            value = find_traceparent(readable_headers(record))
            parent = None if value is None else parse_traceparent(value)
            trace_id = trace_id_of_place(place) if parent is None else parent.trace_id
            span = FinishedSpan(
                f"process {record.topic}",
                trace_id,
                span_id_of(trace_id, f"{self.state.role} letter {place} {rejection.record_index}"),
                None if parent is None else parent.span_id,
                max(0, record.timestamp) * 1_000_000,
                now_ns,
                "consumer",
                {
                    **messaging_attributes(
                        "process", record.topic, record.partition, record.offset
                    ),
                    "error.type": str(rejection.code),
                    "pitboss.kept": "dead-lettered",
                },
                error=str(rejection.code),
            )
            self.spans.add(span)

    def observe_alert(self, alert: FraudAlert, record: RawRecord) -> None:
        """Make a span of an alert in the trace of the record that raised it.

        Of a record of the log, the way up to the log is kept with it. An alert ends at a record
        that may have nothing to do with it, so that record's way is not kept for it.
        """
        if self.spans is None:
            return
        value = find_traceparent(readable_headers(record))
        parent = None if value is None else parse_traceparent(value)
        now_ns = time.time_ns()
        event = None if alert.status == AlertStatus.CLOSED else _event_of_log(record)
        if event is None:
            self.spans.add(
                _alert_span(alert, record, now_ns, *_place_in_trace(alert, record, parent))
            )
            return
        self.spans.add(root_span(event, parent, now_ns, {"pitboss.kept": "alerted"}))
        for span in hop_spans(event, parent, arrival_hops(event, record.timestamp)):
            self.spans.add(span)
        self.spans.add(_alert_span(alert, record, now_ns, *trace_of_event(event, parent)))

    def _samples(self) -> Iterator[MetricSample]:
        yield from count_samples(CONSUMED, self._consumed)
        times = os.times()
        yield MetricSample("process.cpu.time", (), times.user + times.system)
        yield MetricSample("process.memory.usage", (), resident_bytes())
        yield MetricSample("pitboss.worker.start.time", (), self.state.started_at_s)


def _event_of_log(record: RawRecord) -> WalletTransaction | None:
    """Return the event of a record of the log; None for a record of another topic."""
    if f".{record.topic}".endswith(f".{TRANSACTIONS}"):
        return codec.decoder(WalletTransaction)(record.value or b"")
    return None


def _place_in_trace(
    alert: FraudAlert, record: RawRecord, parent: TraceParent | None
) -> tuple[int, int | None]:
    """Return the trace of an alert whose event's way is not known here, and its parent's id."""
    if parent is not None:
        return parent.trace_id, parent.span_id
    if alert.sample_event_ids:
        return trace_id_of(alert.sample_event_ids[-1]), None
    return trace_id_of_place(f"{record.topic}-{record.partition}@{record.offset}"), None


def _alert_span(
    alert: FraudAlert, record: RawRecord, now_ns: int, trace_id: int, parent_id: int | None
) -> FinishedSpan:
    return FinishedSpan(
        f"detect {alert.rule_id}",
        trace_id,
        span_id_of(trace_id, f"alert {alert.alert_id} {alert.revision}"),
        parent_id,
        record.timestamp * MS,
        now_ns,
        "consumer",
        {
            **messaging_attributes("process", record.topic, record.partition, record.offset),
            "pitboss.rule": alert.rule_id,
            "pitboss.severity": alert.severity,
            "pitboss.alert_id": alert.alert_id,
            "pitboss.alert_status": alert.status,
            "pitboss.kept": "alerted",
        },
    )


def attach_telemetry(
    app: PitbossApp, role: str, worker: str, settings: TelemetrySettings
) -> TelemetryPages | None:
    """Record what an app does, and show it; return its pages. Changes nothing where it is off."""
    if not settings.is_on:
        return None
    telemetry = WorkerTelemetry(role, worker, settings)
    app.observe(telemetry)
    lag = LagMeter(app.watchdogs)
    telemetry.meters.add_source(lag.samples)
    for producer in app.producers:
        telemetry.meters.add_source(producer.samples)
    pages = None
    if settings.port is not None:
        pages = TelemetryPages(settings.port, telemetry.state, telemetry.meters, lag)
        # Answers while the others start, and while they drain.
        app.supervise(pages, is_first=True)
    if telemetry.spans is not None:
        export = create_export(telemetry.spans, telemetry.meters, telemetry.resource, settings.otlp)
        # It is stopped after the services whose last spans it sends.
        app.supervise(export, is_first=True)
    app.supervise(StartMark(telemetry.state))
    return pages
