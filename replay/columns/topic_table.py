"""Records of one topic as an Arrow table: the fields of its schema, and where each row is from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from replay.columns.avro_reader import FRAME_BYTES, TIME, Columns, arrow_fields, compile_reader
from replay.columns.byte_batch import Malformed
from replay.log.blocks import LogBlock
from schemas import codec
from schemas.compiler.avro_types import parse
from schemas.compiler.resolution import ReadRecord, resolve
from schemas.errors import InvariantBroken, RejectCode, Rejected
from schemas.registry import RECORDS, released_registry

HEADERS: Final = pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))
PROVENANCE: Final = pa.schema(
    [
        ("_topic", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
        ("_append_at", TIME),
        ("_key", pa.string()),
        ("_headers", HEADERS),
    ]
)
"""Columns that say where a row is from. `_append_at` is the record's timestamp: the broker's append
time where the topic keeps it, else the producer's clock. In `_key`, bytes that are not UTF-8 are
written as backslash escapes."""

_RAW: Final = pa.schema([("value", pa.binary())])


@dataclass
class TableStats:
    """What a `TopicTable` has met so far."""

    schema_ids: set[int] = field(default_factory=set)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Place and reason of each record that its topic's schemas cannot read; it has no row."""


class TopicTable:
    """Makes tables of one topic's records; all tables have one schema.

    A record without a value, as compacted topics use it to erase a key, is a row without fields.
    """

    def __init__(self, subject: str | None) -> None:
        """Take the subject of the topic's schema; None for bytes as they are."""
        self._subject = subject
        self._readers: dict[bytes, Callable[[Sequence[bytes]], Columns] | Rejected] = {}
        fields = [*_RAW]
        if subject is not None:
            self._record = parse(released_registry().latest(subject).json)
            self._decode = codec.decoder(RECORDS[subject])
            fields = arrow_fields(self._record)
        self.schema = pa.schema([*fields, *PROVENANCE])
        self._fields = pa.schema(fields)

    def build(self, block: LogBlock, stats: TableStats) -> pa.Table:
        """Return a block as a table, without the records that cannot be read."""
        if self._subject is None:
            columns = {"value": pa.array(block.values, pa.binary())}
        else:
            block, columns = self._read(block, stats)
        arrays = [columns[each.name] for each in self._fields]
        return pa.table([*arrays, *provenance(block)], schema=self.schema)

    def _read(self, block: LogBlock, stats: TableStats) -> tuple[LogBlock, Columns]:
        values: list[Any] = block.values
        if not values or None in values:
            return self._read_readable(block, stats)
        frame = values[0][:FRAME_BYTES]
        reader = self._reader(frame)
        if isinstance(reader, Rejected):
            return self._read_readable(block, stats)
        try:
            columns = reader(values)
        except Malformed:
            return self._read_readable(block, stats)
        stats.schema_ids.add(int.from_bytes(frame[1:], "big"))
        return block, columns

    def _read_readable(self, block: LogBlock, stats: TableStats) -> tuple[LogBlock, Columns]:
        """Read a block of several schemas, or one with records that are none of ours."""
        kept: list[int] = []
        by_frame: dict[bytes, list[int]] = {}
        for index, value in enumerate(block.values):
            if value is not None:
                try:
                    self._decode(value)
                except Rejected as rejected:
                    stats.unreadable.append((block.place(index), str(rejected)))
                    continue
                by_frame.setdefault(value[:FRAME_BYTES], []).append(len(kept))
            kept.append(index)
        block = block.keep(kept)
        pieces: list[Columns] = []
        order = np.full(len(block), -1, dtype=np.int64)
        count = 0
        for frame, places in by_frame.items():
            pieces.append(self._read_frame(frame, block, places))
            stats.schema_ids.add(int.from_bytes(frame[1:], "big"))
            order[places] = np.arange(count, count + len(places))
            count += len(places)
        indices = pa.array(order, mask=order < 0)
        columns = {}
        for each in self._fields:
            arrays = [piece[each.name] for piece in pieces] or [pa.nulls(0, each.type)]
            columns[each.name] = pa.concat_arrays(arrays).take(indices)
        return block, columns

    def _read_frame(self, frame: bytes, block: LogBlock, places: Sequence[int]) -> Columns:
        reader = self._reader(frame)
        if isinstance(reader, Rejected):
            raise reader
        values: list[Any] = [block.values[place] for place in places]
        try:
            return reader(values)
        except Malformed as error:
            raise InvariantBroken(
                f"{block.place(places[0])} and {len(places) - 1} more: each is readable alone, "
                f"not together: {error}"
            ) from error

    def _reader(self, frame: bytes) -> Callable[[Sequence[bytes]], Columns] | Rejected:
        if frame not in self._readers:
            self._readers[frame] = self._compile(frame)
        return self._readers[frame]

    def _compile(self, frame: bytes) -> Callable[[Sequence[bytes]], Columns] | Rejected:
        try:
            schema = codec.writer_schema(frame)
        except Rejected as rejected:
            return rejected
        if schema.subject != self._subject:
            detail = f"a {schema.subject} where a {self._subject} should be"
            return Rejected(RejectCode.BAD_CONTRACT, detail)
        plan = resolve(parse(schema.json), self._record)
        assert isinstance(plan, ReadRecord)
        return compile_reader(plan, self._record)


def provenance(block: LogBlock) -> list[pa.Array]:
    """Return the columns of `PROVENANCE` for a block."""
    count = len(block)
    times = np.fromiter(block.timestamps_ms, dtype=np.int64, count=count) * 1000
    return [
        pa.repeat(pa.scalar(block.topic, pa.string()), count),
        pa.repeat(pa.scalar(block.partition, pa.int32()), count),
        pa.array(block.offsets, pa.int64()),
        pa.array(times).view(TIME),
        _key_array(block.keys),
        header_array(block),
    ]


def _key_array(keys: Sequence[bytes | None]) -> pa.Array:
    try:
        return pa.array(keys, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:  # a key is not UTF-8
        texts = [None if key is None else key.decode("utf-8", "backslashreplace") for key in keys]
        return pa.array(texts, pa.string())


def header_array(block: LogBlock) -> pa.Array:
    """Return the headers of a block's records."""
    if not block.headers:
        no_items = pa.array([], HEADERS.value_type)
        none = pa.array(np.zeros(len(block) + 1, dtype=np.int32))
        return pa.ListArray.from_arrays(none, no_items, type=HEADERS)
    sizes = np.zeros(len(block) + 1, dtype=np.int32)
    names: list[str] = []
    values: list[bytes | None] = []
    for index in sorted(block.headers):
        sizes[index + 1] = len(block.headers[index])
        for name, value in block.headers[index]:
            names.append(name)
            values.append(value)
    items = pa.StructArray.from_arrays(
        [pa.array(names, pa.string()), pa.array(values, pa.binary())], fields=[*HEADERS.value_type]
    )
    offsets = pa.array(np.cumsum(sizes).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, items, type=HEADERS)
