"""Columns of a schema's records: one reader a field, made once from the schema file.

A reader takes the positions of many records and returns an Arrow array of one field with the
positions behind it. The way from a writer's schema to the latest one is the plan that the event
decoder uses too, so every released version gives the same columns.

Beyond the schema: an `Amount` becomes a decimal with its two numbers beside it; epoch milliseconds
become `timestamp[us, UTC]`; minor units of a record that names its scale get a decimal each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from replay.columns import decimals
from replay.columns.byte_batch import ByteBatch, Malformed, Positions
from schemas.compiler.avro_types import (
    TIMES,
    Array,
    Field,
    Map,
    Nullable,
    Primitive,
    RecordType,
    Type,
)
from schemas.compiler.resolution import (
    Default,
    Plan,
    ReadArray,
    ReadEnum,
    ReadMap,
    ReadNullable,
    ReadPrimitive,
    ReadRecord,
    Skip,
    skip_plan,
)

Columns: TypeAlias = dict[str, pa.Array]
Read: TypeAlias = Callable[[ByteBatch, Positions, Positions], tuple[pa.Array, Positions]]

TIME: Final = pa.timestamp("us", tz="UTC")
FRAME_BYTES: Final = 5
"""Bytes of a value before its record: a zero and the schema id."""
_AMOUNT: Final = "Amount"
_AMOUNT_FIELDS: Final = ("unscaled", "scale")
_MINOR: Final = "_minor"
_TIME_MAX_MS: Final = (2**63 - 1) // 1000
_INT_MAX: Final = 2**31
_PRIMITIVES: Final = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "int": pa.int32(),
    "long": pa.int64(),
    "boolean": pa.bool_(),
}


def arrow_fields(record: RecordType) -> list[pa.Field]:
    """Return the columns of a record type: name and Arrow type of each."""
    fields: list[pa.Field] = []
    has_scale = record.field("scale") is not None
    for field in record.fields:
        if _is_amount(field.type):
            fields.append(pa.field(field.name, decimals.TYPE))
            fields.append(pa.field(f"{field.name}_unscaled", pa.int64()))
            fields.append(pa.field(f"{field.name}_scale", pa.int32()))
            continue
        fields.append(pa.field(field.name, _arrow_type(field)))
        if has_scale and field.name.endswith(_MINOR):
            fields.append(pa.field(field.name.removesuffix(_MINOR), decimals.TYPE))
    return fields


def _arrow_type(field: Field) -> pa.DataType:
    return TIME if _is_time(field) else _type_of(field.type)


def _type_of(type_: Type) -> pa.DataType:
    match type_:
        case Primitive(name):
            return _PRIMITIVES[name]
        case Nullable(inner):
            return _type_of(inner)
        case Array(items):
            return pa.list_(pa.field("item", _type_of(items)))
        case Map(values):
            return pa.map_(pa.string(), _type_of(values))
        case RecordType():
            return pa.struct(arrow_fields(type_))
    return pa.string()


def _bare(type_: Type) -> Type:
    return type_.inner if isinstance(type_, Nullable) else type_


def _is_amount(type_: Type) -> bool:
    bare = _bare(type_)
    return isinstance(bare, RecordType) and bare.name == _AMOUNT


def _is_time(field: Field) -> bool:
    is_named = field.name in TIMES or field.name.endswith("_at")
    return is_named and _bare(field.type) == Primitive("long")


def compile_reader(plan: ReadRecord, record: RecordType) -> Callable[[Sequence[bytes]], Columns]:
    """Return the function that turns values under one schema id into the record's columns.

    `plan` leads from the writer's schema to `record`, the latest one. The function takes whole
    Kafka values, frames included, and raises Malformed if one of them is not such a record, or
    begins with another frame than the first.
    """
    read = _record_columns(plan, record)

    def read_values(values: Sequence[bytes]) -> Columns:
        batch = ByteBatch(values, skipped=FRAME_BYTES)
        if values and not batch.begin_with(values[0][:FRAME_BYTES]):
            raise Malformed("the values have different frames")
        columns, after = read(batch, batch.starts, batch.ends)
        batch.check_ends(after)
        return columns

    return read_values


ReadColumns: TypeAlias = Callable[[ByteBatch, Positions, Positions], tuple[Columns, Positions]]


def _record_columns(plan: ReadRecord, record: RecordType) -> ReadColumns:
    steps = [(field.name, _step(field, step, record)) for field, step in plan.steps]
    defaults = [argument for argument in plan.arguments if isinstance(argument, Default)]
    names = [field.name for field in arrow_fields(record)]
    types = {field.name: field.type for field in arrow_fields(record)}
    with_scale = record.field("scale") is not None
    wanted = {field.name for field in record.fields}

    def read(batch: ByteBatch, at: Positions, ends: Positions) -> tuple[Columns, Positions]:
        found: Columns = {}
        for name, step in steps:
            array, at = step(batch, at, ends)
            if name in wanted:
                found[name] = array
        for default in defaults:
            found[default.name] = _constant(default.value, types[default.name], at.size)
        _expand(found, with_scale=with_scale)
        return {name: found[name] for name in names}, at

    return read


def _step(field: Field, step: Plan, record: RecordType) -> Read:
    latest = record.field(field.name)
    if isinstance(step, Skip) or latest is None:
        return _compile(skip_plan(field.type), field.type)
    read = _compile(step, latest.type)
    return partial(_read_times, read) if _is_time(latest) else read


def _constant(value: Any, type_: pa.DataType, count: int) -> pa.Array:
    scalar = pa.scalar(None if value is None else value, type_)
    return pa.repeat(scalar, count)


def _expand(found: Columns, *, with_scale: bool) -> None:
    """Add the decimals of amounts and of minor units."""
    for name, array in [*found.items()]:
        if isinstance(array, pa.StructArray) and _is_amount_struct(array):
            unscaled, scale = array.flatten()
            found[name] = _to_decimals(unscaled, scale)
            found[f"{name}_unscaled"], found[f"{name}_scale"] = unscaled, scale
        elif with_scale and name.endswith(_MINOR):
            found[name.removesuffix(_MINOR)] = _to_decimals(array, found["scale"])


def _is_amount_struct(array: pa.StructArray) -> bool:
    return tuple(field.name for field in array.type) == _AMOUNT_FIELDS


def _to_decimals(unscaled: pa.Array, scale: pa.Array) -> pa.Array:
    missing = None
    if unscaled.null_count or scale.null_count:
        missing = _is_null(unscaled) | _is_null(scale)
    return decimals.decimal_array(_without_nulls(unscaled), _without_nulls(scale), missing)


def _is_null(array: pa.Array) -> Any:
    return np.asarray(array.is_null().to_numpy(zero_copy_only=False))


def _without_nulls(array: pa.Array) -> Any:
    filled = array.fill_null(0) if array.null_count else array
    return filled.to_numpy(zero_copy_only=False)


def _read_times(
    read: Read, batch: ByteBatch, at: Positions, ends: Positions
) -> tuple[pa.Array, Positions]:
    """Read epoch ms as a time; one that microseconds of 64 bits cannot hold is null."""
    array, after = read(batch, at, ends)
    if array.null_count == at.size:
        return pa.nulls(at.size, TIME), after
    ms = _without_nulls(array)
    if not array.null_count and ms.max() <= _TIME_MAX_MS and ms.min() >= -_TIME_MAX_MS:
        return pa.array(ms * 1000).view(TIME), after
    missing = (ms > _TIME_MAX_MS) | (ms < -_TIME_MAX_MS)
    if array.null_count:
        missing |= _is_null(array)
    return pa.array(ms * 1000, mask=missing if missing.any() else None).cast(TIME), after


def _compile(plan: Plan, type_: Type) -> Read:  # noqa: PLR0911 - one return for each case
    """Return the reader of a plan's step; `type_` is what the step's values are in the end."""
    match plan:
        case ReadPrimitive(name):
            return _PRIMITIVE_READERS[name]
        case ReadEnum(_, symbols):
            return partial(_read_enum, pa.array(symbols, pa.string()))
        case ReadNullable(inner):
            return partial(_read_nullable, _compile(inner, _bare(type_)), _raw_type(type_))
        case ReadArray(items):
            bare = _bare(type_)
            assert isinstance(bare, Array)
            return partial(_read_list, _compile(items, bare.items), _type_of(bare.items))
        case ReadMap(values):
            bare = _bare(type_)
            assert isinstance(bare, Map)
            return partial(_read_map, _compile(values, bare.values), _type_of(bare.values))
        case ReadRecord():
            bare = _bare(type_)
            assert isinstance(bare, RecordType)
            if bare.name == _AMOUNT:
                return _read_amount
            # A record that is read past has no arguments: its own fields are all there is.
            whole = plan if plan.builds else _as_written(bare)
            return partial(_read_struct, _record_columns(whole, bare))
    raise AssertionError(plan)


def _as_written(record: RecordType) -> ReadRecord:
    steps = tuple((field, skip_plan(field.type)) for field in record.fields)
    return ReadRecord(record.name, steps, tuple(field.name for field in record.fields))


def _raw_type(type_: Type) -> pa.DataType:
    """Return the Arrow type of what a reader returns before amounts are expanded."""
    if _is_amount(type_):
        return pa.struct([("unscaled", pa.int64()), ("scale", pa.int32())])
    return _type_of(type_)


def _read_long(batch: ByteBatch, at: Positions, ends: Positions) -> tuple[pa.Array, Positions]:
    del ends
    numbers, after = batch.read_longs(at)
    return pa.array(numbers), after


def _read_int(batch: ByteBatch, at: Positions, ends: Positions) -> tuple[pa.Array, Positions]:
    del ends
    numbers, after = batch.read_longs(at)
    if ((numbers >= _INT_MAX) | (numbers < -_INT_MAX)).any():
        raise Malformed("a number has more than 32 bits")
    return pa.array(numbers.astype(np.int32)), after


def _read_boolean(batch: ByteBatch, at: Positions, ends: Positions) -> tuple[pa.Array, Positions]:
    del ends
    booleans, after = batch.read_booleans(at)
    return pa.array(booleans), after


_PRIMITIVE_READERS: Final[dict[str, Read]] = {
    "string": ByteBatch.read_texts,
    "bytes": ByteBatch.read_bytes,
    "long": _read_long,
    "int": _read_int,
    "boolean": _read_boolean,
}


def _read_enum(
    symbols: pa.Array, batch: ByteBatch, at: Positions, ends: Positions
) -> tuple[pa.Array, Positions]:
    del ends
    numbers, after = batch.read_longs(at)
    if ((numbers < 0) | (numbers >= len(symbols))).any():
        raise Malformed("an enum's number has no symbol")
    return symbols.take(pa.array(numbers)), after


def _read_nullable(
    read: Read, type_: pa.DataType, batch: ByteBatch, at: Positions, ends: Positions
) -> tuple[pa.Array, Positions]:
    is_present, after = batch.read_presence(at)
    present = np.flatnonzero(is_present)
    if present.size == at.size:
        return read(batch, after, ends)
    if not present.size:
        return pa.nulls(at.size, type_), after
    array, ends_of_values = read(batch, after[present], ends[present])
    after[present] = ends_of_values
    places = np.cumsum(is_present) - 1
    return array.take(pa.array(places, mask=~is_present)), after


def _read_amount(batch: ByteBatch, at: Positions, ends: Positions) -> tuple[pa.Array, Positions]:
    unscaled, at = _read_long(batch, at, ends)
    scale, at = _read_int(batch, at, ends)
    return pa.StructArray.from_arrays([unscaled, scale], [*_AMOUNT_FIELDS]), at


def _read_struct(
    read: ReadColumns, batch: ByteBatch, at: Positions, ends: Positions
) -> tuple[pa.Array, Positions]:
    columns, after = read(batch, at, ends)
    return pa.StructArray.from_arrays([*columns.values()], [*columns]), after


def _read_list(
    read: Read, type_: pa.DataType, batch: ByteBatch, at: Positions, ends: Positions
) -> tuple[pa.Array, Positions]:
    offsets, (items,), after = _read_items(lambda *where: _single(read, *where), batch, at, ends)
    values = pa.array([], type_) if items is None else items
    return pa.ListArray.from_arrays(offsets, values), after


def _read_map(
    read: Read, type_: pa.DataType, batch: ByteBatch, at: Positions, ends: Positions
) -> tuple[pa.Array, Positions]:
    def read_pair(
        batch: ByteBatch, at: Positions, ends: Positions
    ) -> tuple[list[pa.Array], Positions]:
        keys, at = batch.read_texts(at, ends)
        values, at = read(batch, at, ends)
        return [keys, values], at

    offsets, found, after = _read_items(read_pair, batch, at, ends, width=2)
    keys, values = found
    if keys is None or values is None:
        keys, values = pa.array([], pa.string()), pa.array([], type_)
    return pa.MapArray.from_arrays(offsets, keys, values), after


def _single(
    read: Read, batch: ByteBatch, at: Positions, ends: Positions
) -> tuple[list[pa.Array], Positions]:
    array, after = read(batch, at, ends)
    return [array], after


def _read_items(
    read: Callable[[ByteBatch, Positions, Positions], tuple[list[pa.Array], Positions]],
    batch: ByteBatch,
    at: Positions,
    ends: Positions,
    width: int = 1,
) -> tuple[pa.Array, list[pa.Array | None], Positions]:
    """Read the blocks of a list or map: the n-th item of all records that have one, then the next.

    Returns the offsets of each record's items, the items in the order of the records, and the
    positions behind. There are `width` arrays of items, None where no record has any.
    """
    after = at.copy()
    owners: list[Any] = []
    pieces: list[list[pa.Array]] = []
    rows = np.arange(at.size)
    while rows.size:
        counts = _read_counts(batch, after, ends, rows)
        rows, counts = rows[counts > 0], counts[counts > 0]
        for index in range(int(counts.max()) if counts.size else 0):
            having = rows[counts > index]
            arrays, after[having] = read(batch, after[having], ends[having])
            pieces.append(arrays)
            owners.append(having)
    sizes = np.zeros(at.size + 1, dtype=np.int64)
    for having in owners:
        sizes[having + 1] += 1
    offsets = pa.array(np.cumsum(sizes).astype(np.int32))
    return offsets, _in_order(owners, pieces, width), after


def _read_counts(batch: ByteBatch, after: Positions, ends: Positions, rows: Any) -> Any:
    """Read the count of each row's next block, and move on; 0 is the end of the list."""
    counts, behind = batch.read_longs(after[rows])
    sized = np.flatnonzero(counts < 0)
    if sized.size:  # the block's size in bytes follows, for readers that skip it
        counts[sized] = -counts[sized]
        _, behind[sized] = batch.read_longs(behind[sized])
    if ((counts < 0) | (counts > ends[rows] - behind)).any():
        raise Malformed("a list has more items than bytes")
    after[rows] = behind
    return counts


def _in_order(owners: list[Any], pieces: list[list[pa.Array]], width: int) -> list[pa.Array | None]:
    if not pieces:
        return [None] * width
    if len(pieces) == 1:
        return [*pieces[0]]
    order = pa.array(np.argsort(np.concatenate(owners), kind="stable"))
    return [pa.concat_arrays(arrays).take(order) for arrays in zip(*pieces, strict=True)]
