"""Snapshots of detectors in PostgreSQL, each at an offset of the log.

Only the worker that claimed a partition may write.

A snapshot with the log from its offset on is the whole state: nothing else has to be restored. A
claim increments the partition's epoch, so its previous owner can write nothing more.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final, LiteralString, NamedTuple

from mode import Service

from runtime.postgres import migrations as files
from runtime.postgres.database import Database
from runtime.postgres.migrations import Migration, MigrationSet
from runtime.postgres.statements import statements_of
from schemas.errors import Fenced, InvariantBroken

TABLES: Final = MigrationSet("fraud_agents", ("fraud",))


class SnapshotClaim(NamedTuple):
    """A partition that this worker owns from now on, and the offset at which it continues.

    Without a snapshot: no state, and an offset of 0.
    """

    partition: int
    epoch: int
    next_offset: int
    rule_set: str | None
    state: bytes | None


def _statements() -> dict[str, LiteralString]:
    return statements_of("fraud_agents", "snapshots")


class _Snapshots(Database):
    owner = "the fraud agents'"


class SnapshotStore(Service):
    """The snapshots of one consumer on one topic.

    Every method raises Unavailable while the database is away, UsageError where its tables are
    missing, RightsMissing where it does not let us use them.
    """

    def __init__(self, database_url: str, consumer: str, topic: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._database = _Snapshots(database_url, "pitboss.fraud")
        self._names = {"consumer": consumer, "topic": topic}

    async def claim(self, partitions: Collection[int], rule_set: str) -> list[SnapshotClaim]:
        """Take partitions over; record `rule_set` as their rules from the snapshots' offsets on."""
        async with self._database.transaction() as connection:
            # Binary: in hex a state would be twice as long.
            cursor = await connection.execute(
                _statements()["claim"],
                {**self._names, "parts": sorted(partitions)},
                binary=True,
            )
            claims = [SnapshotClaim(*row) for row in await cursor.fetchall()]
            changed = [claim for claim in claims if claim.rule_set != rule_set]
            if changed:
                await connection.execute(
                    _statements()["activate"],
                    {
                        **self._names,
                        "rule_set": rule_set,
                        "parts": [claim.partition for claim in changed],
                        "from_offsets": [claim.next_offset for claim in changed],
                    },
                )
        return claims

    async def save(
        self, partition: int, epoch: int, next_offset: int, rule_set: str, state: bytes
    ) -> None:
        """Store the state that has seen every record below `next_offset`.

        Raises Fenced where another worker has claimed the partition, InvariantBroken where ours
        would go back.
        """
        where = {**self._names, "part": partition}
        row = {"epoch": epoch, "next_offset": next_offset, "rule_set": rule_set, "state": state}
        async with self._database.transaction() as connection:
            if (await connection.execute(_statements()["save"], where | row)).rowcount == 1:
                return
            found = await connection.execute(_statements()["stored_position"], where)
            stored = await found.fetchone()
        name = f"{self._names['topic']}-{partition}@{next_offset}"
        if stored is not None and stored[0] == epoch:
            raise InvariantBroken(f"{name}: the stored snapshot is already at {stored[1]}")
        raise Fenced(
            f"{name}: claimed by another worker (epoch and offset {stored}, our epoch {epoch})"
        )

    async def on_stop(self) -> None:
        """Close the connection."""
        await self._database.close()


def migrations(database_url: str) -> list[Migration]:
    """Return each migration and whether it is applied. Raises MigrationChanged, Unavailable."""
    return files.read_migrations(TABLES, database_url)


def migrate(database_url: str) -> list[Migration]:
    """Apply missing migrations and return them; grant the rights.

    Raises as `runtime.postgres.migrations`.
    """
    return files.migrate(TABLES, database_url)
