"""Jams and waiting records in PostgreSQL; what is kept twice is there once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from runtime.dead_letters.database import DeadLetterDatabase, statements
from runtime.dead_letters.headers import HeaderList
from runtime.dead_letters.key_holds import KeyHold
from runtime.kafka.records import RawRecord


class ParkedRecord(msgspec.Struct, frozen=True):
    """A raw record as it was read, and as it is read again when it goes on. A `RawRecord`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: HeaderList


class OpenHold(msgspec.Struct, frozen=True):
    """A key that waits, for a person to look at; times are epoch ms of the broker."""

    topic: str
    partition: int
    key: bytes
    waits_for: int
    code: str
    since_ms: int
    full_from: int | None
    waiting: int
    waiting_bytes: int
    first_ms: int | None
    last_ms: int | None


class ParkStore(DeadLetterDatabase):
    """The park table of all raw partitions.

    Every method raises Unavailable while the database is away.
    """

    async def load(self, topic: str, partition: int, from_offset: int) -> list[KeyHold]:
        """The jams that can concern a record at `from_offset` or later."""
        where = {"topic": topic, "part": partition, "from_offset": from_offset}
        async with self.transaction() as connection:
            cursor = await connection.execute(statements("parking")["load"], where)
            return [
                KeyHold(
                    key=row[0],
                    from_offset=row[1],
                    waits_for=row[2],
                    moved_at=row[3],
                    since_ms=row[4],
                    code=row[5],
                    until_offset=row[6],
                    ended_by=row[7],
                    full_from=row[8],
                    waiting=row[9],
                    waiting_bytes=row[10],
                    last_parked=row[11],
                )
                for row in await cursor.fetchall()
            ]

    async def waiting(self, topic: str, partition: int, jam: KeyHold) -> list[ParkedRecord]:
        """What waits in a jam, in the order of the raw partition."""
        where = {"topic": topic, "part": partition, "jam_from": jam.from_offset}
        async with self.transaction() as connection:
            cursor = await connection.execute(statements("parking")["waiting"], where, binary=True)
            return [
                ParkedRecord(topic, partition, offset, timestamp, key, body, _headers_of(headers))
                for offset, timestamp, key, body, headers in await cursor.fetchall()
            ]

    async def save(
        self,
        topic: str,
        partition: int,
        jams: Iterable[KeyHold],
        parked: Sequence[tuple[KeyHold, RawRecord]],
        released: Sequence[int],
    ) -> None:
        """Write down what a stretch of a partition came to, in one transaction."""
        where = {"topic": topic, "part": partition}
        sql = statements("parking")
        async with self.transaction() as connection:
            for jam in jams:
                await connection.execute(sql["keep_jam"], where | _row(jam))
            if parked:
                await connection.execute(sql["park"], where | _columns(parked))
            if released:
                await connection.execute(sql["release"], where | {"offsets": list(released)})

    async def open_holds(self, prefix: str) -> list[OpenHold]:
        """What waits on the topics whose names begin so, longest first."""
        escaped = prefix.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
        async with self.transaction() as connection:
            cursor = await connection.execute(
                statements("parking")["open_jams"], {"prefix": escaped + "%"}
            )
            return [OpenHold(*row) for row in await cursor.fetchall()]


def _row(jam: KeyHold) -> dict[str, Any]:
    return msgspec.structs.asdict(jam)


def _columns(parked: Sequence[tuple[KeyHold, RawRecord]]) -> dict[str, Any]:
    return {
        "offsets": [record.offset for _, record in parked],
        "jams": [jam.from_offset for jam, _ in parked],
        "timestamps": [record.timestamp for _, record in parked],
        "bodies": [record.value for _, record in parked],
        "headers": [msgspec.msgpack.encode(list(record.headers)) for _, record in parked],
    }


def _headers_of(packed: bytes) -> list[tuple[str, bytes | None]]:
    return msgspec.msgpack.decode(packed, type=list[tuple[str, bytes | None]])
