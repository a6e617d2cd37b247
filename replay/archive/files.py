"""One file of the archive: its columns, and its records again.

A file holds the records `[from, to)` of one partition: the fields of the topic's schema as columns,
`_topic` to `_headers` as in an export, and `_value` with the exact bytes. `_raw_key` is set where a
key is not UTF-8, so that every record can be played back byte for byte.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from replay.archive.manifest import FileManifest, FileSpan, rising_times
from replay.columns.avro_reader import TIME
from replay.columns.topic_table import PROVENANCE, TableStats, TopicTable, provenance
from replay.export.request import ExportRequest
from replay.export.writers import parquet_options
from replay.log.blocks import LogBlock

_RAW_COLUMNS: Final = ["_offset", "_append_at", "_key", "_raw_key", "_headers", "_value"]
_READ_ROWS: Final = 8_192


@dataclass(frozen=True)
class MadeFile:
    """A file's bytes, and its manifest."""

    content: bytes
    manifest: FileManifest

    @cached_property
    def manifest_bytes(self) -> bytes:
        """Content of the manifest's file."""
        return msgspec.json.format(msgspec.json.encode(self.manifest)) + b"\n"


class FileMaker:
    """Makes the files of one topic; the same records give the same bytes."""

    def __init__(self, topic: str) -> None:
        """Take the topic's name without a namespace."""
        self._topic = topic
        subject = ExportRequest(topic).subject
        self._table = TopicTable(subject)
        fields = [each for each in self._table.schema if each.name not in PROVENANCE.names]
        # The bytes of a topic without a schema are its `_value`.
        self._fields = fields if subject is not None else []
        own = [pa.field("_value", pa.binary()), pa.field("_raw_key", pa.binary())]
        self._schema = pa.schema([*self._fields, *PROVENANCE, *own])

    def make(self, span: FileSpan, block: LogBlock) -> MadeFile:
        """Return the file of a span from all of its records."""
        stats = TableStats()
        named = LogBlock(
            self._topic,
            block.partition,
            block.offsets,
            block.timestamps_ms,
            block.keys,
            block.values,
            block.headers,
        )
        table = pa.table(
            [*self._field_arrays(named, stats), *provenance(named), *_exact_parts(named)],
            schema=self._schema,
        )
        buffer = io.BytesIO()
        pq.write_table(table, buffer, **parquet_options(self._schema))
        content = buffer.getvalue()
        times = named.timestamps_ms
        manifest = FileManifest(
            *(span.topic, span.partition, span.from_offset, span.to_offset),
            records=len(named),
            sha256=hashlib.sha256(content).hexdigest(),
            schema_ids=sorted(stats.schema_ids),
            first_append_ms=min(times, default=None),
            last_append_ms=max(times, default=None),
            unreadable=stats.unreadable,
            unreadable_headers=sorted(block.unreadable_headers),
            code_version=version("pitboss"),
            rising_times=rising_times(named.offsets, times).pack(),
        )
        return MadeFile(content, manifest)

    def _field_arrays(self, block: LogBlock, stats: TableStats) -> list[pa.Array]:
        """Return the fields' columns; a record that cannot be read has nulls."""
        if not self._fields:
            return []
        table = self._table.build(block, stats)
        columns = [table.column(each.name).combine_chunks() for each in self._fields]
        arrays = [_whole(column) for column in columns]
        if table.num_rows == len(block):
            return arrays
        readable = table.column("_offset").to_numpy()
        places = np.searchsorted(readable, np.array(block.offsets))
        found = np.clip(places, 0, max(0, len(readable) - 1))
        missing = (
            readable[found] != np.array(block.offsets)
            if len(readable)
            else np.ones(len(block), dtype=bool)
        )
        return [array.take(pa.array(found, mask=missing)) for array in arrays]


def _whole(column: Any) -> pa.Array:
    if isinstance(column, pa.ChunkedArray):
        return pa.concat_arrays(column.chunks) if column.num_chunks else pa.nulls(0, column.type)
    return column


def _exact_parts(block: LogBlock) -> list[pa.Array]:
    keys = [None if key is None or _is_text(key) else key for key in block.keys]
    return [pa.array(block.values, pa.binary()), pa.array(keys, pa.binary())]


def _is_text(key: bytes) -> bool:
    try:
        return key.decode().encode() == key
    except UnicodeDecodeError:
        return False


def read_records(content: bytes, topic: str, span: FileSpan) -> Iterator[LogBlock]:
    """Yield the records of a file as they were on the broker; `topic` is what they are named."""
    file = pq.ParquetFile(io.BytesIO(content))
    for batch in file.iter_batches(_READ_ROWS, columns=_RAW_COLUMNS):
        yield _to_block(batch, topic, span.partition)


def _to_block(batch: pa.RecordBatch, topic: str, partition: int) -> LogBlock:
    raw_keys = batch.column("_raw_key").to_pylist()
    keys = [
        raw if raw is not None else None if key is None else key.encode()
        for raw, key in zip(raw_keys, batch.column("_key").to_pylist(), strict=True)
    ]
    times = batch.column("_append_at").cast(TIME).cast(pa.int64()).to_numpy() // 1000
    block = LogBlock(
        topic,
        partition,
        batch.column("_offset").to_pylist(),
        times.tolist(),
        keys,
        batch.column("_value").to_pylist(),
    )
    headers = batch.column("_headers")
    if len(headers.flatten()):
        for index, pairs in enumerate(headers.to_pylist()):
            if pairs:
                block.headers[index] = [(pair["name"], pair["value"]) for pair in pairs]
    return block
