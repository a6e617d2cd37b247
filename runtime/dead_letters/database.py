"""The tables that concern dead letters, for a service of a worker or of a command."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, LiteralString

from mode import Service
from psycopg import AsyncConnection

from runtime.postgres.database import SILENCE_MAX_S, Database
from runtime.postgres.roles import Role
from runtime.postgres.statements import statements_of


def statements(file: str) -> dict[str, LiteralString]:
    """The named statements of this package's `sql/<file>.sql`."""
    return statements_of("runtime.dead_letters", file)


class _Letters(Database):
    owner = "the dead letters'"


class DeadLetterDatabase(Service):
    """One transaction after the other, whoever asks.

    Raises Unavailable while the database is away, and RightsMissing where it does not let us do it.
    """

    def __init__(
        self,
        database_url: str,
        application_name: str,
        *,
        role: Role = Role.WRITER,
        silence_max_s: float | None = SILENCE_MAX_S,
        **kwargs: Any,
    ) -> None:
        """Connect to nothing yet; see `runtime.postgres.database` for `silence_max_s`."""
        super().__init__(**kwargs)
        self._url = database_url
        self._database = _Letters(
            database_url, application_name, role=role, silence_max_s=silence_max_s
        )

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection[Any]]:
        """A transaction that is committed at the end of the block.

        Raises UsageError where the tables are older.
        """
        return self._database.transaction()

    async def close(self) -> None:
        """Give the connection back."""
        await self._database.close()

    async def on_stop(self) -> None:
        """Give the connection back when the worker ends."""
        await self.close()
