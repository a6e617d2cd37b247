"""The subset of Avro that our contracts use, as a small tree, and its fields with repeating values.

Records, arrays, maps, enums, strings, bytes, booleans, int, long, and unions of null with one other
type. Anything else in a schema file is an error: a float has no place in money, and a wider union
says nothing that a record does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from schemas.errors import Fatal

AvroJson: TypeAlias = dict[str, Any]
"""Content of a schema file."""

PRIMITIVES: Final = frozenset({"string", "bytes", "int", "long", "boolean"})

REPEATING: Final = frozenset(
    {
        "action",
        "actor",
        "brand",
        "campaign_id",
        "certainty",
        "code",
        "code_version",
        "currency",
        "game_id",
        "kind",
        "operation",
        "outcome",
        "provider",
        "provider_version",
        "reason",
        "region",
        "rule_id",
        "severity",
        "signature",
        "stage",
        "topic",
        "type",
        "unit",
    }
)
"""Strings with few different values: their encoded form is remembered. A wrong guess costs time,
never a byte."""

TIMES: Final = frozenset(
    {
        "appended_at",
        "decided_at",
        "episode_start",
        "occurred_at",
        "provider_at",
        "received_at",
        "source_timestamp",
        "window_end",
        "window_start",
    }
)
"""Fields in epoch milliseconds, six bytes on the wire until 2039. A wrong guess costs only time."""


class BadSchema(Fatal):
    """A schema file is unusable: unknown type, unknown name, or not its record class's fields."""

    code = "BAD_SCHEMA"
    exit_code = 78  # EX_CONFIG of sysexits.h


@dataclass(frozen=True)
class Primitive:
    """`string`, `bytes`, `int`, `long` or `boolean`."""

    name: str


@dataclass(frozen=True)
class Enum:
    """One of several symbols; a reader replaces an unknown one by its `default`."""

    name: str
    symbols: tuple[str, ...]
    default: str | None


@dataclass(frozen=True)
class Nullable:
    """Union of null, which comes first, and one other type."""

    inner: Type


@dataclass(frozen=True)
class Array:
    """Any number of items."""

    items: Type


@dataclass(frozen=True)
class Map:
    """Any number of values by string."""

    values: Type


@dataclass(frozen=True)
class Field:
    """Field of a record.

    `default` is the file's JSON value and means something only where `has_default`.
    """

    name: str
    type: Type
    has_default: bool
    default: Any

    @property
    def is_repeating(self) -> bool:
        """Whether few different values are expected."""
        return self.name in REPEATING

    @property
    def is_time(self) -> bool:
        """Whether the value is in epoch milliseconds."""
        return self.name in TIMES


@dataclass(frozen=True)
class RecordType:
    """Record: its fields, in their order."""

    name: str
    fields: tuple[Field, ...]

    def field(self, name: str) -> Field | None:
        """Return the field of that name, or None."""
        return next((field for field in self.fields if field.name == name), None)


Type: TypeAlias = Primitive | Enum | Nullable | Array | Map | RecordType


def parse(schema: AvroJson) -> RecordType:
    """Parse a schema file's JSON. Raises BadSchema."""
    parsed = _parse(schema, {})
    if not isinstance(parsed, RecordType):
        raise BadSchema("a schema file must hold a record")
    return parsed


def _parse(schema: Any, named: dict[str, Type]) -> Type:  # noqa: PLR0911 - one return for each case
    match schema:
        case str() if schema in PRIMITIVES:
            return Primitive(schema)
        case str() if schema.rpartition(".")[2] in named:
            return named[schema.rpartition(".")[2]]
        case ["null", other]:
            return Nullable(_parse(other, named))
        case {"logicalType": _} | {"aliases": _}:
            pass
        case {"type": "array", "items": items}:
            return Array(_parse(items, named))
        case {"type": "map", "values": values}:
            return Map(_parse(values, named))
        case {"type": "enum", "name": str(name), "symbols": [*symbols]}:
            return named.setdefault(name, Enum(name, tuple(symbols), schema.get("default")))
        case {"type": "record", "name": str(name), "fields": [*fields]}:
            return named.setdefault(
                name, RecordType(name, tuple(_field(field, named) for field in fields))
            )
    raise BadSchema(f"{schema!r} is outside the part of Avro that our contracts use")


def _field(field: AvroJson, named: dict[str, Type]) -> Field:
    if unknown := field.keys() - {"name", "type", "doc", "default"}:
        raise BadSchema(
            f"field {field.get('name')}: {', '.join(sorted(unknown))} is not used in our contracts"
        )
    parsed = Field(
        field["name"], _parse(field["type"], named), "default" in field, field.get("default")
    )
    if parsed.has_default and not _is_default(parsed.type, parsed.default):
        raise BadSchema(f"field {parsed.name}: {parsed.default!r} is not a default of its type")
    return parsed


def _is_default(type_: Type, value: Any) -> bool:
    # Avro also allows records and filled lists and maps; no contract needs them.
    match type_:
        case Nullable():
            return value is None
        case Enum():
            return value in type_.symbols
        case Array():
            return bool(value == [])
        case Map():
            return bool(value == {})
        case Primitive(name):
            return type(value) is {"string": str, "int": int, "long": int, "boolean": bool}.get(
                name
            )
    return False


def to_json(  # noqa: PLR0911 - one return for each case
    type_: Type, seen: set[str] | None = None
) -> Any:
    """Return a type as a schema file has it, without documentation and namespace.

    A named type is defined where it occurs first; `seen` are the names defined before.
    """
    seen = set() if seen is None else seen
    match type_:
        case Primitive(name):
            return name
        case Nullable(inner):
            return ["null", to_json(inner, seen)]
        case Array(items):
            return {"type": "array", "items": to_json(items, seen)}
        case Map(values):
            return {"type": "map", "values": to_json(values, seen)}
    if type_.name in seen:
        return type_.name
    seen.add(type_.name)
    if isinstance(type_, Enum):
        default = {} if type_.default is None else {"default": type_.default}
        return {"type": "enum", "name": type_.name, "symbols": list(type_.symbols), **default}
    fields = [_field_json(field, seen) for field in type_.fields]
    return {"type": "record", "name": type_.name, "fields": fields}


def _field_json(field: Field, seen: set[str]) -> AvroJson:
    default = {"default": field.default} if field.has_default else {}
    return {"name": field.name, "type": to_json(field.type, seen), **default}
