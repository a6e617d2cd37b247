"""Parsers of PostgreSQL's text forms that the ledger writes: arrays and lines of COPY."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

_WHOLE: Final = frozenset({"int", "bigint", "smallint"})
_NUMBERS: Final = re.compile(
    r"decision|version|transfers|part|source_offset|(occurred|decided)_at_ms|.*_minor"
    r"|attempt_(part|offset|index)"
)
_FLAGS: Final = frozenset({"round_closed", "redelivered", "is_billable"})
_ELEMENT: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)')
_QUOTED: Final = re.compile(r"\\(.)")
_LETTERS: Final = {"b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}


def values_of(array: str | Sequence[Any], kind: str) -> list[Any]:
    """Return the elements of an array parameter, which is a list or an array literal."""
    if isinstance(array, str):
        found = _ELEMENT.finditer(array)
        texts = [match[2] if match[1] is None else _QUOTED.sub(r"\1", match[1]) for match in found]
        if kind in _WHOLE:
            return [None if text == "NULL" else int(text) for text in texts]
        return texts
    return [json.loads(element) for element in array] if kind == "jsonb" else list(array)


def rows_of(lines: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows that COPY reads from complete lines."""
    for line in lines.split("\n")[:-1]:
        yield {
            name: _value(name, text) for name, text in zip(columns, line.split("\t"), strict=True)
        }


def _value(name: str, text: str) -> Any:
    if text == "\\N":
        return None
    if _NUMBERS.fullmatch(name):
        return int(text)
    if name in _FLAGS:
        return text == "t"
    return (
        _QUOTED.sub(lambda match: _LETTERS.get(match[1], match[1]), text) if "\\" in text else text
    )
