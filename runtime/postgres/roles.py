"""Database roles: what a component may do is the server's decision, whatever login the component
was given.

A login takes a role on after it has connected. The roles have fixed names and belong to the server,
not to one database: dropping a namespace leaves nothing behind, and parallel provisioning makes the
same four.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import Any, ClassVar, Final

import psycopg
from psycopg import AsyncConnection, Connection, sql

from runtime.postgres.timeouts import shut_socket
from schemas.errors import UsageError


class Role(StrEnum):
    """Which rights a session works with."""

    WRITER = "pitboss_writer"
    """Workers: books, and can neither change nor remove what is booked."""
    READER = "pitboss_reader"
    """Views for people: what is booked, and what became of dead letters."""
    AUDITOR = "pitboss_auditor"
    """Checks: every table there is."""
    MIGRATOR = "pitboss_migrator"
    """Owns the tables."""


_ANSWER_MAX_S: Final = 5.0  # as long as a connection may take
_READS: Final = frozenset({Role.READER, Role.AUDITOR})


class RightsMissing(UsageError):
    """The database does not let this login, or the role that it works under, do what is needed."""

    code: ClassVar[str] = "RIGHTS_MISSING"


def is_read_only(role: Role) -> bool:
    """Whether sessions of this role begin every transaction read-only."""
    return role in _READS


def session_options(role: Role) -> str:
    """What a session of this role adds to its connection's options."""
    return " -c default_transaction_read_only=on" if is_read_only(role) else ""


def rights_missing(error: psycopg.errors.InsufficientPrivilege) -> RightsMissing:
    """What to say where a statement needs a right that its role does not have."""
    return RightsMissing(
        f"the role of this session may not do that: {error}; `pitboss ledger migrate up` grants what this release needs"
    )


async def take_role(connection: AsyncConnection[Any], role: Role) -> AsyncConnection[Any]:
    """The connection, with this role's rights from here on; closed where that fails.

    Raises RightsMissing.
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
    """As `take_role`, for a connection that is not asynchronous. Raises RightsMissing."""
    try:
        with _translate_errors(role):
            connection.execute(_statement(role))
    except BaseException:
        with suppress(psycopg.Error):
            connection.close()
        raise
    return connection


def _statement(role: Role) -> sql.Composed:
    return sql.SQL("SET ROLE {}").format(sql.Identifier(role))


@contextmanager
def _translate_errors(role: Role) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.InvalidParameterValue as error:
        raise RightsMissing(
            f"the database server has no role {role.value}: {error}; run `pitboss ledger migrate up`"
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise RightsMissing(
            f"this login may not work as {role.value}: {error}; have the server's administrator"
            f" run GRANT {role.value} TO it"
        ) from error
