"""Masking of sensitive fields: their values are null, their columns stay."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def mask_fields(table: pa.Table, paths: Iterable[str]) -> pa.Table:
    """Return a table in which the fields at these paths are null; a path has dots inside records.

    A list's items keep their number. Raises KeyError for a path that does not exist.
    """
    for path in paths:
        name, *inner = path.split(".")
        place = table.schema.get_field_index(name)
        if place < 0:
            raise KeyError(path)
        column = table.column(place)
        _check_path(column.type, inner, path)
        chunks = [_mask(chunk, inner) for chunk in column.chunks]
        table = table.set_column(place, name, pa.chunked_array(chunks, column.type))
    return table


def _check_path(type_: pa.DataType, inner: list[str], path: str) -> None:
    for name in inner:
        type_ = type_.value_type if pa.types.is_list(type_) else type_
        if name not in type_.names:
            raise KeyError(path)
        type_ = type_.field(name).type


def _mask(array: pa.Array, path: list[str]) -> pa.Array:
    if not path:
        return pa.nulls(len(array), array.type)
    if array.null_count == len(array):
        return array
    validity = array.is_null() if array.null_count else None
    if pa.types.is_list(array.type):
        items = _mask(array.flatten(), path)
        sizes = pc.fill_null(pc.list_value_length(array), 0)
        offsets = np.zeros(len(array) + 1, dtype=np.int32)
        np.cumsum(sizes.to_numpy(zero_copy_only=False), out=offsets[1:])
        return pa.ListArray.from_arrays(pa.array(offsets), items, type=array.type, mask=validity)
    columns = array.flatten()
    place = array.type.names.index(path[0])
    columns[place] = _mask(columns[place], path[1:])
    return pa.StructArray.from_arrays(columns, fields=[*array.type], mask=validity)


def mask_headers(headers: pa.Array, plain: Collection[str]) -> pa.Array:
    """Return record headers in which only the named ones keep their values."""
    items = headers.flatten()
    if not len(items):
        return headers
    names, values = items.flatten()
    kept = pc.is_in(names, value_set=pa.array(sorted(plain), pa.string()))
    values = pc.if_else(kept, values, pa.scalar(None, values.type))
    sizes = pc.fill_null(pc.list_value_length(headers), 0).to_numpy(zero_copy_only=False)
    offsets = np.zeros(len(headers) + 1, dtype=np.int32)
    np.cumsum(sizes, out=offsets[1:])
    struct = pa.StructArray.from_arrays([names, values], fields=[*items.type])
    return pa.ListArray.from_arrays(pa.array(offsets), struct, type=headers.type)
