"""Detection of quiescence: everything is normalised, booked, published and checked for fraud."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from fraud_agents.settings import GROUP as FRAUD_GROUP
from ledger_sink.resolve.barriers import has_passed
from ledger_sink.resolve.progress import KafkaPipelineProgress
from ledger_sink.store.database import LedgerDatabase
from pitboss.settings import Runtime
from runtime.postgres.roles import Role
from schemas.errors import Stalled, Unavailable
from schemas.topics import (
    GAME_RESULTS,
    PLAYER_EVENTS,
    SIGNALS,
    TRANSACTIONS,
    UNRESOLVED,
)
from streams.normalise.handler import NAME as NORMALISE_GROUP

_POLL_S = 0.1


@dataclass(frozen=True)
class DemoProgress:
    """Progress in booked records of the log; `waits_for` is empty once nothing is in progress."""

    booked_records: int
    waits_for: str


class QuiescenceMonitor:
    """Monitor of the pipeline's positions.

    It reads the broker's offsets and the database's rows and does not rely on workers' reports.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._fraud_group = runtime.group(FRAUD_GROUP)
        self._log = runtime.topic(TRANSACTIONS)
        self._watched = [runtime.topic(name) for name in (PLAYER_EVENTS, GAME_RESULTS, SIGNALS)]
        self._unresolved = runtime.topic(UNRESOLVED)
        self._database = LedgerDatabase(runtime.database_url, "pitboss.demo", role=Role.AUDITOR)
        self._kafka = KafkaPipelineProgress(runtime.broker, runtime.namespace, NORMALISE_GROUP)

    async def __aenter__(self) -> Self:
        """Connect."""
        await self._kafka.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._kafka.stop()
        await self._database.close()

    async def read_booked_records(self) -> int:
        """Return how many records of the log the ledger has committed."""
        [(booked,)] = await self._database.query(
            "SELECT coalesce(sum(next_offset), 0)::bigint FROM stream_position"
            " WHERE consumer = 'ledger'"
        )
        return int(booked)

    async def read_progress(self) -> DemoProgress:
        """Return what is still in progress, in the order in which records flow."""
        raw_ends = await self._kafka.raw_ends()
        if not has_passed(raw_ends, await self._kafka.normalised_offsets()):
            return DemoProgress(await self.read_booked_records(), "the normaliser")
        rows = await self._database.query(
            "SELECT consumer, topic, part, next_offset, published_offset FROM stream_position"
        )
        resolved = {
            f"{topic}-{partition}": next_offset
            for consumer, topic, partition, next_offset, _ in rows
            if consumer == "resolve"
        }
        if not has_passed(await self._kafka.end_offsets([self._unresolved]), resolved):
            return DemoProgress(await self.read_booked_records(), "the resolver")
        [(waiting,)] = await self._database.query("SELECT count(*) FROM parked WHERE NOT appended")
        if waiting:
            return DemoProgress(
                await self.read_booked_records(), f"the players of {waiting} parked events"
            )
        ends = await self._kafka.log_ends()
        for name, column in (("the ledger", 3), ("the publisher", 4)):
            offsets = {f"{row[1]}-{row[2]}": row[column] for row in rows if row[0] == "ledger"}
            if not has_passed(ends, offsets):
                return DemoProgress(await self.read_booked_records(), name)
        ends = {**ends, **await self._kafka.end_offsets(self._watched)}
        if not has_passed(ends, await self._kafka.committed_offsets(self._fraud_group)):
            return DemoProgress(await self.read_booked_records(), "the fraud agents")
        return DemoProgress(await self.read_booked_records(), "")

    async def wait_until_quiet(
        self, stall_s: float, on_progress: Callable[[DemoProgress], None]
    ) -> None:
        """Return once nothing is in progress.

        Raises Stalled, which names what it waited for, if nothing was booked for `stall_s`.
        """
        booked, moved_s = 0, time.monotonic()
        while True:
            try:
                progress = await self.read_progress()
            except Unavailable as error:  # a server that has just started or died answers soon
                progress = DemoProgress(0, str(error))
            on_progress(progress)
            if not progress.waits_for:
                return
            if progress.booked_records > booked:
                booked, moved_s = progress.booked_records, time.monotonic()
            elif time.monotonic() - moved_s > stall_s:
                raise Stalled(
                    f"nothing was booked for {stall_s:.0f} s, but not all is settled: waiting for "
                    f"{progress.waits_for}; see the workers' logs"
                )
            await asyncio.sleep(_POLL_S)
