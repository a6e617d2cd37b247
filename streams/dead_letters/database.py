"""One connection to the namespace's database for what concerns dead letters; errors come out as ours."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib import resources
from typing import Any, Final, LiteralString, cast

import psycopg
from mode import Service
from psycopg import AsyncConnection

from schemas.errors import Unavailable, UsageError
from streams.postgres.roles import Role, not_allowed, session_options, take_role

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_TRY_AGAIN: Final = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
)
_OLD_TABLES: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
)


@cache
def statements(file: str) -> dict[str, LiteralString]:
    """The named statements of this package's `sql/<file>.sql`."""
    text = resources.files("streams.dead_letters").joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    # The text is a file of this package: as literal as a string in the source.
    return {name: cast("LiteralString", body.strip()) for name, body in zip(parts[::2], parts[1::2], strict=True)}


class DeadLetterDatabase(Service):
    """One transaction after the other, whoever asks, with the rights of one role.

    Raises Unavailable while the database is away, and RightsMissing where it does not let us do it.
    """

    def __init__(self, database_url: str, application_name: str, *, role: Role = Role.WRITER, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._url = database_url
        self._role = role
        self._application_name = application_name
        self._connection: AsyncConnection[Any] | None = None
        self._in_use = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A transaction that is committed at the end of the block. Raises UsageError where the tables are older."""
        async with self._in_use:
            try:
                connection = await self._open()
                async with connection.transaction():
                    yield connection
            except _TRY_AGAIN as error:
                raise Unavailable(f"the transaction has to be tried again: {error}") from error
            except _OLD_TABLES as error:
                raise UsageError(
                    f"the database has no tables for dead letters: {error}; run `pitboss provision`"
                ) from error
            except psycopg.errors.InsufficientPrivilege as error:
                raise not_allowed(error) from error
            except psycopg.OperationalError as error:
                await self.close()
                raise Unavailable(f"the database of the dead letters does not answer: {error}") from error

    async def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    async def on_stop(self) -> None:
        """Give the connection back when the worker ends."""
        await self.close()

    async def _open(self) -> AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            connection = await AsyncConnection.connect(
                self._url,
                autocommit=True,
                application_name=self._application_name,
                connect_timeout=5,
                options="-c synchronous_commit=on -c statement_timeout=30s -c lock_timeout=20s"
                + session_options(self._role),
            )
            self._connection = await take_role(connection, self._role)
        return self._connection
