"""What `pitboss provision` has stored with an installation, which may not have been provisioned."""

from __future__ import annotations

import asyncio
from typing import Any, Final, LiteralString

import psycopg

from ledger_sink.store.database import LedgerDatabase
from pitboss.embedded.databases import database_exists
from pitboss.settings import Runtime
from runtime.postgres.roles import Role
from schemas.errors import Unavailable, UsageError

_NOT_MIGRATED: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidParameterValue,  # the server has no role of ours
)


async def query_if_provisioned(
    runtime: Runtime, application: str, statement: LiteralString, role: Role
) -> list[tuple[Any, ...]] | None:
    """Return a statement's rows; None where the database, the role or the table is not there yet.

    Raises Unavailable, RightsMissing.
    """
    database = LedgerDatabase(runtime.database_url, application, role=role)
    try:
        return await database.query(statement)
    except UsageError as error:
        if isinstance(error.__cause__, _NOT_MIGRATED):
            return None
        raise
    except Unavailable:
        # libpq tells a missing database from an absent server by a sentence only.
        if await asyncio.to_thread(database_exists, runtime):
            raise
        return None
    finally:
        await database.close()
