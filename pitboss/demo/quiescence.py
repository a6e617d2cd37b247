"""Whether everything that was fed is settled: normalised, parked or booked, published, and watched."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from fraud_agents.settings import GROUP as FRAUD_GROUP
from ledger_sink.resolve.progress import KafkaPipelineProgress
from ledger_sink.resolve.resolver import has_passed
from ledger_sink.store.database import LedgerDatabase
from pitboss.settings import Runtime
from runtime.postgres.roles import Role
from schemas.errors import Stalled, Unavailable
from schemas.topics import TRANSACTIONS, UNRESOLVED
from streams.normalise.handler import NAME as NORMALISE_GROUP

_POLL_S = 0.1


@dataclass(frozen=True)
class DemoProgress:
    """How far things are, in records of the log; `waits_for` is empty once nothing is under way."""

    booked_records: int
    waits_for: str


class QuiescenceMonitor:
    """Watches positions from outside: the broker's offsets and the database's rows, no worker's own
    word.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._fraud_group = runtime.group(FRAUD_GROUP)
        self._log = runtime.topic(TRANSACTIONS)
        self._unresolved = runtime.topic(UNRESOLVED)
        self._database = LedgerDatabase(runtime.database_url, "pitboss.demo", role=Role.AUDITOR)
        self._kafka = KafkaPipelineProgress(
            runtime.bootstrap_servers, runtime.namespace, NORMALISE_GROUP
        )

    async def __aenter__(self) -> Self:
        """Connect."""
        await self._kafka.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect."""
        await self._kafka.stop()
        await self._database.close()

    async def read_booked_records(self) -> int:
        """Records of the log that the ledger has committed."""
        [(booked,)] = await self._database.query(
            "SELECT coalesce(sum(next_offset), 0)::bigint FROM stream_position WHERE consumer = 'ledger'"
        )
        return int(booked)

    async def read_progress(self) -> DemoProgress:
        """What is still under way, asked in the order in which it flows."""
        raw_ends = await self._kafka.raw_ends()
        if not has_passed(raw_ends, await self._kafka.normalised_offsets()):
            return DemoProgress(await self.read_booked_records(), "the normaliser")
        rows = await self._database.query(
            "SELECT consumer, topic, part, next_offset, published_offset FROM stream_position"
        )
        resolved = {
            f"{topic}-{part}": done
            for consumer, topic, part, done, _ in rows
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
            done = {f"{row[1]}-{row[2]}": row[column] for row in rows if row[0] == "ledger"}
            if not has_passed(ends, done):
                return DemoProgress(await self.read_booked_records(), name)
        if not has_passed(ends, await self._kafka.committed_offsets(self._fraud_group)):
            return DemoProgress(await self.read_booked_records(), "the fraud agents")
        return DemoProgress(await self.read_booked_records(), "")

    async def wait_until_quiet(
        self, stall_s: float, on_progress: Callable[[DemoProgress], None]
    ) -> None:
        """Return once nothing is under way.

        Raises Stalled, naming what it waited for, where nothing more was booked for so many
        seconds.
        """
        booked, moved_s = 0, time.monotonic()
        while True:
            try:
                progress = await self.read_progress()
            except (
                Unavailable
            ) as error:  # a server that was just started or killed answers in a moment
                progress = DemoProgress(0, str(error))
            on_progress(progress)
            if not progress.waits_for:
                return
            if progress.booked_records > booked:
                booked, moved_s = progress.booked_records, time.monotonic()
            elif time.monotonic() - moved_s > stall_s:
                message = f"nothing was booked for {stall_s:.0f} s, and there is more: waiting for {progress.waits_for}"
                raise Stalled(f"{message}; the workers' logs may say why")
            await asyncio.sleep(_POLL_S)
