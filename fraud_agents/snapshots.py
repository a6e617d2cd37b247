"""Snapshots of detectors in PostgreSQL, each at an offset of the log.

Only the worker that claimed a partition may write.

A snapshot with the log from its offset on is the whole state: nothing else has to be restored. A
claim increments the partition's epoch, so its previous owner can write nothing more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any, Final, LiteralString, NamedTuple

from mode import Service

from fraud_agents.activations import Marker
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
    markers: tuple[Marker, ...] = ()
    """Activations of the partition's rules, by offset."""


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

    async def claim(self, partitions: Collection[int]) -> list[SnapshotClaim]:
        """Take partitions over, with their snapshots and the activations of their rules."""
        parts = {**self._names, "parts": sorted(partitions)}
        markers: dict[int, list[Marker]] = defaultdict(list)
        async with self._database.transaction() as connection:
            # Binary: in hex a state would be twice as long.
            cursor = await connection.execute(_statements()["claim"], parts, binary=True)
            rows = await cursor.fetchall()
            # After the claim: from here on no other owner adds a marker.
            found = await connection.execute(_statements()["markers"], parts)
            for partition, *marker in await found.fetchall():
                markers[partition].append(Marker(*marker))
        return [SnapshotClaim(*row)._replace(markers=tuple(markers[row[0]])) for row in rows]

    async def activate(self, partition: int, epoch: int, marker: Marker) -> None:
        """Record from which offset on a partition's records are judged by which rules.

        Raises Fenced where another worker has claimed the partition.
        """
        row = {
            **self._names,
            "part": partition,
            "epoch": epoch,
            "from_offset": marker.from_offset,
            "rules_position": marker.position,
            "rule_set": marker.rule_set,
        }
        async with self._database.transaction() as connection:
            if (await connection.execute(_statements()["activate"], row)).rowcount == 1:
                return
        raise Fenced(
            f"{self._names['topic']}-{partition}@{marker.from_offset}: claimed by another worker, "
            "which activates its rules"
        )

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
