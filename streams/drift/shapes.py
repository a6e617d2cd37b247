"""Shapes of drift: each is one way in which bodies differ from their declared schema."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

NAME_MAX: Final = 128
PATH_MAX: Final = 400
DETAIL_MAX: Final = 160
VALUE_MAX: Final = 64


class DriftKind(StrEnum):
    """Kind of difference. A string on the wire: readers ignore unknown ones."""

    NEW_FIELD = "NEW_FIELD"
    MISSING_FIELD = "MISSING_FIELD"
    CHANGED_TYPE = "CHANGED_TYPE"
    CHANGED_FORMAT = (
        "CHANGED_FORMAT"  # the right type, but an undeclared pattern, length, range or order
    )
    NEW_VALUE = "NEW_VALUE"  # outside a declared set of values
    NEW_MESSAGE = "NEW_MESSAGE"  # a whole message without a declared schema
    UNREADABLE = "UNREADABLE"  # not JSON, not XML, not the declared Avro schema
    FALLBACK = "FALLBACK"  # the expected version could not read it and another one could


class Shape(NamedTuple):
    """One way in which bodies differ from their schema.

    `path` is in the format's own spelling: `$.a[*].b`, `/a/b/@c`, a column's name; `detail`
    distinguishes shapes of one path.
    """

    what: DriftKind
    path: str
    detail: str = ""


_STRENGTH: Final = {DriftKind.CHANGED_TYPE: 0, DriftKind.NEW_VALUE: 1, DriftKind.CHANGED_FORMAT: 2}
_WEAKEST: Final = 3


def distinct_shapes(shapes: Iterable[Shape]) -> list[Shape]:
    """Return each shape once, in order; of several complaints about one path only the strongest.

    A value of another type breaks its format too, and is reported by its type alone. Of several
    broken formats of one path the first is reported.
    """
    once = list(dict.fromkeys(shapes))
    strongest: dict[str, int] = {}
    for what, path, _ in once:
        if what in _STRENGTH:
            strongest[path] = min(_STRENGTH[what], strongest.get(path, _WEAKEST))
    kept, formats = [], set()
    for shape in once:
        if _STRENGTH.get(shape.what, _WEAKEST) > strongest.get(shape.path, _WEAKEST):
            continue
        if shape.what is DriftKind.CHANGED_FORMAT:
            if shape.path in formats:
                continue
            formats.add(shape.path)
        kept.append(shape)
    return kept


def printable_excerpt(text: str, characters_max: int) -> str:
    """Return a provider's text as it may be in an event: short and printable."""
    cut = text if len(text) <= characters_max else text[: characters_max - 1] + "…"
    return cut if cut.isprintable() else ascii(cut)[1:-1][:characters_max]


def schema_distance(shapes: Iterable[Shape]) -> int:
    """Return the distance of a body from a schema, to find the schema that it was written for."""
    return sum(
        100 if shape.what in {DriftKind.NEW_MESSAGE, DriftKind.UNREADABLE} else 1
        for shape in shapes
    )
