"""Why a schema cannot hold a value: asked only when the quick way of writing has failed, so it may
take its time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from schemas.compiler import primitives as leaves
from schemas.compiler.avro_types import Array, Enum, Map, Nullable, Primitive, RecordType, Type

_CLASSES: Final = {"string": str, "bytes": bytes, "int": int, "long": int, "boolean": bool}
_SHOWN_MAX: Final = 40


def find_mismatch(type_: Type, value: Any, path: str = "") -> str | None:
    """What is wrong, after the path of the field: `legs[0].amount.scale: 'x' is no int`.

    None if nothing is.
    """
    match type_:
        case Primitive(name):
            return _primitive(name, value, path)
        case Enum(name, symbols):
            return None if value in symbols else f"{path}: {_shown(value)} is no {name}"
        case Nullable(inner):
            return None if value is None else find_mismatch(inner, value, path)
        case Array(items):
            if not isinstance(value, list | tuple):
                return f"{path}: {_shown(value)} is no list"
            return _first(
                find_mismatch(items, item, f"{path}[{n}]") for n, item in enumerate(value)
            )
        case Map(values):
            if not isinstance(value, dict):
                return f"{path}: {_shown(value)} is no map"
            keys = _first(_primitive("string", key, f"{path} key") for key in value)
            return keys or _first(
                find_mismatch(values, item, f"{path}[{key!r}]") for key, item in value.items()
            )
        case RecordType(_, fields):
            return _first(
                f"{_joined(path, field.name)}: there is no such field in {_shown(value)}"
                if not hasattr(value, field.name)
                else find_mismatch(
                    field.type, getattr(value, field.name), _joined(path, field.name)
                )
                for field in fields
            )


def _primitive(name: str, value: Any, path: str) -> str | None:
    if not isinstance(value, _CLASSES[name]):
        return f"{path}: {_shown(value)} is no {name}"
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


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
