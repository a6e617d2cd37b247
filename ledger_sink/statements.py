"""The SQL of the ledger, from `sql/*.sql`: one named block a statement, so that an auditor can read it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def statements(file: str) -> dict[str, LiteralString]:
    """The ledger's own named statements of `sql/<file>.sql`."""
    return statements_of("ledger_sink", file)


@cache
def statements_of(package: str, file: str) -> dict[str, LiteralString]:
    """The named statements of a package's `sql/<file>.sql`. Raises KeyError for a name that is not there."""
    text = resources.files(package).joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    # The text is a file of this package: as literal as a string in the source.
    return {name: cast("LiteralString", body.strip()) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def plain_array(values: Iterable[str | int]) -> str:
    """A parameter for an array of numbers or UUIDs, which need no quotes; psycopg looks at each element for some."""
    return "{" + ",".join(map(str, values)) + "}"


def text_array(values: Sequence[str]) -> str:
    """A parameter for an array of texts, each of them quoted."""
    if not values:
        return "{}"
    joined = '","'.join(values)
    if "\\" in joined or joined.count('"') != 2 * len(values) - 2:
        joined = '","'.join([value.replace("\\", "\\\\").replace('"', '\\"') for value in values])
    return f'{{"{joined}"}}'
