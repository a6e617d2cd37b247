"""The months of the transfers: partitions are made ahead, and old ones can be taken out of the
ledger and put back.

Entries are not parted: they are the identities, and a retry after years must hear what the first
attempt heard. What can only be decided by what a month that was taken out had moved is for a
person: see `PERIOD_ARCHIVED`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import psycopg
from psycopg import sql

from ledger_sink.store.statements import statements
from runtime.postgres.roles import Role, take_role_sync
from schemas.errors import Unavailable, UsageError

_SQL: Final = statements("months")
_PREFIX: Final = "transfer_"


class Month(msgspec.Struct, frozen=True):
    """A partition of the transfers; `month` is None for those of no month."""

    month: int | None
    table: str
    transfers: int
    """About so many: what the database counted last."""
    bytes: int
    is_away: bool = False


def list_months(database_url: str) -> list[Month]:
    """What there is, and what was taken out. Raises Unavailable."""
    with _connect(database_url, Role.READER) as connection:
        found = [
            Month(_month_of(table), table, rows, size)
            for table, size, rows in connection.execute(_SQL["list"])
        ]
        away = [month for (month,) in connection.execute(_SQL["away"])]
    return [*found, *(Month(month, f"away.{_PREFIX}{month}", 0, 0, is_away=True) for month in away)]


def create_months(database_url: str, ahead: int, *, dry_run: bool = False) -> list[int]:
    """Make this month's partition and those of so many that follow; return the months that had
    none.

    Raises Unavailable where a lock is not to be had, RightsMissing.
    """
    there = {month.month for month in list_months(database_url)}
    with _connect(database_url, Role.MIGRATOR) as connection:
        wanted = [month for (month,) in connection.execute(_SQL["ahead"], {"ahead": ahead})]
        missing = [month for month in wanted if month not in there]
        for month in () if dry_run else missing:
            connection.execute(_SQL["make"], {"month": month})
    return missing


def move_away(database_url: str, month: int) -> None:
    """Take a month's transfers out of the ledger: their table stays in the schema `away`, to be
    copied and dropped.

    Raises UsageError if it is no partition, Unavailable, RightsMissing.
    """
    if month not in {one.month for one in list_months(database_url) if not one.is_away}:
        raise UsageError(
            f"{month} is no month of this ledger: `pitboss ledger months list` names those there are"
        )
    with _connect(database_url, Role.MIGRATOR) as connection, connection.transaction():
        for name in ("detach", "put_away"):
            connection.execute(_render(name, month))
        connection.execute(_SQL["note_away"], {"month": month})


def bring_back(database_url: str, month: int) -> None:
    """Put a month's transfers back into the ledger, from the schema `away`. Raises as `move_away`.

    A late event of the month may have moved money meanwhile: its rows, which wait in
    `transfer_other`, move in as well.
    """
    if month not in {one.month for one in list_months(database_url) if one.is_away}:
        raise UsageError(
            f"{month} was not moved away: `pitboss ledger months list` names those that were"
        )
    with _connect(database_url, Role.MIGRATOR) as connection, connection.transaction():
        try:
            connection.execute(_SQL["write_nothing"])
            connection.execute(_render("reverse", month))
            connection.execute(_render("gather", month), {"month": month})
            connection.execute(_render("attach", month))
        except psycopg.errors.UndefinedTable as error:
            raise UsageError(
                f"there is no table away.{_PREFIX}{month}: restore it first"
            ) from error
        connection.execute(_SQL["forget_away"], {"month": month})


def next_month(month: int) -> int:
    """The month after one: 202701 after 202612."""
    return month + 89 if month % 100 == 12 else month + 1


def _month_of(table: str) -> int | None:
    text = table.removeprefix(_PREFIX)
    return int(text) if text.isdecimal() else None


def _render(name: str, month: int) -> sql.Composed:
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
        message = f"the database does not answer: {error}"
        raise Unavailable(message) from error
