"""The watchdog: ends a worker whose partitions have lag and do not move.

It also has a worker join its group anew where partitions exist that no member of it holds.

A consumer can be stuck without an error, and only lag shows it. The ends of the log come from a
second client, because the high-water mark of a stuck consumer does not move either. That it is
another library than the intake's is an advantage: what one does wrong, the other does not repeat.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition
from mode import Service

from runtime.kafka.broker_queries import (
    fetch_group_commits,
    fetch_held_partitions,
    list_partitions,
)
from runtime.kafka.clients import METADATA_AGE_MS, start_client, stop_client
from runtime.kafka.intake.intake import Intake
from runtime.kafka.stalls import LagSample, OrphanDetector, StallDetector
from runtime.kafka.tasks import crash_on_stray_cancel
from runtime.security import BrokerAddress
from schemas.errors import Stalled, Unavailable

STALLS_SHOWN: Final = 3

T = TypeVar("T")


@dataclass(frozen=True)
class WatchdogSettings:
    """Limits for a lack of progress."""

    broker: BrokerAddress
    stall_ms: int = 60_000
    unheld_stall_ms: int = 120_000
    """For partitions that another worker should hold: its own watchdog acts first."""
    rejoin_every_ms: int = 50_000
    """Twice within `unheld_stall_ms`: a worker joins its group anew before it ends for partitions
    that no member holds."""
    interval_ms: int = 5_000
    answer_timeout_ms: int = 5_000


class Watchdog(Service):
    """Service that compares what the intake has done with the log's ends.

    It raises Stalled, which ends the process.
    """

    def __init__(self, settings: WatchdogSettings, intake: Intake, **kwargs: Any) -> None:
        """Watch over an intake, without connecting."""
        super().__init__(**kwargs)
        self.settings = settings
        self._intake = intake
        self._detector = StallDetector(settings.stall_ms, settings.unheld_stall_ms)
        self._orphan_detector = OrphanDetector(settings.rejoin_every_ms)
        self._consumer: AIOKafkaConsumer | None = None
        self._admin: AIOKafkaAdminClient | None = None

    async def on_start(self) -> None:
        """Connect. Raises Unavailable if no broker answers."""
        server = self.settings.broker
        options = {
            **server.aiokafka_options(),
            "client_id": f"{self._intake.settings.group}.watchdog",
            "metadata_max_age_ms": METADATA_AGE_MS,
            "request_timeout_ms": self.settings.answer_timeout_ms,
        }
        # Committed data only: a transaction that is never ended is not the reader's fault.
        consumer = AIOKafkaConsumer(**options, group_id=None, isolation_level="read_committed")
        await start_client(consumer, server)
        self._consumer = consumer
        admin = AIOKafkaAdminClient(**options)
        await start_client(admin, server)
        self._admin = admin

    @property
    def intake(self) -> Intake:
        """The intake that is watched."""
        return self._intake

    async def fetch_ends(self) -> dict[TopicPartition, int]:
        """Return the ends of the partitions that the intake holds; {} if that is not known."""
        held = [*self._intake.status()]
        if self._consumer is None or not held:
            return {}
        return await self._in_time(self._query_ends(held)) or {}

    async def on_shutdown(self) -> None:
        """Disconnect, after the last query."""
        if self._consumer is not None:
            await stop_client(self._consumer)
        if self._admin is not None:
            await self._admin.close()

    @Service.task
    @crash_on_stray_cancel
    async def _watch(self) -> None:
        while not self.should_stop:
            await self.sleep(self.settings.interval_ms / 1000)
            samples = await self._samples()
            reasons = Counter(s.waiting for s in samples.values() if s.waiting and s.has_lag)
            for reason, count in reasons.items():
                self.log.warning("%d partitions wait: %s", count, reason)
            await self._rejoin_for_orphans(tp for tp, one in samples.items() if not one.is_held)
            stalls = self._detector.observe(time.monotonic_ns() // 1_000_000, samples)
            if stalls and not self.should_stop:
                shown = "; ".join(map(str, stalls[:STALLS_SHOWN]))
                group = self._intake.settings.group
                raise Stalled(f"group {group}, {len(stalls)} partitions: {shown}")

    async def _rejoin_for_orphans(self, unheld: Iterable[TopicPartition]) -> None:
        assert self._admin is not None
        group = self._intake.settings.group
        candidates = set(unheld)
        held = None
        if candidates:
            held = await self._in_time(fetch_held_partitions(self._admin, group))
        orphans = set() if held is None else candidates - held
        if found := self._orphan_detector.observe(time.monotonic_ns() // 1_000_000, orphans):
            shown = ", ".join(f"{tp.topic}-{tp.partition}" for tp in found[:STALLS_SHOWN])
            self.log.warning(
                "no member of %s holds %d partitions (%s …): joining anew", group, len(found), shown
            )
            self._intake.rejoin()

    async def _samples(self) -> dict[TopicPartition, LagSample]:
        unheld = await self._in_time(self._query_unheld()) or {}
        held = self._intake.status()
        ends = await self._in_time(self._query_ends([*held])) or {}
        # While all of our partitions wait or are paused, so do those of other workers; a worker
        # that has not begun cannot say so itself.
        reasons = {status.waiting for status in held.values()}
        waiting = None if None in reasons else next(iter(reasons), None)
        samples = {
            tp: replace(sample, waiting=waiting) for tp, sample in unheld.items() if tp not in held
        }
        for tp, status in held.items():
            samples[tp] = LagSample(
                ends.get(tp), status.reached_offset, is_held=True, waiting=status.waiting
            )
        return samples

    async def _in_time(self, answer: Awaitable[T]) -> T | None:
        try:
            return await asyncio.wait_for(answer, self.settings.answer_timeout_ms / 1000)
        except (KafkaError, TimeoutError, Unavailable) as error:
            self.log.warning("the broker did not report the ends of its logs: %r", error)
            return None

    async def _query_ends(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        assert self._consumer is not None
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(partitions)
        return ends

    async def _query_unheld(self) -> dict[TopicPartition, LagSample]:
        assert self._consumer is not None
        assert self._admin is not None
        topics = self._topics_of_group(await self._consumer.topics())
        held = self._intake.status()
        unheld = [tp for tp in await list_partitions(self._admin, topics) if tp not in held]
        if not unheld:
            return {}
        ends = await self._query_ends(unheld)
        commits = await fetch_group_commits(self._admin, self._intake.settings.group, unheld)
        fresh = [tp for tp in unheld if commits[tp] is None]
        starts = await self._consumer.beginning_offsets(fresh) if fresh else {}
        return {
            tp: LagSample(ends[tp], starts[tp], is_held=False)
            if commit is None
            else LagSample(ends[tp], commit.offset, is_held=False, liveness=commit.metadata)
            for tp, commit in commits.items()
        }

    def _topics_of_group(self, names: Collection[str]) -> set[str]:
        if self._intake.pattern:
            return {name for name in names if re.match(self._intake.pattern, name)}
        return {*names} & {*self._intake.topics}
