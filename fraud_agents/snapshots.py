"""Snapshots of detectors in PostgreSQL, each at an offset of the log.

Only the worker that claimed a partition may write.

A snapshot with the log from its offset on is the whole state: nothing else has to be restored. A
claim increments the partition's epoch, so its previous owner can write nothing more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, Final, LiteralString, NamedTuple

from mode import Service
from psycopg import AsyncConnection

from fraud_agents.activations import Marker
from runtime.postgres import migrations as files
from runtime.postgres.database import Database
from runtime.postgres.migrations import Migration, MigrationSet
from runtime.postgres.statements import statements_of
from schemas.errors import Fenced, InvariantBroken

TABLES: Final = MigrationSet("fraud_agents", ("fraud",))
_STATED: Final = ("epoch", "next_offset", "rule_set", "state")


class SnapshotRow(NamedTuple):
    """State of a partition that has seen every record below `next_offset`."""

    topic: str
    partition: int
    epoch: int
    next_offset: int
    rule_set: str
    state: bytes


class SnapshotClaim(NamedTuple):
    """A partition that this worker owns from now on, and the offset at which it continues.

    Without a snapshot: no state, and an offset of 0.
    """

    topic: str
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
    """The snapshots of one consumer, of any topics.

    Every method raises Unavailable while the database is away, UsageError where its tables are
    missing, RightsMissing where it does not let us use them.
    """

    def __init__(self, database_url: str, consumer: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._database = _Snapshots(database_url, "pitboss.fraud")
        self._consumer = consumer

    async def claim(self, places: Collection[tuple[str, int]]) -> list[SnapshotClaim]:
        """Take partitions over (topic, partition), with their snapshots and rules' activations.

        All of them at once: their snapshots are of one moment.
        """
        ordered = sorted(places)
        wanted = {
            "consumer": self._consumer,
            "topics": [topic for topic, _ in ordered],
            "parts": [partition for _, partition in ordered],
        }
        markers: dict[tuple[str, int], list[Marker]] = defaultdict(list)
        async with self._database.transaction() as connection:
            # Binary: in hex a state would be twice as long.
            cursor = await connection.execute(_statements()["claim"], wanted, binary=True)
            rows = await cursor.fetchall()
            # After the claim: from here on no other owner adds a marker.
            found = await connection.execute(_statements()["markers"], wanted)
            for topic, partition, *marker in await found.fetchall():
                markers[topic, partition].append(Marker(*marker))
        return [SnapshotClaim(*row)._replace(markers=tuple(markers[row[:2]])) for row in rows]

    async def activate(self, topic: str, partition: int, epoch: int, marker: Marker) -> None:
        """Record from which offset on a partition's records are judged by which rules.

        Raises Fenced where another worker has claimed the partition.
        """
        row = {
            "consumer": self._consumer,
            "topic": topic,
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
            f"{topic}-{partition}@{marker.from_offset}: claimed by another worker, "
            "which activates its rules"
        )

    async def save(self, rows: Sequence[SnapshotRow]) -> None:
        """Store states of one moment, all or none.

        Raises Fenced where another worker has claimed one of the partitions, InvariantBroken where
        ours would go back.
        """
        async with self._database.transaction() as connection:
            for row in sorted(rows):
                await self._save(connection, row)

    async def discard(self, places: Sequence[tuple[str, int, int]]) -> None:
        """Delete the states of partitions (topic, partition, epoch): they begin as at first.

        Raises Fenced where another worker has claimed one of them.
        """
        async with self._database.transaction() as connection:
            for topic, partition, epoch in sorted(places):
                where = {"consumer": self._consumer, "topic": topic, "part": partition}
                found = await connection.execute(_statements()["discard"], where | {"epoch": epoch})
                if found.rowcount != 1:
                    raise Fenced(f"{topic}-{partition}: claimed by another worker")

    async def _save(self, connection: AsyncConnection[Any], row: SnapshotRow) -> None:
        where = {"consumer": self._consumer, "topic": row.topic, "part": row.partition}
        stated = {name: getattr(row, name) for name in _STATED}
        if (await connection.execute(_statements()["save"], where | stated)).rowcount == 1:
            return
        found = await connection.execute(_statements()["stored_position"], where)
        stored = await found.fetchone()
        name = f"{row.topic}-{row.partition}@{row.next_offset}"
        if stored is not None and stored[0] == row.epoch:
            raise InvariantBroken(f"{name}: the stored snapshot is already at {stored[1]}")
        raise Fenced(
            f"{name}: claimed by another worker (epoch and offset {stored}, our epoch {row.epoch})"
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
