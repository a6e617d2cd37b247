"""Every metric that a worker shows: name, type, unit, meaning, labels, and how many series at most.

Names are those of the OpenTelemetry semantic conventions 1.44 where they have one (messaging, whose
status there is still "Development", and process), else ours under `pitboss.`. A metric that is not
declared here cannot be recorded, and series beyond the bound are left out (`meters.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

MESSAGING_BUCKETS_S: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5),
    *(0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
"""Bounds of the buckets of a duration, s: those of the conventions."""

ALL_ROLES: Final = ("normalise", "ledger", "resolve", "fraud", "drift", "gateway", "archive")
INTAKE_ROLES: Final = ("normalise", "ledger", "resolve", "fraud", "drift")
_PARTITIONS: Final = 2_048
"""Topic-partitions of one worker: 14 raw topics of 6 partitions are 84, the log has 24."""
_PROVIDERS: Final = 32


class MetricType(StrEnum):
    """How the values of a metric change."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Metric:
    """One declared metric."""

    name: str
    type: MetricType
    unit: str
    """In UCUM, as OpenTelemetry writes units: `s`, `By`, `{record}`."""
    meaning: str
    labels: tuple[str, ...]
    series_max: int
    """Bound of the cardinality: combinations of label values of one worker."""
    bound: str
    """What the bound follows from."""
    roles: tuple[str, ...] = ALL_ROLES

    @property
    def prometheus_name(self) -> str:
        """Name in Prometheus text, by the rules of OpenTelemetry's compatibility specification."""
        words = self.name.replace(".", "_")
        suffix = {"s": "_seconds", "By": "_bytes"}.get(self.unit, "")
        total = "_total" if self.type is MetricType.COUNTER else ""
        return f"{words}{'' if words.endswith(suffix) else suffix}{total}"

    def as_json(self) -> dict[str, Any]:
        """Return the declaration as one JSON object."""
        return {
            "name": self.name,
            "prometheus_name": self.prometheus_name,
            "type": str(self.type),
            "unit": self.unit,
            "meaning": self.meaning,
            "labels": list(self.labels),
            "cardinality_bound": self.series_max,
            "bound": self.bound,
            "roles": list(self.roles),
        }


def _counter(name: str, unit: str, meaning: str, **kwargs: Any) -> Metric:
    return _declare(name, MetricType.COUNTER, unit, meaning, **kwargs)


def _gauge(name: str, unit: str, meaning: str, **kwargs: Any) -> Metric:
    return _declare(name, MetricType.GAUGE, unit, meaning, **kwargs)


def _declare(
    name: str,
    type_: MetricType,
    unit: str,
    meaning: str,
    labels: Iterable[str] = (),
    series_max: int = 1,
    bound: str = "one",
    roles: Iterable[str] = ALL_ROLES,
) -> Metric:
    return Metric(name, type_, unit, meaning, tuple(labels), series_max, bound, tuple(roles))


_TOPIC: Final = "messaging.destination.name"
_PARTITION: Final = "messaging.destination.partition.id"
_GROUP: Final = "messaging.consumer.group.name"
_PLACE: Final[Mapping[str, Any]] = {
    "labels": (_GROUP, _TOPIC, _PARTITION),
    "series_max": _PARTITIONS,
    "bound": "the partitions that the worker holds",
    "roles": INTAKE_ROLES,
}
_OF_TOPIC: Final[Mapping[str, Any]] = {
    "labels": (_GROUP, _TOPIC),
    "series_max": 64,
    "bound": "the topics that the role reads",
    "roles": INTAKE_ROLES,
}

METRICS: Final = (
    _declare(
        "messaging.process.duration",
        MetricType.HISTOGRAM,
        "s",
        "How long a batch of records took from the agent until its effects were durable; with "
        "error.type where it is tried again",
        labels=(_GROUP, _TOPIC, "error.type"),
        series_max=256,
        bound="the topics that the role reads, times the codes of errors that are tried again",
        roles=INTAKE_ROLES,
    ),
    _counter(
        "messaging.client.consumed.messages",
        "{message}",
        "Records whose effects are durable",
        **_OF_TOPIC,
    ),
    _counter(
        "messaging.client.sent.messages",
        "{message}",
        "Records that the broker has acknowledged; of a send that fails the worker ends",
        labels=(_TOPIC,),
        series_max=64,
        bound="the topics that the role writes",
        roles=(*INTAKE_ROLES, "gateway"),
    ),
    _gauge(
        "pitboss.lag.records",
        "{record}",
        "Offsets from the last durable record to the end of the log",
        **_PLACE,
    ),
    _gauge(
        "pitboss.lag",
        "s",
        "Age of the oldest record that is not durable yet, by the broker's time of its append; 0 "
        "where nothing waits",
        **_PLACE,
    ),
    _gauge(
        "pitboss.partition.waiting",
        "1",
        "1 where a partition waits for something, such as a database or the end of a pause; "
        "`pitboss status` says for what",
        **_PLACE,
    ),
    _counter(
        "pitboss.normalise.records",
        "{record}",
        "Raw records that were read",
        roles=("normalise",),
    ),
    _counter(
        "pitboss.normalise.events",
        "{event}",
        "Events by provider and by the version of its messages that they were read as",
        labels=("provider", "version"),
        series_max=128,
        bound="the versions of the providers' dialects",
        roles=("normalise",),
    ),
    _counter(
        "pitboss.normalise.rejected",
        "{item}",
        "Items of raw records that were rejected, by code",
        labels=("code",),
        series_max=64,
        bound="the codes of rejections",
        roles=("normalise",),
    ),
    _counter(
        "pitboss.normalise.fallbacks",
        "{item}",
        "Items that only another version than the expected one could read",
        labels=("provider", "expected", "used"),
        series_max=256,
        bound="pairs of versions of a provider",
        roles=("normalise",),
    ),
    _counter(
        "pitboss.dead_letters",
        "{letter}",
        "Dead letters that were written, by the topic of their record and by code",
        labels=(_TOPIC, "code"),
        series_max=2_048,
        bound="the topics that the role reads, times the codes of rejections",
        roles=INTAKE_ROLES,
    ),
    _counter(
        "pitboss.ledger.outcomes",
        "{attempt}",
        "Attempts that the ledger answered, by outcome and reason; EXISTS are doubles",
        labels=("outcome", "reason"),
        series_max=256,
        bound="the outcomes with their reasons, as docs/reference/outcomes.md lists them",
        roles=("ledger",),
    ),
    _declare(
        "pitboss.decision.duration",
        MetricType.HISTOGRAM,
        "s",
        "From the append of a raw record to the acknowledgement of its outcome, by outcome; with "
        "the trace of a kept event of each bucket by OTLP",
        labels=("outcome",),
        series_max=32,
        bound="the outcomes",
        roles=("ledger",),
    ),
    _gauge(
        "pitboss.ledger.imbalance",
        "{currency}",
        "Currencies whose accounts did not sum to zero at the last check: 0, or money was made or "
        "lost",
        roles=("ledger",),
    ),
    _counter(
        "pitboss.fraud.alerts",
        "{alert}",
        "Alerts and their revisions, by rule and severity",
        labels=("rule", "severity"),
        series_max=256,
        bound="the rules, times the severities",
        roles=("fraud",),
    ),
    _counter(
        "pitboss.fraud.late",
        "{record}",
        "Records that came too late for the detectors over several partitions, each a LATE record "
        "of risk.signals.v1: behind the newest of their own partition, or behind the announcement "
        "that it was idle",
        labels=("topic", "after"),
        series_max=6,
        bound="the watched topics, times the two reasons",
        roles=("fraud",),
    ),
    _counter(
        "pitboss.gateway.calls",
        "{call}",
        "Calls of providers",
        labels=("provider",),
        series_max=_PROVIDERS,
        bound="the providers",
        roles=("gateway",),
    ),
    _counter(
        "pitboss.gateway.endings",
        "{call}",
        "Calls by how they ended",
        labels=("ending",),
        series_max=128,
        bound="the endings and the reasons of refusals",
        roles=("gateway",),
    ),
    _declare(
        "http.server.request.duration",
        MetricType.HISTOGRAM,
        "s",
        "How long a provider waited for the answer to a call",
        labels=("provider", "http.response.status_code"),
        series_max=_PROVIDERS * 16,
        bound="the providers, times the statuses of answers",
        roles=("gateway",),
    ),
    _gauge(
        "pitboss.archive.position",
        "{offset}",
        "Offset up to which a partition is archived",
        labels=(_TOPIC, _PARTITION),
        series_max=_PARTITIONS,
        bound="the partitions of all archived topics",
        roles=("archive",),
    ),
    _counter(
        "pitboss.archive.passes",
        "{pass}",
        "Passes over all archived partitions that ended without an error; they come every 30 s or "
        "more often",
        roles=("archive",),
    ),
    _counter(
        "pitboss.drift.checked",
        "{record}",
        "Records that were compared with their declared schema",
        labels=("provider",),
        series_max=_PROVIDERS,
        bound="the providers",
        roles=("drift",),
    ),
    _counter(
        "pitboss.drift.shapes",
        "{shape}",
        "New shapes of messages that were published",
        roles=("drift",),
    ),
    _counter("process.cpu.time", "s", "CPU time of the worker, user and system"),
    _gauge("process.memory.usage", "By", "Resident memory of the worker"),
    _gauge("pitboss.worker.start.time", "s", "Epoch time at which the worker started"),
    _gauge(
        "pitboss.disk.free",
        "By",
        "Free space of the disk that holds PITBOSS_HOME, as the worker's account may use it",
    ),
    _gauge("pitboss.disk.free.min", "By", "PITBOSS_DISK_FREE_MIN_MB, in bytes"),
    _counter(
        "pitboss.telemetry.spans",
        "{span}",
        "Spans that were kept for the collector, and how many were dropped",
        labels=("state",),
        series_max=2,
        bound="kept and dropped",
    ),
    _counter(
        "pitboss.telemetry.dropped.series",
        "{series}",
        "Series that were left out because their metric had reached its bound",
        labels=("metric",),
        series_max=64,
        bound="the metrics",
    ),
)
"""Every metric, in the order of the reference page."""

BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in METRICS}


def metrics_of(role: str) -> list[Metric]:
    """Return the metrics that a role shows. Raises ValueError for an unknown role."""
    if role not in ALL_ROLES:
        message = f"{role!r} is not a role of a worker"
        raise ValueError(message)
    return [metric for metric in METRICS if role in metric.roles]


def format_metrics() -> str:
    """Return the table of the reference page, as Markdown."""
    lines = [
        "| metric | in Prometheus | type | unit | labels | series at most | roles | meaning |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for metric in METRICS:
        roles = "all" if metric.roles == ALL_ROLES else ", ".join(metric.roles)
        cells = (
            f"`{metric.name}`",
            f"`{metric.prometheus_name}`",
            str(metric.type),
            f"`{metric.unit}`",
            ", ".join(f"`{label}`" for label in metric.labels),
            f"{metric.series_max:,}: {metric.bound}",
            roles,
            metric.meaning,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
