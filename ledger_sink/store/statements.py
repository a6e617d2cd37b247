"""The SQL of the ledger, from `sql/*.sql`: one named block a statement, so that an auditor can read
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import LiteralString

from runtime.postgres.statements import statements_of


def statements(file: str) -> dict[str, LiteralString]:
    """The ledger's own named statements of `sql/<file>.sql`."""
    return statements_of("ledger_sink.store", file)


def plain_array(values: Iterable[str | int]) -> str:
    """A parameter for an array of numbers or UUIDs, which need no quotes; psycopg looks at each
    element for some.
    """
    return "{" + ",".join(map(str, values)) + "}"


def text_array(values: Sequence[str]) -> str:
    """A parameter for an array of texts, each of them quoted."""
    if not values:
        return "{}"
    joined = '","'.join(values)
    if "\\" in joined or joined.count('"') != 2 * len(values) - 2:
        joined = '","'.join([value.replace("\\", "\\\\").replace('"', '\\"') for value in values])
    return f'{{"{joined}"}}'
