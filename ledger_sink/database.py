"""One connection to the ledger's database, opened again when it was lost; errors come out as ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection

from schemas.errors import Unavailable

_TRY_AGAIN = (
    psycopg.errors.UniqueViolation,  # another partition's worker has just booked the same identity: now it is a repeat
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
)


class Database:
    """One transaction after the other, whoever asks. Every method raises Unavailable while the database is away."""

    def __init__(self, url: str, application_name: str) -> None:
        self._url = url
        self._application_name = application_name
        self._connection: AsyncConnection[Any] | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A transaction that is committed at the end of the block.

        A COMMIT whose reply is lost raises Unavailable like any other loss: the caller asks the position what is true.
        """
        async with self._turn:
            connection = await self._open()
            try:
                async with connection.transaction():
                    yield connection
            except _TRY_AGAIN as error:
                message = f"the transaction has to be tried again: {error}"
                raise Unavailable(message) from error
            except psycopg.OperationalError as error:
                await self.close()
                message = f"the ledger's database went away: {error}"
                raise Unavailable(message) from error

    async def query(self, statement: LiteralString, parameters: Mapping[str, Any] | None = None) -> list[Any]:
        """The rows of one statement, committed by itself; none for a statement without rows."""
        async with self.transaction() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall() if cursor.description else []

    async def _open(self) -> AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            try:
                self._connection = await AsyncConnection.connect(
                    self._url,
                    autocommit=True,
                    application_name=self._application_name,
                    connect_timeout=5,
                    # A hung statement must end before the broker takes us for dead.
                    options="-c synchronous_commit=on -c statement_timeout=30s -c lock_timeout=20s",
                )
            except psycopg.OperationalError as error:
                message = f"the ledger's database does not answer: {error}"
                raise Unavailable(message) from error
        return self._connection

    async def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()
