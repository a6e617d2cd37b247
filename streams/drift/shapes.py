"""A shape of drift: one way in which bodies differ from their declared payload schema, however many
of them do.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

NAME_MAX: Final = 128
PATH_MAX: Final = 400
DETAIL_MAX: Final = 160
VALUE_MAX: Final = 64


class DriftKind(StrEnum):
    """In which way. A string on the wire: readers let unknown ones by."""

    NEW_FIELD = "NEW_FIELD"
    MISSING_FIELD = "MISSING_FIELD"
    CHANGED_TYPE = "CHANGED_TYPE"
    CHANGED_FORMAT = (
        "CHANGED_FORMAT"  # the right type, but a text, length or range that was not declared
    )
    NEW_VALUE = "NEW_VALUE"  # of what was declared as one of a few
    NEW_MESSAGE = "NEW_MESSAGE"  # a message as a whole that no schema is declared for
    UNREADABLE = "UNREADABLE"  # not JSON, not XML, not the declared Avro schema
    FALLBACK = "FALLBACK"  # the expected version could not read it and another one could


class Shape(NamedTuple):
    """`path` is in the format's own spelling: `$.a[*].b`, `/a/b/@c`, a column's name; `detail`
    tells it from others.
    """

    what: DriftKind
    path: str
    detail: str = ""


_STRENGTH: Final = {DriftKind.CHANGED_TYPE: 0, DriftKind.NEW_VALUE: 1, DriftKind.CHANGED_FORMAT: 2}
_WEAKEST: Final = 3


def distinct_shapes(shapes: Iterable[Shape]) -> list[Shape]:
    """Each shape once, in order; of several complaints about one path the strongest.

    What has another type breaks its format too, and is told by its type alone; of formats the first
    one broken is told.
    """
    once = list(dict.fromkeys(shapes))
    strongest: dict[str, int] = {}
    for what, path, _ in once:
        if what in _STRENGTH:
            strongest[path] = min(_STRENGTH[what], strongest.get(path, _WEAKEST))
    told, formats = [], set()
    for shape in once:
        if _STRENGTH.get(shape.what, _WEAKEST) > strongest.get(shape.path, _WEAKEST):
            continue
        if shape.what is DriftKind.CHANGED_FORMAT:
            if shape.path in formats:
                continue
            formats.add(shape.path)
        told.append(shape)
    return told


def printable_excerpt(text: str, characters_max: int) -> str:
    """A provider's text as it may stand in an event: short and printable, whatever it is."""
    cut = text if len(text) <= characters_max else text[: characters_max - 1] + "…"
    return cut if cut.isprintable() else ascii(cut)[1:-1][:characters_max]


def schema_distance(shapes: Iterable[Shape]) -> int:
    """How far a body is from a schema, to find the one that it was meant for."""
    return sum(
        100 if shape.what in {DriftKind.NEW_MESSAGE, DriftKind.UNREADABLE} else 1
        for shape in shapes
    )
