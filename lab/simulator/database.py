"""The ledger's database over tables in memory.

A fault may happen at every statement, at COMMIT, and between COMMIT and its reply.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString, cast

from psycopg import AsyncConnection

from lab.simulator.claiming import CLAIMING
from lab.simulator.parking import PARKING
from lab.simulator.postgres_text import rows_of
from lab.simulator.process import Process
from lab.simulator.statements import BOOKING, StatementResult, is_setting, name_of, target_of
from lab.simulator.tables import Server, SimulatedSession
from ledger_sink.store.database import LedgerDatabase
from runtime.postgres.database import TransactionTrips
from runtime.postgres.prepared import TextParameters
from schemas.errors import InvariantBroken

_HANDLERS = {**BOOKING, **CLAIMING, **PARKING}


class _Cursor:
    """Cursor with the result of a statement, or for a COPY."""

    def __init__(self, connection: _Connection, result: StatementResult | None = None) -> None:
        self._connection = connection
        self._rows = [] if result is None else result.rows
        self.rowcount = 0 if result is None else result.count

    async def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    async def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows[0] if self._rows else None

    @asynccontextmanager
    async def copy(self, statement: str) -> AsyncIterator[_Copy]:
        name = name_of(statement)
        await self._connection.process.reach(name)
        copy = _Copy()
        yield copy
        await self._connection.process.reach(f"{name} copied")
        table, columns = target_of(statement)
        self._connection.session.inserts += [(table, row) for row in rows_of(copy.text, columns)]


class _Copy:
    """COPY in progress; its rows are inserted when it ends."""

    def __init__(self) -> None:
        self.text = ""

    async def write(self, data: bytes) -> None:
        self.text += data.decode()


class _Connection:
    """Connection with the part of psycopg's interface that the ledger uses."""

    def __init__(self, server: Server, process: Process, session: SimulatedSession) -> None:
        self._server = server
        self.process = process
        self.session = session

    async def execute(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        prepare: bool | None = None,  # noqa: ARG002 - psycopg's signature; plans do not exist here
    ) -> _Cursor:
        name = name_of(statement)
        handler = _HANDLERS.get(name)
        if handler is None and is_setting(statement):
            return _Cursor(self)
        if handler is None:
            message = (
                f"the simulator has no handler for the statement {name}: add it to lab/simulator"
            )
            raise InvariantBroken(message)
        await self.process.reach(name)
        self._server.check(self.session)
        return _Cursor(self, await handler(self._server, self.session, statement, parameters or {}))

    def commit(self) -> None:
        """Commit, and end the session: its locks are free."""
        self._server.commit(self.session)
        self._server.end(self.session)

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[None]:
        yield

    @asynccontextmanager
    async def cursor(self) -> AsyncIterator[_Cursor]:
        yield _Cursor(self)


class _Trips(TransactionTrips):
    """The round trips of a simulated transaction."""

    def __init__(self, connection: _Connection, name: str) -> None:
        super().__init__(cast("AsyncConnection[Any]", connection))
        self._simulated = connection
        self._name = name

    async def begin(self) -> None:
        """Do nothing: its session has begun."""

    async def commit_all(self, statements: Sequence[tuple[LiteralString, TextParameters]]) -> None:
        """Execute statement by statement, and commit."""
        for statement, parameters in statements:
            await self._simulated.execute(statement, parameters)
        await self.commit()

    async def commit(self) -> None:
        """Commit, and lose the reply if that is the fault."""
        process = self._simulated.process
        await process.reach(f"{self._name} commit")
        self._simulated.commit()
        # From here on it is committed, whether the reply reaches the client or not.
        await process.reach(f"{self._name} committed")


class SimulatedDatabase(LedgerDatabase):
    """Connection of one simulated process."""

    def __init__(self, server: Server, process: Process, name: str) -> None:
        """Make a connection; `name` is the prefix of its fault points within the process."""
        super().__init__("", name)
        self._server = server
        self._process = process
        self._name = name

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Run a transaction that commits at the end of the block. Raises as the real one does."""
        async with self._turn:
            await self._process.reach(f"{self._name} connect")
            session = self._server.begin(self._process.name)
            try:
                yield cast(
                    "AsyncConnection[Any]", _Connection(self._server, self._process, session)
                )
                await self._process.reach(f"{self._name} commit")
                self._server.commit(session)
            finally:
                self._server.end(session)
            # From here on it is committed, whether the reply reaches the client or not.
            await self._process.reach(f"{self._name} committed")

    @asynccontextmanager
    async def trips(self) -> AsyncIterator[TransactionTrips]:
        """Run a transaction that its last trip commits. Raises as the real one does."""
        async with self._turn:
            await self._process.reach(f"{self._name} connect")
            session = self._server.begin(self._process.name)
            connection = _Connection(self._server, self._process, session)
            try:
                yield _Trips(connection, self._name)
            finally:
                self._server.end(session)

    async def query(
        self, statement: LiteralString, parameters: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Return the rows of one statement, which is a transaction of its own."""
        async with self.transaction() as connection:
            return await (await connection.execute(statement, parameters)).fetchall()

    async def query_all(
        self, *queries: tuple[LiteralString, Mapping[str, Any]]
    ) -> list[Sequence[Any]]:
        """Return the rows of each of some queries."""
        return [await self.query(statement, parameters) for statement, parameters in queries]

    async def close(self) -> None:
        """Do nothing: no connection is kept open."""
