"""Tables as files of one format, the same bytes for the same rows."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from replay.log.pace import NO_BOUND, PacedReader, PacedWriter, ReplayPace

PARQUET: Final[Mapping[str, Any]] = {
    "compression": "zstd",
    "version": "2.6",
    "coerce_timestamps": "us",
    "write_page_index": True,
    "store_schema": True,
}
"""Options of every Parquet file; a change of one changes the bytes of all."""

_UNIQUE: Final = frozenset(
    {
        "event_id",
        "provider_tx_id",
        "fingerprint",
        "value",
        "_value",
        "_offset",
        "attempt.offset",
        "reference.tx_id",
        "round_id",
        "drift_id",
    }
)
"""Columns whose values hardly repeat: a dictionary of them would cost time and save nothing."""


_ROWS_PER_STEP: Final = 1_024
"""About 10 ms of making text."""


def write_parquet(table: pa.Table, file: Path, pace: ReplayPace) -> None:
    """Write a table as one Parquet file."""
    with PacedWriter(file, pace) as out:
        pq.write_table(table, out, **parquet_options(table.schema))


def parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """Return the options of a Parquet writer for tables of this schema."""
    leaves = [path for each in schema for path in _leaf_paths(each.name, each.type)]
    return {**PARQUET, "use_dictionary": [path for path in leaves if path not in _UNIQUE]}


def _leaf_paths(path: str, type_: pa.DataType) -> Iterator[str]:
    """Yield the paths of a column's leaves, as Parquet names them."""
    if pa.types.is_list(type_):
        yield from _leaf_paths(f"{path}.list.element", type_.value_type)
    elif pa.types.is_map(type_):
        yield from _leaf_paths(f"{path}.key_value.key", type_.key_type)
        yield from _leaf_paths(f"{path}.key_value.value", type_.item_type)
    elif pa.types.is_struct(type_):
        for each in type_:
            yield from _leaf_paths(f"{path}.{each.name}", each.type)
    else:
        yield path


def write_text(table: pa.Table, file: Path, pace: ReplayPace) -> None:
    """Write a table's rows as the file's suffix says: `.jsonl` or `.csv`, this without a header."""
    to_text = to_json_lines if file.suffix == ".jsonl" else to_csv
    with PacedWriter(file, pace) as out:
        for batch in table.to_batches(max_chunksize=_ROWS_PER_STEP):
            out.write(to_text(pa.Table.from_batches([batch])))


def to_json_lines(table: pa.Table) -> bytes:
    """Return a JSON object a row, in lines; amounts are decimal texts, times RFC 3339."""
    lines = [orjson.dumps(row) + b"\n" for row in plain_rows(table)]
    return b"".join(lines)


def to_csv(table: pa.Table, *, with_header: bool = False) -> bytes:
    """Return a line a row; a record, list or map is its JSON text."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if with_header:
        writer.writerow(table.column_names)
    for row in plain_rows(table):
        writer.writerow([_cell(value) for value in row.values()])
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return orjson.dumps(value).decode() if isinstance(value, dict | list) else value


def plain_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows as JSON values: exact amounts and times as text, bytes as UTF-8 or base64."""
    converters = {each.name: _converter(each.type) for each in table.schema}
    for batch in table.to_batches(max_chunksize=_ROWS_PER_STEP):
        columns = [
            [None if value is None else convert(value) for value in column.to_pylist()]
            for column, convert in zip(batch.columns, converters.values(), strict=True)
        ]
        for values in zip(*columns, strict=True):
            yield dict(zip(converters, values, strict=True))


def _converter(type_: pa.DataType) -> Callable[[Any], Any]:
    if pa.types.is_list(type_):
        item = _converter(type_.value_type)
        return lambda values: [None if value is None else item(value) for value in values]
    if pa.types.is_map(type_):
        return dict
    if pa.types.is_struct(type_):
        inner = {each.name: _converter(each.type) for each in type_}
        return lambda values: {
            name: None if values[name] is None else convert(values[name])
            for name, convert in inner.items()
        }
    return _leaf


def _leaf(value: Any) -> Any:
    match value:
        case Decimal():
            return _decimal_text(value)
        case datetime():
            return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return "base64:" + base64.b64encode(value).decode()
    return value


def _decimal_text(value: Decimal) -> str:
    """Return a decimal with at least two decimals and without further zeros: 1.50, 0.125."""
    whole, _, fraction = f"{value:f}".partition(".")
    return f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"


def file_digest(file: Path, pace: ReplayPace = NO_BOUND) -> str:
    """Return a file's SHA-256, in hex."""
    with PacedReader(file, pace) as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
