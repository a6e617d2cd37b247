"""Two outputs of the same slice compared: rows added, dropped and changed, and sums of money."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec

from schemas.errors import UsageError

_PROVENANCE: Final = frozenset(
    {"_topic", "_partition", "_offset", "_append_at", "_key", "_headers"}
)
_IDENTITIES: Final = (
    ("event_id", "attempt"),
    ("alert_id", "revision"),
    ("event_id",),
    ("drift_id",),
)
_SHOWN: Final = 20


class MoneySum(msgspec.Struct, frozen=True):
    """Sum of the amounts of one provider and currency on both sides, as exact decimal texts."""

    provider: str | None
    currency: str | None
    kind: str | None
    first: str
    second: str
    difference: str


class OutputComparison(msgspec.Struct, frozen=True):
    """Result of a comparison; `first` and `second` are its sides."""

    identical: bool
    first_rows: int
    second_rows: int
    added: int
    """Rows of the second side only."""
    dropped: int
    """Rows of the first side only."""
    changed: int
    changed_columns: dict[str, int]
    key: list[str]
    examples: list[dict[str, Any]]
    sums: list[MoneySum]
    """Those that differ."""


def compare_outputs(first: Path, second: Path) -> OutputComparison:
    """Compare two exports in Parquet, files or folders.

    Rows are matched by their identity (event and attempt, alert and revision), and by their place
    in the topic where they have none; where a record is there twice, the n-th with the n-th. Places
    are not compared. Raises UsageError for what cannot be read, or has other columns.
    """
    with duckdb.connect() as connection:
        names = [_load(connection, name, path) for name, path in (("a", first), ("b", second))]
        if names[0] != names[1]:
            odd = ", ".join(sorted({*names[0]} ^ {*names[1]}))
            raise UsageError(f"the columns differ: {odd}; compare two exports of one topic")
        key = _key(names[0])
        compared = [name for name in names[0] if name not in _PROVENANCE and name not in key]
        _match(connection, key, compared)
        return _count(connection, key, compared, has_legs="legs" in names[0])


def _load(connection: duckdb.DuckDBPyConnection, name: str, path: Path) -> list[str]:
    place = path / "**" / "*.parquet" if path.is_dir() else path
    read = "read_parquet(?, hive_partitioning = false)"
    try:
        connection.execute(f"CREATE TABLE {name} AS SELECT * FROM {read}", [str(place)])  # noqa: S608 - a name of ours
    except duckdb.Error as error:
        raise UsageError(f"{path} is not an export in Parquet: {error}") from error
    return [row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()]


def _key(names: list[str]) -> tuple[str, ...]:
    for identity in _IDENTITIES:
        if all(name in names for name in identity):
            return identity
    return ("_topic", "_partition", "_offset")


def _match(
    connection: duckdb.DuckDBPyConnection, key: tuple[str, ...], compared: list[str]
) -> None:
    keys = ", ".join(f'"{name}"' for name in key)
    for side in ("a", "b"):
        connection.execute(
            f"CREATE TABLE {side}_rows AS SELECT *, row_number() OVER"  # noqa: S608 - names of columns
            f" (PARTITION BY {keys} ORDER BY _partition, _offset) AS _copy FROM {side}"
        )
    changes = ", ".join(f'a."{name}" IS DISTINCT FROM b."{name}" AS "{name}"' for name in compared)
    on = " AND ".join(f'a."{name}" IS NOT DISTINCT FROM b."{name}"' for name in (*key, "_copy"))
    shown = ", ".join(f'coalesce(a."{name}", b."{name}") AS "key of {name}"' for name in key)
    connection.execute(
        f"CREATE TABLE matched AS SELECT {shown}, a._copy IS NULL AS is_added,"  # noqa: S608 - as above
        f" b._copy IS NULL AS is_dropped{', ' if changes else ''}{changes}"
        f" FROM a_rows a FULL JOIN b_rows b ON {on}"
    )


def _count(
    connection: duckdb.DuckDBPyConnection,
    key: tuple[str, ...],
    compared: list[str],
    *,
    has_legs: bool,
) -> OutputComparison:
    both = "NOT is_added AND NOT is_dropped"
    columns = {
        name: _number(connection, f'SELECT count(*) FROM matched WHERE {both} AND "{name}"')  # noqa: S608
        for name in compared
    }
    any_change = " OR ".join(f'"{name}"' for name in compared) or "false"
    is_odd = f"is_added OR is_dropped OR ({both} AND ({any_change}))"
    keys = ", ".join(f'"key of {name}"' for name in key)
    listed = connection.execute(
        f"SELECT {keys}, is_added, is_dropped FROM matched"  # noqa: S608 - as above
        f" WHERE {is_odd} ORDER BY ALL LIMIT {_SHOWN}"
    ).fetchall()
    added = _number(connection, "SELECT count(*) FROM matched WHERE is_added")
    dropped = _number(connection, "SELECT count(*) FROM matched WHERE is_dropped")
    changed = _number(
        connection,
        f"SELECT count(*) FROM matched WHERE {both} AND ({any_change})",  # noqa: S608
    )
    return OutputComparison(
        identical=not (added or dropped or changed),
        first_rows=_number(connection, "SELECT count(*) FROM a"),
        second_rows=_number(connection, "SELECT count(*) FROM b"),
        added=added,
        dropped=dropped,
        changed=changed,
        changed_columns={name: count for name, count in columns.items() if count},
        key=[*key],
        examples=[_example(key, row) for row in listed],
        sums=_sums(connection) if has_legs else [],
    )


def _number(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    [(count,)] = connection.execute(sql).fetchall()
    return int(count)


def _example(key: tuple[str, ...], row: tuple[Any, ...]) -> dict[str, Any]:
    *values, is_added, is_dropped = row
    what = "added" if is_added else "dropped" if is_dropped else "changed"
    return {"what": what, **dict(zip(key, values, strict=True))}


_SUMS: Final = """
    WITH legs AS (
        SELECT 'a' AS side, provider, unnest(legs) AS leg FROM a
        UNION ALL
        SELECT 'b', provider, unnest(legs) FROM b
    ), sums AS (
        SELECT provider, leg.currency AS currency, leg.kind AS kind,
               coalesce(sum(leg.amount) FILTER (WHERE side = 'a'), 0) AS first,
               coalesce(sum(leg.amount) FILTER (WHERE side = 'b'), 0) AS second
          FROM legs GROUP BY ALL
    )
    SELECT provider, currency, kind, first::text, second::text, (second - first)::text
      FROM sums WHERE first <> second ORDER BY ALL
"""


def _sums(connection: duckdb.DuckDBPyConnection) -> list[MoneySum]:
    return [MoneySum(*row) for row in connection.execute(_SUMS).fetchall()]
