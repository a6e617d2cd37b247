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
    """Return the named statements of this package's `sql/<file>.sql`."""
    return statements_of("runtime.dead_letters", file)


def escape_like(text: str) -> str:
    r"""Escape the wildcards of LIKE (`_`, `%`) and its escape character (`\`) in a text."""
    return text.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")


class _LetterDatabase(Database):
    owner = "the dead letters'"


class DeadLetterDatabase(Service):
    """One transaction after the other, over one connection.

    Raises Unavailable while the database is away, and RightsMissing where the role lacks a right.
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
        """Prepare without connecting; see `runtime.postgres.database` for `silence_max_s`."""
        super().__init__(**kwargs)
        self._url = database_url
        self._database = _LetterDatabase(
            database_url, application_name, role=role, silence_max_s=silence_max_s
        )

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection[Any]]:
        """Open a transaction that is committed at the end of the block.

        Raises UsageError where the tables are older than this release.
        """
        return self._database.transaction()

    async def close(self) -> None:
        """Close the connection."""
        await self._database.close()

    async def on_stop(self) -> None:
        """Close the connection when the worker ends."""
        await self.close()
