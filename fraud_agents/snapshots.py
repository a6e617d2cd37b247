"""Snapshots of detectors in PostgreSQL, each at an offset of the log; only who has claimed a partition may write.

A snapshot with the log from its offset on is the whole state: there is nothing else to restore. A claim counts the
partition's epoch up, so whoever held it before can write nothing more.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from functools import cache
from importlib import resources
from typing import Any, Final, LiteralString, NamedTuple, cast

import psycopg
from mode import Service
from psycopg import AsyncConnection

from schemas.errors import Fenced, InvariantBroken, Unavailable, UsageError
from streams.postgres.roles import Role, not_allowed, take_role

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


class Claim(NamedTuple):
    """A partition that is ours from now on, and where it goes on; without a snapshot at offset 0, with no state."""

    part: int
    epoch: int
    next_offset: int
    rule_set: str | None
    state: bytes | None


@cache
def _statements() -> dict[str, LiteralString]:
    text = resources.files("fraud_agents").joinpath("sql", "snapshots.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    # The text is a file of this package: as literal as a string in the source.
    return {name: cast("LiteralString", body.strip()) for name, body in zip(parts[::2], parts[1::2], strict=True)}


class SnapshotStore(Service):
    """The snapshots of one consumer on one topic.

    Every method raises Unavailable while the database is away, UsageError where its tables are not there, RightsMissing
    where it does not let us use them.
    """

    def __init__(self, database_url: str, consumer: str, topic: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._url = database_url
        self._names = {"consumer": consumer, "topic": topic}
        self._connection: AsyncConnection[Any] | None = None
        self._in_use = asyncio.Lock()

    async def claim(self, parts: Collection[int], rule_set: str) -> list[Claim]:
        """Take partitions over; from their snapshot's offset on, `rule_set` is on record as their judge."""
        async with self._transaction() as connection:
            # Binary, as a state would arrive twice as long in hex.
            cursor = await connection.execute(
                _statements()["claim"], {**self._names, "parts": sorted(parts)}, binary=True
            )
            claims = [Claim(*row) for row in await cursor.fetchall()]
            changed = [claim for claim in claims if claim.rule_set != rule_set]
            if changed:
                await connection.execute(
                    _statements()["activate"],
                    {
                        **self._names,
                        "rule_set": rule_set,
                        "parts": [claim.part for claim in changed],
                        "from_offsets": [claim.next_offset for claim in changed],
                    },
                )
        return claims

    async def save(self, part: int, epoch: int, next_offset: int, rule_set: str, state: bytes) -> None:
        """Store the state that has seen every record below `next_offset`.

        Raises Fenced where another worker has claimed the partition, InvariantBroken where ours would go back.
        """
        where = {**self._names, "part": part}
        row = {"epoch": epoch, "next_offset": next_offset, "rule_set": rule_set, "state": state}
        async with self._transaction() as connection:
            if (await connection.execute(_statements()["save"], where | row)).rowcount == 1:
                return
            standing = await (await connection.execute(_statements()["standing"], where)).fetchone()
        name = f"{self._names['topic']}-{part}@{next_offset}"
        if standing is not None and standing[0] == epoch:
            raise InvariantBroken(f"{name}: the stored snapshot is already at {standing[1]}")
        raise Fenced(f"{name}: claimed by another worker (epoch and offset {standing}, our epoch {epoch})")

    async def on_stop(self) -> None:
        """Give the connection back."""
        await self._close()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        async with self._in_use:
            try:
                connection = await self._open()
                async with connection.transaction():
                    yield connection
            except _TRY_AGAIN as error:
                raise Unavailable(f"the transaction has to be tried again: {error}") from error
            except _OLD_TABLES as error:
                raise UsageError(
                    f"the tables of the fraud agents are not those of this release: {error}; run `pitboss provision`"
                ) from error
            except psycopg.errors.InsufficientPrivilege as error:
                raise not_allowed(error) from error
            except psycopg.OperationalError as error:
                await self._close()
                raise Unavailable(f"the fraud agents' database went away: {error}") from error

    async def _open(self) -> AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            connection = await AsyncConnection.connect(
                self._url,
                autocommit=True,
                application_name="pitboss.fraud",
                connect_timeout=5,
                options="-c statement_timeout=30s -c lock_timeout=20s",
            )
            self._connection = await take_role(connection, Role.WRITER)
        return self._connection

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()
