"""Comparison of a live ledger with one that was rebuilt from the log.

Digests of a few thousand places at a time are compared first, each table read once on both sides;
only where they differ, rows are fetched and compared column by column.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from psycopg import AsyncConnection

from ledger_sink.store.database import LedgerDatabase
from replay.ledger.rebuild import SQL, LedgerPrefix

_BUCKET: Final = 4_096
"""Offsets of a bucket, as the statements divide them."""

_BY_PLACE: Final[Mapping[str, tuple[str, ...]]] = {
    "entry": ("event_id", "decision"),
    "repeat": ("part", "source_offset", "attempt_index"),
    "transfer": ("player_id", "currency", "version", "debit", "credit", "event_id", "decision"),
    "closing": ("event_id", "player_id"),
}
_STATES: Final[Mapping[str, tuple[str, ...]]] = {
    "wallet": ("player_id", "currency"),
    "player_state": ("player_id",),
    "proposal": ("event_id",),
    "opened_deposit": ("event_id",),
}
"""Tables and the columns that name a row: by place in the log, and by their present state."""

Row = dict[str, Any]
Bucket = tuple[int, int]


class RowDifference(msgspec.Struct, frozen=True):
    """One row that differs; the side that lacks it is null."""

    table: str
    key: Row
    columns: list[str]
    """Columns whose values differ; empty where one side lacks the row."""
    live: Row | None
    rebuilt: Row | None

    @property
    def place(self) -> tuple[int, int] | None:
        """Partition and offset of the record behind the row, if the row names it."""
        row = self.live or self.rebuilt or {}
        if "source_offset" not in row:
            return None
        return int(row["part"]), int(row["source_offset"])


class LedgerComparison(msgspec.Struct, frozen=True):
    """Result of a comparison."""

    rows: dict[str, int]
    """Rows that were compared, by table, as the rebuilt ledger has them."""
    differences: list[RowDifference]
    """In the order of tables; cut at the number asked for."""
    differing: int
    """How many there are."""
    months_away: list[int]
    """Months whose transfers are not in the live ledger, and so were not compared."""


async def compare_ledgers(
    live: LedgerDatabase, rebuilt: LedgerDatabase, prefix: LedgerPrefix, *, limit: int = 1_000
) -> LedgerComparison:
    """Compare every row that a prefix of the log determines. The live ledger may go on meanwhile.

    Raises Unavailable.
    """
    async with live.transaction() as on_live, rebuilt.transaction() as on_rebuilt:
        await on_live.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        [(last,)] = await _fetch(on_live, "last_sequence", {})
        away = [month for (month,) in await _fetch(on_live, "months_away", {})]
        sides = _Sides(on_live, on_rebuilt, prefix, away, is_whole=last == prefix.last_sequence)
        rows, found, differing = {}, list[RowDifference](), 0
        for table, key in {**_BY_PLACE, **_STATES}.items():
            rows[table], buckets = await sides.differing_buckets(table)
            for bucket in buckets:
                for difference in await sides.differing_rows(table, key, bucket):
                    differing += 1
                    if len(found) < limit:
                        found.append(difference)
    return LedgerComparison(rows, found, differing, sorted(away))


class _Sides:
    """Both ledgers in the middle of a comparison."""

    def __init__(
        self,
        live: AsyncConnection[Any],
        rebuilt: AsyncConnection[Any],
        prefix: LedgerPrefix,
        away: Sequence[int],
        *,
        is_whole: bool,
    ) -> None:
        self._connections = (live, rebuilt)
        parts = sorted(prefix.ends)
        untils = [prefix.ends[partition] for partition in parts]
        self._untils = prefix.ends
        self._columns = {"parts": parts, "untils": untils, "away": [*away], "is_whole": is_whole}

    async def differing_buckets(self, table: str) -> tuple[int, list[Bucket]]:
        """Return the number of rebuilt rows of a table, and the buckets that differ."""
        live, rebuilt = [
            {
                (part, bucket): (count, digest)
                for part, bucket, count, digest in await _fetch(
                    connection, f"{table}_buckets", self._columns
                )
            }
            for connection in self._connections
        ]
        differing = [
            key for key in live.keys() | rebuilt.keys() if live.get(key) != rebuilt.get(key)
        ]
        return sum(count for count, _ in rebuilt.values()), sorted(differing)

    async def differing_rows(
        self, table: str, key: Sequence[str], bucket: Bucket
    ) -> list[RowDifference]:
        """Return the rows of one bucket that differ, in the order of their names."""
        part, number = bucket
        columns = {**self._columns, "part": part, "begin": number, "end": 0}
        if table in _BY_PLACE:
            columns["begin"] = number * _BUCKET
            columns["end"] = min((number + 1) * _BUCKET, self._untils[part])
        live, rebuilt = [
            await _fetch(connection, f"{table}_rows", columns) for connection in self._connections
        ]
        if table in _BY_PLACE:
            return [*_differences(table, key, _by_key(live, key), _by_key(rebuilt, key))]
        # A row that has changed since the prefix says nothing about it; nor does its counterpart.
        later = _by_key([row for row in live if not row[1]], key)
        of_prefix = _by_key([row for row in live if row[1]], key)
        again = {name: row for name, row in _by_key(rebuilt, key).items() if name not in later}
        return [*_differences(table, key, of_prefix, again)]


def _by_key(rows: Sequence[tuple[Any, ...]], key: Sequence[str]) -> dict[str, Row]:
    return {repr([row[0][column] for column in key]): row[0] for row in rows}


def _differences(
    table: str, key: Sequence[str], live: Mapping[str, Row], rebuilt: Mapping[str, Row]
) -> Iterator[RowDifference]:
    for name in sorted(live.keys() | rebuilt.keys()):
        ours, theirs = live.get(name), rebuilt.get(name)
        if ours == theirs:
            continue
        one = ours or theirs or {}
        columns = []
        if ours is not None and theirs is not None:
            columns = [column for column in ours if ours[column] != theirs.get(column)]
        yield RowDifference(table, {column: one[column] for column in key}, columns, ours, theirs)


async def _fetch(
    connection: AsyncConnection[Any], name: str, columns: Mapping[str, Any]
) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(SQL[name], columns)
    return await cursor.fetchall()
