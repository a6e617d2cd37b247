"""Explanation of why a schema cannot hold a value.

It runs only after the fast encoder has failed, so it need not be fast.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from schemas.compiler import primitives as leaves
from schemas.compiler.avro_types import Array, Enum, Map, Nullable, Primitive, RecordType, Type

_CLASSES: Final = {"string": str, "bytes": bytes, "int": int, "long": int, "boolean": bool}
_SHOWN_MAX: Final = 40


def find_mismatch(type_: Type, value: Any, path: str = "") -> str | None:  # noqa: PLR0911 - one return for each case
    """Return the first mismatch after the path of its field, or None if there is none.

    An example: `legs[0].amount.scale: 'x' is not of type int`.
    """
    match type_:
        case Primitive(name):
            return _primitive(name, value, path)
        case Enum(name, symbols):
            return (
                None if value in symbols else f"{path}: {_excerpt(value)} is not a symbol of {name}"
            )
        case Nullable(inner):
            return None if value is None else find_mismatch(inner, value, path)
        case Array(items):
            if not isinstance(value, list | tuple):
                return f"{path}: {_excerpt(value)} is not a list"
            return _first(
                find_mismatch(items, item, f"{path}[{n}]") for n, item in enumerate(value)
            )
        case Map(values):
            if not isinstance(value, dict):
                return f"{path}: {_excerpt(value)} is not a map"
            keys = _first(_primitive("string", key, f"{path} key") for key in value)
            return keys or _first(
                find_mismatch(values, item, f"{path}[{key!r}]") for key, item in value.items()
            )
        case RecordType(_, fields):
            return _first(
                f"{_join(path, field.name)}: {_excerpt(value)} has no such field"
                if not hasattr(value, field.name)
                else find_mismatch(field.type, getattr(value, field.name), _join(path, field.name))
                for field in fields
            )


def _primitive(name: str, value: Any, path: str) -> str | None:
    if not isinstance(value, _CLASSES[name]):
        return f"{path}: {_excerpt(value)} is not of type {name}"
    try:
        match name, value:
            case "int", int():
                leaves.int_text(value)
            case "long", int():
                leaves.long_text(value)
            case "string", str():
                leaves.utf8_text(value)
    except ValueError as error:
        return f"{path}: {error}"
    return None


def _first(found: Iterable[str | None]) -> str | None:
    return next(filter(None, found), None)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _excerpt(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
