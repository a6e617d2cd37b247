"""Queries of the ledger's database, and how the commands print tables and JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, TypeVar

import click
import msgspec

from ledger_sink.store.database import LedgerDatabase
from pitboss.settings import Runtime
from runtime.postgres.roles import Role
from schemas.errors import PitbossError
from schemas.money import exponent_of, format_minor
from schemas.topics import TRANSACTIONS

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")


class UnknownPlayer(PitbossError):
    """The ledger knows nothing of the player."""

    code: ClassVar[str] = "UNKNOWN_PLAYER"

    def __init__(self, player_id: str, what: str = "no wallet") -> None:
        super().__init__(
            f"the ledger has {what} of player {player_id!r}: check the id, it is spelled as the "
            "provider does"
        )


_READING_MAX_S: Final = 3600.0
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


def read_ledger(
    runtime: Runtime,
    read: Callable[[LedgerDatabase], Awaitable[T]],
    role: Role = Role.READER,
    *,
    application_name: str = "pitboss.ledger_views",
    silence_max_s: float = _READING_MAX_S,
) -> T:
    """Run `read` on the ledger's database with a role's rights and return its result.

    A transaction of more than `silence_max_s` seconds counts as a lost connection. Raises
    Unavailable, RightsMissing.
    """

    async def run() -> T:
        database = LedgerDatabase(
            runtime.database_url, application_name, role=role, silence_max_s=silence_max_s
        )
        try:
            return await read(database)
        finally:
            await database.close()

    return asyncio.run(run())


def show_rows(
    table: Table, if_empty: str, rows: Sequence[Any], *, as_numbers: Sequence[int] = ()
) -> None:
    """Print a table, or `if_empty` on stderr without rows; align columns `as_numbers` right."""
    for index in as_numbers:
        table.columns[index].justify = "right"
    if rows:
        from pitboss.cli import screen

        screen.show(table)
    else:
        click.echo(if_empty, err=True)


def print_json(value: Any) -> None:
    """Print a value as one JSON document."""
    click.echo(msgspec.json.encode(value))


class BookedRow(Protocol):
    """Row that was booked from a record of the log."""

    @property
    def partition(self) -> int:
        """Partition of the record."""

    @property
    def source_offset(self) -> int:
        """Offset of the record."""


def format_place(runtime: Runtime, row: BookedRow) -> str:
    """Return the record of the log that a row was booked from."""
    return f"{runtime.topic(TRANSACTIONS)}-{row.partition}@{row.source_offset}"


def format_money(minor: int, currency: str) -> str:
    """Format minor units with their currency."""
    return f"{format_minor(minor, exponent_of(currency))} {currency}"


def format_moment(at_ms: int) -> str:
    """Format epoch ms as a UTC time, to the millisecond."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{ms:03}"
