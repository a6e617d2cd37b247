"""Binding of schema records to classes, checked field by field.

The check is needed because the compiled codec builds the classes by position.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec
from msgspec import inspect

from schemas.compiler.avro_types import (
    Array,
    BadSchema,
    Enum,
    Map,
    Nullable,
    Primitive,
    RecordType,
    Type,
)

Classes: TypeAlias = dict[str, type[msgspec.Struct]]
"""The class of each record in a schema, by the record's name."""

_PRIMITIVES: dict[str, type[inspect.Type]] = {
    "string": inspect.StrType,
    "bytes": inspect.BytesType,
    "int": inspect.IntType,
    "long": inspect.IntType,
    "boolean": inspect.BoolType,
}


def bind(record: RecordType, struct: type[msgspec.Struct]) -> Classes:
    """Return the class of each record in a schema, by the record's name.

    Raises BadSchema where a class does not have its record's fields, in order.
    """
    classes: Classes = {}
    _bind_record(record, struct, classes)
    return classes


def _bind_record(record: RecordType, struct: type[msgspec.Struct], classes: Classes) -> None:
    classes[record.name] = struct
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)
    expected, actual = (
        [field.name for field in record.fields],
        [field.name for field in info.fields],
    )
    if expected != actual:
        raise BadSchema(f"{struct.__name__} has the fields {actual}, its schema {expected}")
    for field, member in zip(record.fields, info.fields, strict=True):
        if not _fits(field.type, member.type, classes):
            raise BadSchema(
                f"{struct.__name__}.{field.name} cannot hold what its schema says: {field.type}"
            )


def _fits(type_: Type, member: inspect.Type, classes: Classes) -> bool:  # noqa: PLR0911 - one return for each case
    match type_, member:
        case Primitive(), _:
            return isinstance(member, _PRIMITIVES[type_.name])
        case Enum(), _:
            return isinstance(member, inspect.StrType)
        case Nullable(), inspect.UnionType():
            others = [one for one in member.types if not isinstance(one, inspect.NoneType)]
            return len(others) == 1 < len(member.types) and _fits(type_.inner, others[0], classes)
        case Array(), inspect.ListType():
            return _fits(type_.items, member.item_type, classes)
        case Map(), inspect.DictType():
            return isinstance(member.key_type, inspect.StrType) and _fits(
                type_.values, member.value_type, classes
            )
        case RecordType(), inspect.StructType():
            _bind_record(type_, member.cls, classes)
            return True
    return False


def default_value(struct: type[msgspec.Struct], field: str, value: Any) -> Any:
    """Return a schema file's default as a value of the class.

    Raises BadSchema where it does not fit.
    """
    annotation = next(one.type for one in msgspec.structs.fields(struct) if one.name == field)
    try:
        return msgspec.convert(value, annotation)
    except msgspec.ValidationError as error:
        raise BadSchema(f"{struct.__name__}.{field}: default {value!r}: {error}") from error
