"""Database roles: the server decides what a component may do, independently of its login.

A login takes a role after it has connected. The roles have fixed names and belong to the server,
not to one database: dropping a namespace removes none of them, and parallel provisioning makes the
same four.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Any, ClassVar, Final

import psycopg
from psycopg import AsyncConnection, Connection, sql

from schemas.errors import UsageError


class Role(StrEnum):
    """Rights that a session works with."""

    WRITER = "pitboss_writer"
    """Workers: may insert bookings, and neither change nor remove them."""
    READER = "pitboss_reader"
    """Views for operators: what is booked, and what was done about dead letters."""
    AUDITOR = "pitboss_auditor"
    """Checks: reads every table."""
    MIGRATOR = "pitboss_migrator"
    """Owns the tables."""


_ANSWER_MAX_S: Final = 5.0  # as long as a connection may take
_READ_ONLY: Final = frozenset({Role.READER, Role.AUDITOR})


class RightsMissing(UsageError):
    """The database does not permit this login, or its role, to do what is needed."""

    code: ClassVar[str] = "RIGHTS_MISSING"


def is_read_only(role: Role) -> bool:
    """Return whether sessions of this role begin every transaction read-only."""
    return role in _READ_ONLY


def session_options(role: Role) -> str:
    """Return what a session of this role adds to its connection's options."""
    return " -c default_transaction_read_only=on" if is_read_only(role) else ""


def rights_missing(error: psycopg.errors.InsufficientPrivilege) -> RightsMissing:
    """Return the error of a statement that needs a right which the session's role lacks."""
    return RightsMissing(
        f"the role of this session may not do that: {error}; "
        "`pitboss ledger migrate up` grants what this release needs"
    )


async def take_role(connection: AsyncConnection[Any], role: Role) -> AsyncConnection[Any]:
    """Give the connection this role's rights and return it.

    If that fails, closes the connection and raises RightsMissing.
    """
    silence = asyncio.get_running_loop().call_later(_ANSWER_MAX_S, shut_socket, connection)
    try:
        with _translate_errors(role):
            await connection.execute(_statement(role))
    except BaseException:
        with suppress(psycopg.Error):
            await connection.close()
        raise
    finally:
        silence.cancel()
    return connection


def take_role_sync(connection: Connection[Any], role: Role) -> Connection[Any]:
    """Do as `take_role` for a connection that is not asynchronous. Raises RightsMissing."""
    try:
        with _translate_errors(role):
            connection.execute(_statement(role))
    except BaseException:
        with suppress(psycopg.Error):
            connection.close()
        raise
    return connection


def shut_socket(connection: AsyncConnection[Any]) -> None:
    """End a connection whose server is silent: its waiters fail at once with OperationalError."""
    # Cancelling the task would not do: psycopg then asks the same silent server to cancel the
    # statement, and waits for its answer.
    with suppress(psycopg.Error, OSError):
        its_socket = socket.socket(fileno=connection.fileno())
        try:
            its_socket.shutdown(socket.SHUT_RDWR)
        finally:
            its_socket.detach()


def _statement(role: Role) -> sql.Composed:
    return sql.SQL("SET ROLE {}").format(sql.Identifier(role))


@contextmanager
def _translate_errors(role: Role) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.InvalidParameterValue as error:
        raise RightsMissing(
            f"the database server has no role {role.value}: {error}; "
            "run `pitboss ledger migrate up`"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise RightsMissing(
            f"this login may not work as {role.value}: {error}; have the server's administrator"
            f" run GRANT {role.value} TO it"
        ) from error
