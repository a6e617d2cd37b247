"""Comparison of JSON values with a JSON Schema. Forms and tables of text come here as objects.

jsonschema finds what contradicts the schema. New fields contradict nothing, since no provider's
schema forbids them, so they are found by walking schema and value together. What a schema leaves
open (an object without declared properties, or one that says `"additionalProperties": true`) is not
checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import jsonschema

from streams.drift.shapes import (
    DETAIL_MAX,
    NAME_MAX,
    PATH_MAX,
    VALUE_MAX,
    DriftKind,
    Shape,
    distinct_shapes,
    printable_excerpt,
)

JsonSchema: TypeAlias = Any

ITEMS_MAX: Final = 200
"""Checked items of an array: a file of thousands of lines has few shapes."""

_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
_JSON_TYPES: Final = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
}
_VALUES: Final = frozenset({"enum", "const"})


class JsonShapes:
    """One JSON Schema, prepared to be compared with bodies."""

    def __init__(self, schema: JsonSchema) -> None:
        """Prepare a schema. Raises jsonschema.SchemaError for what is not a schema."""
        jsonschema.Draft202012Validator.check_schema(schema)
        self._schema = schema
        self._validator = jsonschema.Draft202012Validator(schema)

    def compare(self, body: Any) -> list[Shape]:
        """Return the shapes of one body."""
        body = _clip(body)
        errors = [
            shape for error in self._validator.iter_errors(body) for shape in self._of_error(error)
        ]
        return distinct_shapes([*self._new_fields(self._schema, body, "$"), *errors])

    def _new_fields(self, schema: JsonSchema, value: Any, path: str) -> Iterator[Shape]:
        schema = self._follow(schema)
        if isinstance(value, dict) and (declared := schema.get("properties")):
            rest = schema.get("additionalProperties")
            for name, inner in value.items():
                if name in declared:
                    yield from self._new_fields(declared[name], inner, path + _step(name))
                elif rest is None or rest is False:
                    yield Shape(DriftKind.NEW_FIELD, (path + _step(name))[:PATH_MAX])
        elif isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
            for inner in value.values():
                yield from self._new_fields(schema["additionalProperties"], inner, path + ".*")
        elif isinstance(value, list) and isinstance(schema.get("items"), dict):
            for inner in value:
                yield from self._new_fields(schema["items"], inner, path + "[*]")

    def _follow(self, schema: JsonSchema) -> Mapping[str, Any]:
        """Return the schema that a local reference means.

        It is empty for `true` and for a reference that leads elsewhere.
        """
        for _ in range(8):
            if not isinstance(schema, dict) or "$ref" not in schema:
                break
            target: Any = self._schema
            for name in str(schema["$ref"]).removeprefix("#").strip("/").split("/"):
                target = target.get(name, {}) if isinstance(target, dict) else {}
            schema = target
        return schema if isinstance(schema, dict) else {}

    def _of_error(self, error: jsonschema.ValidationError) -> Iterator[Shape]:
        path, keyword, wanted = (
            self._path(error.absolute_path),
            error.validator,
            error.validator_value,
        )
        if keyword == "required":
            for name in wanted:
                if isinstance(error.instance, dict) and name not in error.instance:
                    yield Shape(DriftKind.MISSING_FIELD, path + _step(name))
        elif keyword == "type":
            types = [wanted] if isinstance(wanted, str) else wanted
            yield Shape(
                DriftKind.CHANGED_TYPE,
                path,
                f"{_type_of(error.instance)} instead of {' or '.join(types)}",
            )
        elif keyword in _VALUES:
            yield Shape(
                DriftKind.NEW_VALUE, path, printable_excerpt(_text_of(error.instance), VALUE_MAX)
            )
        else:
            yield Shape(
                DriftKind.CHANGED_FORMAT,
                path,
                printable_excerpt(f"not {keyword} {_text_of(wanted)}", DETAIL_MAX),
            )

    def _path(self, steps: Sequence[str | int]) -> str:
        path, schema = "$", self._follow(self._schema)
        for step in steps:
            if isinstance(step, int):
                path, schema = path + "[*]", self._follow(schema.get("items", {}))
            elif step in schema.get("properties", {}):
                path, schema = path + _step(step), self._follow(schema["properties"][step])
            else:
                # A key of a map does not belong to the shape: there may be as many as there are
                # records.
                path, schema = path + ".*", self._follow(schema.get("additionalProperties", {}))
        return path[:PATH_MAX]


def _clip(value: Any) -> Any:
    if isinstance(value, list):
        return [_clip(item) for item in value[:ITEMS_MAX]]
    return (
        {name: _clip(inner) for name, inner in value.items()} if isinstance(value, dict) else value
    )


def _step(name: str) -> str:
    cut = name if len(name) <= NAME_MAX else name[: NAME_MAX - 1] + "…"
    return (
        f".{cut}" if _PLAIN_NAME.fullmatch(cut) else f"[{cut!r}]"
    )  # repr() escapes unprintable characters


def _type_of(value: Any) -> str:
    return "null" if value is None else _JSON_TYPES.get(type(value), type(value).__name__)


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
