"""SQL lives in `.sql` files; this finds a statement in them by its name."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Final, LiteralString, cast

_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def statements_of(package: str, file: str) -> dict[str, LiteralString]:
    """The statements of a package's `sql/<file>.sql` by the names that stand before them (`-- name:
    ...`).
    """
    text = resources.files(package).joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    # The text is a file of ours: as literal as a string in the source.
    return {
        name: cast("LiteralString", body.strip())
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }
