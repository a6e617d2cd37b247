"""Comparison of Avro bodies with a declared writer's schema.

An object container carries its writer's schema, so the two schemas are compared, field by field. A
single-object body names its writer's schema by fingerprint: an undeclared one is reported as a
whole, since its fields cannot be known. Bare records are read with the declared schema; leftover
bytes mean that they were written with another one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, Final, TypeAlias

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from streams.drift.shapes import (
    NAME_MAX,
    VALUE_MAX,
    DriftKind,
    Shape,
    distinct_shapes,
    printable_excerpt,
)

AvroSchema: TypeAlias = Any

_CONTAINER: Final = b"Obj\x01"
_SINGLE_OBJECT: Final = b"\xc3\x01"
_FINGERPRINT_BYTES: Final = 8


class AvroShapes:
    """One Avro schema, prepared to be compared with bodies."""

    def __init__(self, schema: AvroSchema) -> None:
        """Prepare a schema. Raises fastavro's SchemaParseException for what is not a schema."""
        self._schema = schema
        self._fingerprint = bytes.fromhex(
            fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
        )
        # Without logical types: a decimal of too many digits concerns the dialect, not the shape.
        self._parsed = fastavro.parse_schema(_without_logical_types(schema))

    def compare(self, value: bytes, record: bytes) -> list[Shape]:
        """Return the shapes of a body.

        `record` is the record in it, without the frame that its dialect knows.
        """
        if value.startswith(_CONTAINER):
            return self._of_container(value)
        if value.startswith(_SINGLE_OBJECT):
            written = value[len(_SINGLE_OBJECT) :][:_FINGERPRINT_BYTES]
            if written != self._fingerprint:
                return [
                    Shape(
                        DriftKind.UNREADABLE,
                        "$",
                        f"written with schema {written.hex()}, which is not declared",
                    )
                ]
            record = value[len(_SINGLE_OBJECT) + _FINGERPRINT_BYTES :]
        stream = BytesIO(record)
        try:
            fastavro.schemaless_reader(stream, self._parsed, None)
        except Exception as error:  # noqa: BLE001 - fastavro raises any error for broken bytes
            return [
                Shape(
                    DriftKind.UNREADABLE, "$", f"not of the declared schema: {type(error).__name__}"
                )
            ]
        if stream.tell() != len(record):
            return [
                Shape(DriftKind.UNREADABLE, "$", "not of the declared schema: bytes are left over")
            ]
        return []

    def _of_container(self, value: bytes) -> list[Shape]:
        try:
            written = fastavro.reader(BytesIO(value)).metadata["avro.schema"]
            return distinct_shapes(differences(self._schema, json.loads(written), "$"))
        except Exception as error:  # noqa: BLE001 - as above
            return [
                Shape(DriftKind.UNREADABLE, "$", f"no object container: {type(error).__name__}")
            ]


def differences(declared: AvroSchema, written: AvroSchema, path: str) -> Iterator[Shape]:
    """Yield where a writer's schema differs from the declared one: fields, types, symbols."""
    if _kind(declared) != _kind(written):
        yield Shape(DriftKind.CHANGED_TYPE, path, f"{_kind(written)} instead of {_kind(declared)}")
        return
    kind = _kind(declared)
    if kind == "record":
        yield from _fields(declared, written, path)
    elif kind == "enum":
        for symbol in written["symbols"]:
            if symbol not in declared["symbols"]:
                yield Shape(DriftKind.NEW_VALUE, path, printable_excerpt(symbol, VALUE_MAX))
    elif kind in {"array", "map"}:
        inner = "items" if kind == "array" else "values"
        yield from differences(
            declared[inner], written[inner], path + ("[*]" if kind == "array" else ".*")
        )
    elif kind.startswith("union"):
        for one, other in zip(declared, written, strict=True):
            yield from differences(one, other, path)


def _fields(declared: Mapping[str, Any], written: Mapping[str, Any], path: str) -> Iterator[Shape]:
    known = {field["name"]: field for field in declared["fields"]}
    names = set()
    for field in written["fields"]:
        names.add(field["name"])
        below = f"{path}.{printable_excerpt(field['name'], NAME_MAX)}"
        if field["name"] in known:
            yield from differences(known[field["name"]]["type"], field["type"], below)
        else:
            yield Shape(DriftKind.NEW_FIELD, below)
    for name in known:
        if name not in names:
            yield Shape(DriftKind.MISSING_FIELD, f"{path}.{name}")


def _kind(schema: AvroSchema) -> str:
    if isinstance(schema, list):
        return f"union of {', '.join(_kind(branch) for branch in schema)}"
    if isinstance(schema, dict):
        inner = schema["type"]
        return inner if isinstance(inner, str) else _kind(inner)
    return str(schema)


def _without_logical_types(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            name: _without_logical_types(inner)
            for name, inner in node.items()
            if name != "logicalType"
        }
    return [_without_logical_types(inner) for inner in node] if isinstance(node, list) else node
