"""Statements by name, from the `.sql` files in which SQL lives."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Final, LiteralString, cast

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def statements_of(package: str, file: str) -> dict[str, LiteralString]:
    """Return the statements of a package's `sql/<file>.sql`, by the names before them.

    A name is a line `-- name: …`.
    """
    text = resources.files(package).joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    pieces = _NAME.split(text)[1:]
    # The text is a file of ours, as trustworthy as a literal in the source.
    return {
        name: cast("LiteralString", body.strip())
        for name, body in zip(pieces[::2], pieces[1::2], strict=True)
    }
