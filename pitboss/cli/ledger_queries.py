"""What the ledger's views have in common: a reading of its database, and how tables and JSON are
printed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import click
import msgspec
from rich.table import Table

from ledger_sink.store.database import LedgerDatabase
from pitboss.cli import screen
from pitboss.settings import Runtime
from runtime.postgres.roles import Role

T = TypeVar("T")
_READING_MAX_S: Final = 3600.0
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


def read_ledger(
    runtime: Runtime, read: Callable[[LedgerDatabase], Awaitable[T]], role: Role = Role.READER
) -> T:
    """What `read` finds in the ledger's database with a role's rights.

    Raises Unavailable, RightsMissing.
    """

    async def run() -> T:
        database = LedgerDatabase(
            runtime.database_url, "pitboss.ledger_views", role=role, silence_max_s=_READING_MAX_S
        )
        try:
            return await read(database)
        finally:
            await database.close()

    return asyncio.run(run())


def show_rows(
    table: Table, if_empty: str, rows: Sequence[Any], *, as_numbers: Sequence[int] = ()
) -> None:
    """A table with the numbered columns to the right, or a sentence on stderr where there are no
    rows.
    """
    for index in as_numbers:
        table.columns[index].justify = "right"
    if rows:
        screen.show(table)
    else:
        click.echo(if_empty, err=True)


def print_json(value: Any) -> None:
    """One JSON document."""
    click.echo(msgspec.json.encode(value))
