"""Differences between two schemas, field by field with paths, for a person who reviews a change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from schemas.compiler.avro_types import (
    Array,
    Enum,
    Field,
    Map,
    Nullable,
    Primitive,
    RecordType,
    Type,
)

WHOLE: Final = "the record"


class SchemaDifference(msgspec.Struct, frozen=True):
    """One change between two schemas.

    `what` is added, removed, type, default, symbols, name or order; the other fields are text for a
    person.
    """

    path: str
    what: str
    before: str
    after: str

    def __str__(self) -> str:
        """Return the change as one line for a person."""
        match self.what:
            case "added":
                return f"{self.path}: added, {self.after}"
            case "removed":
                return f"{self.path}: removed, was {self.before}"
        return f"{self.path}: {self.what} was {self.before}, is {self.after}"


def differences(before: Type, after: Type, path: str = "") -> Iterator[SchemaDifference]:
    """Yield every difference in meaning between two schemas.

    Documentation does not count. `[]` in a path means the items of a list or the values of a map.
    """
    where = path or WHOLE
    match before, after:
        case RecordType(), RecordType():
            if before.name != after.name:
                yield SchemaDifference(where, "name", before.name, after.name)
            yield from _of_records(before, after, path)
        case Enum(), Enum():
            yield from _of_enums(before, after, where)
        case Nullable(), Nullable():
            yield from differences(before.inner, after.inner, path)
        case Array(), Array():
            yield from differences(before.items, after.items, f"{path}[]")
        case Map(), Map():
            yield from differences(before.values, after.values, f"{path}[]")
        case _:
            if before != after:
                yield SchemaDifference(where, "type", type_text(before), type_text(after))


def type_text(type_: Type) -> str:
    """Return a type as a person writes it."""
    match type_:
        case Primitive(name) | Enum(name) | RecordType(name):
            return name
        case Nullable(inner):
            return f"{type_text(inner)} or null"
        case Array(items):
            return f"list of {type_text(items)}"
        case Map(values):
            return f"map of {type_text(values)}"


def _of_records(before: RecordType, after: RecordType, path: str) -> Iterator[SchemaDifference]:
    for old in before.fields:
        name = f"{path}.{old.name}" if path else old.name
        new = after.field(old.name)
        if new is None:
            yield SchemaDifference(name, "removed", _field_text(old), "")
            continue
        yield from differences(old.type, new.type, name)
        if (old.has_default, old.default) != (new.has_default, new.default):
            yield SchemaDifference(name, "default", _default_text(old), _default_text(new))
    for new in after.fields:
        if before.field(new.name) is None:
            yield SchemaDifference(
                f"{path}.{new.name}" if path else new.name, "added", "", _field_text(new)
            )
    kept = [field.name for field in before.fields if after.field(field.name) is not None]
    order = [field.name for field in after.fields if before.field(field.name) is not None]
    if kept != order:
        yield SchemaDifference(path or WHOLE, "order", ", ".join(kept), ", ".join(order))


def _of_enums(before: Enum, after: Enum, where: str) -> Iterator[SchemaDifference]:
    if before.name != after.name:
        yield SchemaDifference(where, "name", before.name, after.name)
    if before.symbols != after.symbols:
        yield SchemaDifference(
            where, "symbols", ", ".join(before.symbols), ", ".join(after.symbols)
        )
    if before.default != after.default:
        yield SchemaDifference(where, "default", str(before.default), str(after.default))


def _field_text(field: Field) -> str:
    return f"{type_text(field.type)}, {_default_text(field)}"


def _default_text(field: Field) -> str:
    return f"default {_json(field.default)}" if field.has_default else "no default"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
