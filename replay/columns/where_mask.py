"""`--where` over a whole table: one boolean a row, by Arrow's kernels.

The meaning is that of `where.holds`. Beyond it, `check_where` refuses a field that the table does
not have and a literal of another type than the field's, before anything is read.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from replay.columns import decimals
from replay.columns.where import (
    AllOf,
    AnyOf,
    Comparison,
    Expression,
    LiteralValue,
    Not,
    Operator,
    parse_moment,
)
from schemas.errors import UsageError, suggest

_COMPARE: Final = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
    "in": pc.equal,
}
_LONG_MAX: Final = 2**63 - 1


def check_where(expression: Expression, schema: pa.Schema) -> None:
    """Check an expression against a table's columns.

    Raises UsageError for an unknown field and for a literal that the field cannot be compared with.
    """
    match expression:
        case Not(inner):
            check_where(inner, schema)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                check_where(part, schema)
        case Comparison():
            type_ = _type_at(expression.path, schema)
            _check_operator(expression, type_)
            for literal in expression.literals:
                _to_scalar(expression.path, literal, type_)


def mask_rows(expression: Expression, table: pa.Table) -> Any:
    """Return for each row whether the expression holds, as a numpy array of booleans."""
    match expression:
        case Not(inner):
            return ~mask_rows(inner, table)
        case AllOf(parts):
            return np.logical_and.reduce([mask_rows(part, table) for part in parts])
        case AnyOf(parts):
            return np.logical_or.reduce([mask_rows(part, table) for part in parts])
    return _mask_test(expression, table)


def _mask_test(test: Comparison, table: pa.Table) -> Any:
    column = table.column(test.path[0])
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    values, owners = _reach(array, test.path[1:], None)
    satisfied = np.flatnonzero(_satisfied(test, values))
    mask = np.zeros(table.num_rows, dtype=bool)
    mask[satisfied if owners is None else owners[satisfied]] = True
    return mask


def _reach(array: pa.Array, path: tuple[str, ...], owners: Any) -> tuple[pa.Array, Any]:
    """Return the values at a path, and the row that each belongs to (None: one a row, in order)."""
    if pa.types.is_list(array.type):
        items, parents = pc.list_flatten(array), pc.list_parent_indices(array)
        rows = parents.to_numpy(zero_copy_only=False)
        if array.null_count:  # a list that is missing is one missing value
            missing = np.flatnonzero(_to_numpy(array.is_null()))
            items = pa.concat_arrays([items, pa.nulls(missing.size, items.type)])
            rows = np.concatenate([rows, missing])
        return _reach(items, path, rows if owners is None else owners[rows])
    if not path:
        return array, owners
    if pa.types.is_map(array.type):
        return _reach(pc.map_lookup(array, path[0], "last"), path[1:], owners)
    return _reach(pc.struct_field(array, path[0]), path[1:], owners)


def _satisfied(test: Comparison, values: pa.Array) -> Any:
    if test.operator == "null":
        return _to_numpy(values.is_null())
    if test.operator == "true":
        return _to_numpy(values.fill_null(fill_value=False))
    found = np.zeros(len(values), dtype=bool)
    for literal in test.literals:
        if test.operator == "contains":
            result = pc.match_substring(values, str(literal))
        else:
            scalar = _to_scalar(test.path, literal, values.type)
            result = _COMPARE[test.operator](values, scalar)
        found |= _to_numpy(result.fill_null(fill_value=False))
    return found


def _to_numpy(array: pa.Array) -> Any:
    return np.asarray(array.to_numpy(zero_copy_only=False)).astype(bool)


def _type_at(path: tuple[str, ...], schema: pa.Schema) -> pa.DataType:
    container: Any = schema
    type_: pa.DataType | None = None
    for depth, name in enumerate(path):
        if pa.types.is_map(container) if depth else False:
            container = type_ = container.item_type
            continue
        names = list(container.names) if depth == 0 or pa.types.is_struct(container) else []
        if name not in names:
            known = ".".join(path[: depth + 1])
            inside = [".".join([*path[:depth], each]) for each in names]
            hint = suggest(known, inside) or f": there are {', '.join(inside) or 'none'}"
            raise UsageError(f"--where: the topic has no field {known!r}{hint}")
        container = container.field(name).type
        while pa.types.is_list(container):
            container = container.value_type
        type_ = container
    assert type_ is not None
    return type_


def _check_operator(test: Comparison, type_: pa.DataType) -> None:
    operator: Operator = test.operator
    field = ".".join(test.path)
    if operator == "null":
        return
    if operator == "true" and not pa.types.is_boolean(type_):
        raise UsageError(f"--where: {field} is not true or false: compare it, as in {field} = …")
    if operator == "contains" and not pa.types.is_string(type_):
        raise UsageError(f"--where: {field} is not a text, so it contains none")
    if pa.types.is_boolean(type_) and operator not in {"true", "=", "!=", "in"}:
        raise UsageError(f"--where: {field} is true or false, which have no order: use = or !=")


def _to_scalar(path: tuple[str, ...], literal: LiteralValue, type_: pa.DataType) -> pa.Scalar:
    """Return a literal as a value of a field's type. Raises UsageError where it is none."""
    field = ".".join(path)
    if pa.types.is_string(type_):
        if isinstance(literal, str):
            return pa.scalar(literal, type_)
        raise UsageError(f"--where: {field} is a text: write '{literal}' in quotes")
    if pa.types.is_boolean(type_):
        if isinstance(literal, bool):
            return pa.scalar(literal, type_)
        raise UsageError(f"--where: {field} is true or false, not {literal!s}")
    if pa.types.is_timestamp(type_):
        moment = parse_moment(literal) if isinstance(literal, str) else None
        if moment is not None:
            return pa.scalar(moment, type_)
        raise UsageError(f"--where: {field} is a time: write '2026-11-30T12:00:00Z' in quotes")
    if isinstance(literal, Decimal):
        scalar = _to_number(literal, type_)
        if scalar is not None:
            return scalar
    raise UsageError(f"--where: {field} is of type {type_}, with which {literal!s} is not compared")


def _to_number(literal: Decimal, type_: pa.DataType) -> pa.Scalar | None:
    if pa.types.is_integer(type_):
        is_whole = literal == literal.to_integral_value() and abs(literal) <= _LONG_MAX
        return pa.scalar(int(literal), pa.int64()) if is_whole else None
    if pa.types.is_decimal(type_):
        with localcontext(prec=100):
            fixed = literal.quantize(Decimal(1).scaleb(-decimals.DECIMALS))
            fits = fixed == literal and abs(fixed) < Decimal(10) ** (38 - decimals.DECIMALS)
        return pa.scalar(fixed, decimals.TYPE) if fits else None
    return None
