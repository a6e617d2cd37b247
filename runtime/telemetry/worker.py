"""Telemetry of one worker: its meters, its batches, its spans, and the services behind them."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from runtime.kafka.agent_loop import BatchObserver
from runtime.kafka.app import PitbossApp
from runtime.kafka.batches import RecordBatch
from runtime.kafka.memory_tuning import resident_bytes
from runtime.telemetry.lag import LagMeter
from runtime.telemetry.meters import Meters
from runtime.telemetry.pages import StartMark, TelemetryPages, WorkerState
from runtime.telemetry.samples import MetricSample, count_samples
from runtime.telemetry.settings import TelemetrySettings

PROCESS_DURATION: Final = "messaging.process.duration"
CONSUMED: Final = "messaging.client.consumed.messages"


class WorkerTelemetry:
    """What a worker records, and where it is collected."""

    def __init__(self, role: str, worker: str) -> None:
        """Begin to record; `worker` names this process among others of its role."""
        self.state = WorkerState(role, worker, time.time())
        self.meters = Meters(role)
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

    def _samples(self) -> Iterator[MetricSample]:
        yield from count_samples(CONSUMED, self._consumed)
        times = os.times()
        yield MetricSample("process.cpu.time", (), times.user + times.system)
        yield MetricSample("process.memory.usage", (), resident_bytes())
        yield MetricSample("pitboss.worker.start.time", (), self.state.started_at_s)


def attach_telemetry(
    app: PitbossApp, role: str, worker: str, settings: TelemetrySettings
) -> TelemetryPages | None:
    """Record what an app does, and show it; return its pages. Changes nothing where it is off."""
    if not settings.is_on:
        return None
    telemetry = WorkerTelemetry(role, worker)
    app.observe(telemetry)
    lag = LagMeter(app.watchdogs)
    telemetry.meters.add_source(lag.samples)
    pages = None
    if settings.port is not None:
        pages = TelemetryPages(settings.port, telemetry.state, telemetry.meters, lag)
        # Answers while the others start, and while they drain.
        app.supervise(pages, is_first=True)
    app.supervise(StartMark(telemetry.state))
    return pages
