"""The months of the transfers: partitions are made ahead, and old ones can be moved out and back.

Entries are not partitioned: they are the identities, and a retry after years must get the answer of
the first attempt. An event that depends on the movements of a month that was moved away is left to
an operator: see `PERIOD_ARCHIVED`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql

from ledger_sink.store.statements import statements
from runtime.connection_faults import unreachable_database
from runtime.postgres.roles import Role, take_role_sync
from schemas.errors import Unavailable, UsageError

_SQL: Final = statements("months")
_PREFIX: Final = "transfer_"


class Month(msgspec.Struct, frozen=True):
    """A partition of the transfers; `month` is None for the one without a month."""

    month: int | None
    table: str
    transfers: int
    """An estimate: what the database counted last."""
    bytes: int
    is_away: bool = False


def list_months(database_url: str) -> list[Month]:
    """Return the partitions in the ledger, then the months that were moved away.

    Raises Unavailable.
    """
    with _connect(database_url, Role.READER) as connection:
        present = [
            Month(_month_of(table), table, rows, size)
            for table, size, rows in connection.execute(_SQL["list"])
        ]
        away = [month for (month,) in connection.execute(_SQL["away"])]
    moved = [Month(month, f"away.{_PREFIX}{month}", 0, 0, is_away=True) for month in away]
    return present + moved


def create_months(database_url: str, ahead: int, *, dry_run: bool = False) -> list[int]:
    """Make this month's partition and those of the `ahead` months that follow.

    Returns the months that had none. Raises Unavailable where a lock is not available,
    RightsMissing.
    """
    present = {month.month for month in list_months(database_url)}
    with _connect(database_url, Role.MIGRATOR) as connection:
        wanted = [month for (month,) in connection.execute(_SQL["ahead"], {"ahead": ahead})]
        missing = [month for month in wanted if month not in present]
        for month in () if dry_run else missing:
            connection.execute(_SQL["make"], {"month": month})
    return missing


def move_away(database_url: str, month: int) -> None:
    """Take a month's transfers out of the ledger.

    Their table stays in the schema `away`, to be copied and dropped. Raises UsageError for what is
    not a month of the ledger, Unavailable, RightsMissing.
    """
    if month not in {one.month for one in list_months(database_url) if not one.is_away}:
        raise UsageError(
            f"{month} is not a month of this ledger: `pitboss ledger months list` names those that"
            " are"
        )
    with _connect(database_url, Role.MIGRATOR) as connection, connection.transaction():
        for name in ("detach", "put_away"):
            connection.execute(_render(name, month))
        connection.execute(_SQL["note_away"], {"month": month})


def bring_back(database_url: str, month: int) -> None:
    """Put a month's transfers back into the ledger, from the schema `away`.

    A late event of the month may have moved money meanwhile: its rows, which wait in
    `transfer_other`, move in as well. Raises as `move_away`.
    """
    if month not in {one.month for one in list_months(database_url) if one.is_away}:
        raise UsageError(
            f"{month} was not moved away: `pitboss ledger months list` names those that were"
        )
    with _connect(database_url, Role.MIGRATOR) as connection, connection.transaction():
        try:
            connection.execute(_SQL["write_nothing"])
            connection.execute(_render("take_back", month))
            connection.execute(_render("gather", month), {"month": month})
            connection.execute(_render("attach", month))
        except psycopg.errors.UndefinedTable as error:
            raise UsageError(
                f"the table away.{_PREFIX}{month} does not exist: restore it first"
            ) from error
        connection.execute(_SQL["forget_away"], {"month": month})


def next_month(month: int) -> int:
    """Return the month after one: 202701 after 202612."""
    return month + 89 if month % 100 == 12 else month + 1


def _month_of(table: str) -> int | None:
    text = table.removeprefix(_PREFIX)
    return int(text) if text.isdecimal() else None


def _render(name: str, month: int) -> sql.Composed:
    """Return a statement with the month's table and the bounds of its values put in."""
    partition = sql.Identifier(f"{_PREFIX}{month}")
    first, after = sql.Literal(month), sql.Literal(next_month(month))
    return sql.SQL(_SQL[name]).format(partition=partition, first=first, after=after)


@contextmanager
def _connect(database_url: str, role: Role) -> Iterator[psycopg.Connection[Any]]:
    try:
        with psycopg.connect(
            database_url,
            autocommit=True,
            connect_timeout=10,
            application_name="pitboss.months",
            options="-c lock_timeout=5s",
        ) as connection:
            take_role_sync(connection, role)
            yield connection
    except psycopg.errors.LockNotAvailable as error:
        message = f"the transfers are in use: {error}; run it again"
        raise Unavailable(message) from error
    except psycopg.OperationalError as error:
        raise unreachable_database("the database", error) from error
