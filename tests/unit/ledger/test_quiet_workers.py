"""A worker that has nothing to do asks its database for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from ledger_sink.booking.publisher import Publisher
from ledger_sink.resolve.handler import Sweeper
from ledger_sink.resolve.resolver import Resolver
from schemas.errors import Unavailable


class Database:
    """Counts the statements, and answers those of a sweep with what waits."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.parameters: list[Mapping[str, Any]] = []
        self.waiting: list[tuple[int, str, int, None]] = []
        self.failure: Exception | None = None

    async def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        if self.failure is not None:
            raise self.failure
        self.statements.append(statement)
        self.parameters.append(parameters or {})
        return list(self.waiting) if "FILTER" in statement else []

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        yield Connection(self)

    async def close(self) -> None:
        pass


class Connection:
    """The connection of a sweep, whose statements go to the database above."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pipeline(self) -> Any:
        return nullcontext()

    async def execute(self, statement: str, parameters: Mapping[str, Any]) -> Any:
        rows = await self._database.query(statement, parameters)
        return SimpleNamespace(fetchall=partial(asyncio.sleep, 0, rows))


async def nothing(*_: Any) -> None:
    pass


def resolver_of(database: Database) -> Resolver:
    return Resolver(
        database,  # type: ignore[arg-type]  # the part of its interface that a sweep uses
        nothing,
        None,  # type: ignore[arg-type]  # no barrier is raised: none of these events lacks one
        topic="unresolved",
        log_topic="log",
        min_age_ms=0,
    )


async def test_a_sweep_that_leaves_nothing_is_the_last_until_there_is_work():
    database = Database()
    resolver = resolver_of(database)
    resolver.take_over({0: 1})
    sweeper = Sweeper(resolver, database, interval_ms=1)  # type: ignore[arg-type]  # as above
    await sweeper.start()
    async with asyncio.timeout(60):
        while not database.statements or resolver.has_work.is_set():  # noqa: ASYNC110  # plain lists
            await asyncio.sleep(0.001)
        swept = len(database.statements)
        await asyncio.sleep(0.05)  # fifty intervals
        assert len(database.statements) == swept
        database.waiting = [(0, "hub88", 1, None)]
        resolver.take_over({1: 1})
        while len(database.statements) < 4 * swept:  # noqa: ASYNC110  # what waits is swept again and again
            await asyncio.sleep(0.001)
    await sweeper.stop()


async def test_a_sweep_that_failed_or_left_some_is_repeated():
    database = Database()
    resolver = resolver_of(database)
    database.failure = Unavailable("away")
    with pytest.raises(Unavailable):
        await resolver.sweep()
    assert resolver.has_work.is_set()
    database.failure = None
    assert await resolver.sweep() == 0
    assert not resolver.has_work.is_set()
    database.waiting = [(0, "hub88", 2, None)]
    assert await resolver.sweep() == 2
    assert resolver.has_work.is_set()


async def test_a_cursor_is_stored_once_it_has_moved_and_not_again():
    database = Database()
    publisher = Publisher(
        database,  # type: ignore[arg-type]  # the part of its interface that stores cursors
        nothing,
        {0: 1, 1: 1},
        log_topic="log",
        balances_topic="balances",
        outcomes_topic="outcomes",
    )
    running = asyncio.create_task(publisher.run())
    for partition in (0, 1):
        await publisher.resend(partition, 5, 5)
    await publisher.store_cursors()
    assert database.statements == []
    await publisher.resend(1, 5, 8)
    await publisher.store_cursors()
    await publisher.store_cursors()
    stored = [
        (columns["parts"], columns["offsets"])
        for columns in database.parameters
        if "offsets" in columns
    ]
    assert stored == [([1], [8])]
    running.cancel()
