"""The SQL of the ledger, from `sql/*.sql`: named statements that an auditor can read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import LiteralString

from runtime.postgres.statements import statements_of


def statements(file: str) -> dict[str, LiteralString]:
    """Return the ledger's named statements of `sql/<file>.sql`."""
    return statements_of("ledger_sink.store", file)


def plain_array(values: Iterable[str | int | None]) -> str:
    """Return a parameter for an array of numbers or UUIDs, which need no quotes, or of NULLs.

    psycopg would look at each element for characters to quote.
    """
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def text_array(values: Sequence[str]) -> str:
    """Return a parameter for an array of texts, each of them quoted."""
    if not values:
        return "{}"
    joined = '","'.join(values)
    if "\\" in joined or joined.count('"') != 2 * len(values) - 2:
        escaped = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
        joined = '","'.join(escaped)
    return f'{{"{joined}"}}'
