"""A whole transaction of prepared statements in one write to the server and one wait for it.

psycopg's pipeline writes to its socket and visits the event loop at each statement, which took a
third of a ledger worker's CPU at the rates of an ordinary evening, and was as many encrypted
records with TLS. Here libpq gathers all statements and sends them together
(https://www.postgresql.org/docs/current/libpq-pipeline-mode.html). Waiting, cancelling and
errors stay psycopg's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Mapping, Sequence
from functools import cache
from typing import Any, Final, LiteralString, NamedTuple, TypeAlias

import psycopg
from psycopg import AsyncConnection
from psycopg.generators import fetch_many, send
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

TextParameters: TypeAlias = Mapping[str, str | None]
"""Values by name, as PostgreSQL reads them from text."""

_PARAMETER: Final = re.compile(r"%\((\w+)\)s|%%")
_ENCODING: Final = "utf-8"


class PreparedText(NamedTuple):
    """A statement as the server prepares it."""

    name: bytes
    text: bytes
    parameters: tuple[str, ...]
    """Names of `$1`, `$2` and so on."""


@cache
def prepared_text(statement: LiteralString) -> PreparedText:
    """Return a statement with `%(name)s` for its parameters as the server prepares it."""
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        if match[1] is None:
            return "%"
        return f"${numbers.setdefault(match[1], len(numbers) + 1)}"

    text = _PARAMETER.sub(number, statement).encode(_ENCODING)
    name = b"pitboss_" + hashlib.sha256(text).hexdigest()[:16].encode("ascii")
    return PreparedText(name, text, tuple(numbers))


_BEGIN: Final = prepared_text("BEGIN")
_COMMIT: Final = prepared_text("COMMIT")


class PreparedTransactions:
    """Runs transactions on one connection; it knows which statements the server has prepared."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        """Prepare nothing yet."""
        self._connection = connection
        self._prepared: set[bytes] = set()

    async def commit(self, statements: Sequence[tuple[LiteralString, TextParameters]]) -> None:
        """Execute statements between BEGIN and COMMIT; results of theirs are dropped.

        Raises the psycopg.Error of the first one that fails, with the transaction still open,
        DataError for a value with a NUL before anything is sent, and OperationalError where the
        server has not answered COMMIT.
        """
        try:
            await self._send(statements)
        except psycopg.errors.InvalidSqlStatementName:
            # psycopg drops all prepared statements of a connection behind a ROLLBACK.
            await self._connection.rollback()
            self._prepared.clear()
            await self._send(statements)

    async def _send(self, statements: Sequence[tuple[LiteralString, TextParameters]]) -> None:
        executed = [(_BEGIN, ()), *(_bind(*each) for each in statements), (_COMMIT, ())]
        new = {one.name: one for one, _ in executed if one.name not in self._prepared}
        pgconn = self._connection.pgconn
        pgconn.enter_pipeline_mode()
        for one in new.values():
            pgconn.send_prepare(one.name, one.text)
        for one, values in executed:
            pgconn.send_query_prepared(one.name, values)
        pgconn.pipeline_sync()
        try:
            results = await self._connection.wait(_exchange(pgconn, len(new) + len(executed)))
        except BaseException:
            # Answers are missing, so what is prepared is as unknown as what is committed.
            await self._connection.close()
            raise
        pgconn.exit_pipeline_mode()
        for name, result in zip(new, results, strict=False):
            if result.status == ExecStatus.COMMAND_OK:
                self._prepared.add(name)
        for result in results:
            if result.status == ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result, encoding=_ENCODING)
        if results[-1].command_status != b"COMMIT":
            message = "the connection was lost before COMMIT"
            raise psycopg.OperationalError(message)


def _bind(
    statement: LiteralString, parameters: TextParameters
) -> tuple[PreparedText, Sequence[bytes | None]]:
    prepared = prepared_text(statement)
    given = [parameters[name] for name in prepared.parameters]
    values = [None if value is None else value.encode(_ENCODING) for value in given]
    if any(value is not None and b"\0" in value for value in values):
        # libpq would take what is before it for the whole value.
        message = "PostgreSQL's text cannot contain NUL (0x00)"
        raise psycopg.DataError(message)
    return prepared, values


def _exchange(pgconn: PGconn, commands: int) -> Generator[Any, Any, list[PGresult]]:
    """Send what is queued, and return a result for each command; for psycopg's `wait`."""
    yield from send(pgconn)
    results = []
    for _ in range(commands):
        results += yield from fetch_many(pgconn)
    yield from fetch_many(pgconn)  # of the synchronisation
    return results
