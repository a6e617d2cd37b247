"""What has come in and is not booked yet, and the barriers of events that wait for it too long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

import psycopg

from ledger_sink.resolve.barriers import (
    NAMES_SHOWN,
    OLD_AFTER_S,
    EndOffsets,
    OpenBarrier,
    describe_wait,
    relevant_ends,
    short_of,
)
from ledger_sink.resolve.progress import KafkaPipelineProgress
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements
from pitboss.settings import Runtime
from runtime.postgres.roles import Role
from schemas.errors import Unavailable, UsageError
from schemas.topics import TRANSACTIONS, UNRESOLVED
from streams.normalise.handler import NAME as NORMALISE_GROUP

_SQL: Final = statements("resolver")
_APPLICATION: Final = "pitboss.unbooked"
_POLL_S: Final = 0.2


class Unbooked(Unavailable):
    """What came in before is not booked yet, so the ledger does not say how things stand."""

    code: ClassVar[str] = "UNBOOKED"


@dataclass(frozen=True)
class OldBarrier:
    """Events without a player that have waited for long."""

    events: int
    age_s: float
    waits_for: list[str]
    """Places, each with how far it is."""
    sentence: str


async def read_old_barriers(
    runtime: Runtime, older_than_s: float = OLD_AFTER_S
) -> list[OldBarrier]:
    """Return the barriers that are older, the oldest first. Raises Unavailable, RightsMissing."""
    async with _reader(runtime) as database:
        try:
            rows = await database.query(_SQL["old_barriers"], {"older_than_s": older_than_s})
        except UsageError as error:
            if isinstance(error.__cause__, psycopg.errors.UndefinedTable):
                return []  # not provisioned yet
            raise
        barriers = [OpenBarrier(*row) for row in rows]
        if not barriers:
            return []
        booked = await _booked_offsets(database, runtime)
        async with _progress(runtime, None) as progress:
            normalised = await progress.normalised_offsets()
    found = []
    for barrier in barriers:
        waits_for = barrier.waits_for(normalised, booked)
        sentence = describe_wait(barrier, waits_for)
        found.append(OldBarrier(barrier.events, barrier.age_s, waits_for, sentence))
    return found


def list_old_barriers(runtime: Runtime) -> list[OldBarrier]:
    """Return the old barriers of an installation.

    Raises Unavailable, RightsMissing, and UsageError where its tables are of an older release.
    """
    return asyncio.run(read_old_barriers(runtime))


async def wait_until_booked(
    runtime: Runtime,
    providers: Collection[str] | None,
    provider: str | None = None,
    *,
    timeout_s: float,
) -> None:
    """Return once everything is booked that was in the topics when this was called.

    These are the two barriers of the resolver: what is in the raw topics of `providers` (None: of
    all) is normalised, and after that, what is in the log and the unresolved topic is booked. With
    `provider` only that one's raw topic and the cashier's count. Raises Unbooked, which names what
    lags after `timeout_s`, and Unavailable.
    """
    deadline = time.monotonic() + timeout_s
    async with _reader(runtime) as database, _progress(runtime, providers) as progress:
        raw_ends = relevant_ends(await progress.raw_ends(), provider)
        await _reach("normalised", raw_ends, progress.normalised_offsets, deadline)

        async def booked() -> EndOffsets:
            return await _booked_offsets(database, runtime)

        await _reach("parked", await progress.unresolved_ends(), booked, deadline)
        while rows := await database.query(_SQL["about_to_be_appended"]):
            if time.monotonic() > deadline:
                raise _unbooked("appended to the log", [f"{rows[0][0]} events of the resolver"])
            await asyncio.sleep(_POLL_S)
        await _reach("booked", await progress.log_ends(), booked, deadline)


async def _reach(
    verb: str, ends: EndOffsets, reached: Callable[[], Awaitable[EndOffsets]], deadline: float
) -> None:
    while True:
        positions = await reached()
        if not (short := short_of(ends, positions)):
            return
        if time.monotonic() > deadline:
            places = [
                f"{name} (up to {positions.get(name, 0)} of {end})"
                for name, end in sorted(short.items())
            ]
            raise _unbooked(verb, places)
        await asyncio.sleep(_POLL_S)


def _unbooked(verb: str, places: list[str]) -> Unbooked:
    shown = ", ".join(places[:NAMES_SHOWN])
    more = f" and {len(places) - NAMES_SHOWN} more" if len(places) > NAMES_SHOWN else ""
    return Unbooked(
        f"not all that has come in is {verb} yet: {shown}{more}. A win that waits there may name a"
        " bet that looks open, so nothing is proposed; see `pitboss topics lag`, and try again"
        " when it is booked"
    )


async def _booked_offsets(database: LedgerDatabase, runtime: Runtime) -> dict[str, int]:
    topics = {"log": runtime.topic(TRANSACTIONS), "unresolved": runtime.topic(UNRESOLVED)}
    rows = await database.query(_SQL["positions"], topics)
    return {f"{topic}-{partition}": offset for topic, partition, offset in rows}


def _progress(runtime: Runtime, providers: Collection[str] | None) -> KafkaPipelineProgress:
    servers = runtime.broker
    return KafkaPipelineProgress(servers, runtime.namespace, NORMALISE_GROUP, providers)


@asynccontextmanager
async def _reader(runtime: Runtime) -> AsyncIterator[LedgerDatabase]:
    database = LedgerDatabase(runtime.database_url, _APPLICATION, role=Role.AUDITOR)
    try:
        yield database
    finally:
        await database.close()
