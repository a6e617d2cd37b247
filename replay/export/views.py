"""A slice of the topics as typed views of DuckDB: transactions, legs, outcomes and more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import duckdb

from replay.export.request import ExportRequest
from replay.export.run import export_to
from replay.log.blocks import LogSource
from schemas.errors import UsageError
from schemas.topics import ALERTS, BALANCES, OUTCOMES, PLAYER_EVENTS, TRANSACTIONS

VIEWS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "transactions": TRANSACTIONS,
        "outcomes": OUTCOMES,
        "balances": BALANCES,
        "alerts": ALERTS,
        "player_events": PLAYER_EVENTS,
    }
)
"""Views with the topic of each. `legs` has a row for each leg of a transaction, `raw` the records
of the raw topics that were asked for."""

_LEGS: Final = """
    CREATE VIEW legs AS
    SELECT * EXCLUDE (legs, leg_of_event), leg_of_event.*
      FROM (SELECT *, unnest(legs) AS leg_of_event FROM transactions)
"""
_RAW: Final = "raw"


@dataclass(frozen=True)
class QueryResult:
    """Names of the columns, and the rows."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]


class SliceDatabase:
    """The views, over Parquet files in a folder of their own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def query(self, sql: str) -> QueryResult | None:
        """Run one statement; return its rows, None for one without. Raises UsageError."""
        try:
            found = self._connection.sql(sql)
            if found is None:
                return None
            return QueryResult(tuple(found.columns), found.fetchall())
        except duckdb.Error as error:
            raise UsageError(f"DuckDB does not take the statement: {error}") from error


def export_views(
    source: LogSource,
    prefix: str,
    requests: Mapping[str, ExportRequest],
    folder: Path,
    *,
    begin: Callable[[str], None] = lambda _: None,
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> None:
    """Export the request of each view into a file below a folder.

    `prefix` is that of the topics' names on the broker; requests whose names begin with `raw` are
    one view. Raises as `export_to`.
    """
    for name, request in requests.items():
        begin(f"reading {request.topic}")
        file = folder / f"{name}.parquet"
        export_to(source, request, prefix + request.topic, file, progress=progress)


@contextmanager
def open_views(folder: Path) -> Iterator[SliceDatabase]:
    """Open DuckDB over the exported views; a statement can read or write nothing outside."""
    with duckdb.connect() as connection:
        raw = []
        for file in sorted(folder.glob("*.parquet")):
            if file.stem.startswith(_RAW):
                raw.append(str(file))
            else:
                _create_view(connection, file.stem, [str(file)])
            if file.stem == "transactions":
                connection.execute(_LEGS)
        if raw:
            _create_view(connection, _RAW, raw)
        connection.execute("SET allowed_directories = [?]", [str(folder)])
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        yield SliceDatabase(connection)


def _create_view(connection: duckdb.DuckDBPyConnection, name: str, files: list[str]) -> None:
    listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    read = f"read_parquet([{listed}])"
    connection.execute(f'CREATE VIEW "{name}" AS SELECT * FROM {read}')  # noqa: S608 - names of ours
