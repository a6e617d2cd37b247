"""Lag of the partitions that a worker holds, in records and in seconds.

Seconds are exact, without interpolation: the age of the oldest record that is not durable yet, by
the broker's time of its append. The intake knows that record, in a batch or fetched ahead. Only
where the log goes on and nothing was fetched, as while the broker does not send, the age counts
from when that was seen first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from aiokafka.structs import TopicPartition

from runtime.kafka.intake.assignment import PartitionStatus
from runtime.telemetry.samples import MetricSample

RECORDS: Final = "pitboss.lag.records"
SECONDS: Final = "pitboss.lag"
WAITING: Final = "pitboss.partition.waiting"


class LogWatch(Protocol):
    """What knows an intake and the ends of its logs: the watchdog."""

    @property
    def intake(self) -> Any:
        """The intake."""

    async def fetch_ends(self) -> dict[TopicPartition, int]:
        """Return the ends of the partitions that the intake holds."""
        ...


@dataclass(frozen=True, slots=True)
class PartitionLagNow:
    """Lag of one partition that a worker holds."""

    group: str
    topic: str
    partition: int
    records: int | None
    """None while the start or the end of the partition is not known."""
    seconds: float | None
    waiting: str | None
    """Why nothing moves; None where nothing has to be waited for."""


class LagMeter:
    """Measures the lag of a worker's partitions."""

    def __init__(self, watches: Iterable[LogWatch]) -> None:
        """Measure what these watch."""
        self._watches = tuple(watches)
        self._unfetched_since_ms: dict[TopicPartition, int] = {}
        self.lags: list[PartitionLagNow] = []
        """The lags of the last measurement."""

    @property
    def intakes(self) -> list[Any]:
        """The intakes whose partitions are measured."""
        return [watch.intake for watch in self._watches]

    async def measure(self, now_ms: int) -> list[PartitionLagNow]:
        """Return the lags as of now, which are kept in `lags`; one request to the broker."""
        lags: list[PartitionLagNow] = []
        for watch in self._watches:
            ends = await watch.fetch_ends()
            statuses = watch.intake.status()
            group = watch.intake.settings.group
            lags += self._compare(group, statuses, ends, now_ms)
        self.lags = lags
        return lags

    def _compare(
        self,
        group: str,
        statuses: Mapping[TopicPartition, PartitionStatus],
        ends: Mapping[TopicPartition, int],
        now_ms: int,
    ) -> Iterator[PartitionLagNow]:
        for tp, status in sorted(statuses.items()):
            end, reached = ends.get(tp), status.reached_offset
            records = None if end is None or reached is None else max(0, end - reached)
            seconds = self._age_s(tp, status, records, now_ms)
            yield PartitionLagNow(
                group, tp.topic, tp.partition, records, seconds, status.waiting if records else None
            )

    def _age_s(
        self, tp: TopicPartition, status: PartitionStatus, records: int | None, now_ms: int
    ) -> float | None:
        if status.oldest_ms is not None:
            self._unfetched_since_ms.pop(tp, None)
            return max(0, now_ms - status.oldest_ms) / 1000
        if not records:
            self._unfetched_since_ms.pop(tp, None)
            return None if records is None else 0.0
        return (now_ms - self._unfetched_since_ms.setdefault(tp, now_ms)) / 1000

    def samples(self) -> Iterator[MetricSample]:
        """Yield the metrics of the last measurement."""
        for lag in self.lags:
            labels = (lag.group, lag.topic, str(lag.partition))
            if lag.records is not None:
                yield MetricSample(RECORDS, labels, lag.records)
            if lag.seconds is not None:
                yield MetricSample(SECONDS, labels, lag.seconds)
            yield MetricSample(WAITING, labels, 0 if lag.waiting is None else 1)
