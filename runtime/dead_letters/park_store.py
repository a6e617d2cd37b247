"""Holds and waiting records in PostgreSQL; what is saved twice is there once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from runtime.dead_letters.database import DeadLetterDatabase, escape_like, statements
from runtime.dead_letters.headers import HeaderList
from runtime.dead_letters.key_holds import KeyHold
from runtime.kafka.records import RawRecord


class ParkedRecord(msgspec.Struct, frozen=True):
    """A raw record as it was read, and as it is read again when it is released. A `RawRecord`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: HeaderList


class OpenHold(msgspec.Struct, frozen=True):
    """A key whose records wait, as shown to a person; times are epoch ms of the broker."""

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
        """Return the holds that can concern a record at `from_offset` or later."""
        where = {"topic": topic, "part": partition, "from_offset": from_offset}
        async with self.transaction() as connection:
            cursor = await connection.execute(statements("parking")["load"], where)
            return [_hold(row) for row in await cursor.fetchall()]

    async def waiting(self, topic: str, partition: int, hold: KeyHold) -> list[ParkedRecord]:
        """Return what waits in a hold, in the order of the raw partition."""
        where = {"topic": topic, "part": partition, "jam_from": hold.from_offset}
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
        holds: Iterable[KeyHold],
        parked: Sequence[tuple[KeyHold, RawRecord]],
        released: Sequence[int],
    ) -> None:
        """Save the results of a range of a partition in one transaction."""
        where = {"topic": topic, "part": partition}
        sql = statements("parking")
        async with self.transaction() as connection:
            for hold in holds:
                columns = msgspec.structs.asdict(hold) | {"moves": sorted(hold.moves)}
                await connection.execute(sql["save_hold"], where | columns)
            if parked:
                await connection.execute(sql["park"], where | _columns(parked))
            if released:
                await connection.execute(sql["release"], where | {"offsets": list(released)})

    async def open_holds(self, prefix: str) -> list[OpenHold]:
        """Return the open holds on the topics whose names begin so, oldest first."""
        async with self.transaction() as connection:
            cursor = await connection.execute(
                statements("parking")["open_holds"], {"prefix": escape_like(prefix) + "%"}
            )
            return [OpenHold(*row) for row in await cursor.fetchall()]


def _hold(row: Sequence[Any]) -> KeyHold:
    """Return the hold of a row, whose columns are in the order of KeyHold's fields."""
    *columns, moves = row
    hold = KeyHold(*columns)
    hold.moves = frozenset(moves)
    return hold


def _columns(parked: Sequence[tuple[KeyHold, RawRecord]]) -> dict[str, Any]:
    return {
        "offsets": [record.offset for _, record in parked],
        "holds": [hold.from_offset for hold, _ in parked],
        "timestamps": [record.timestamp for _, record in parked],
        "bodies": [record.value for _, record in parked],
        "headers": [msgspec.msgpack.encode(list(record.headers)) for _, record in parked],
    }


def _headers_of(packed: bytes) -> list[tuple[str, bytes | None]]:
    return msgspec.msgpack.decode(packed, type=list[tuple[str, bytes | None]])
