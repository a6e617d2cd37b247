"""One connection to a database of ours, reopened after a loss; its errors carry our policy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, Final, LiteralString

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.pq import TransactionStatus

from runtime.connection_faults import unreachable_database
from runtime.postgres.prepared import PreparedTransactions, TextParameters
from runtime.postgres.roles import (
    Role,
    is_read_only,
    rights_missing,
    session_options,
    shut_socket,
    take_role,
)
from schemas.errors import InvariantBroken, Unavailable, UsageError

# A hung statement must end before the broker declares this worker dead.
_SESSION: Final = "-c synchronous_commit=on -c statement_timeout=30s -c lock_timeout=20s"
_SHORT: Final = " -c idle_in_transaction_session_timeout=10s"
"""A transaction whose worker is stuck must not hold up the others either."""

SILENCE_MAX_S: Final = 40.0
"""Longer than any statement may take: a longer transaction has lost its server without an error."""

_UNSTORABLE: Final = (
    psycopg.DataError,
    psycopg.errors.ProgramLimitExceeded,
    psycopg.errors.CheckViolation,
    psycopg.errors.NotNullViolation,
)
_OLD_TABLES: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.InvalidSchemaName,
)


class LockTimeout(Unavailable):
    """Another session has held a row for longer than this one waits."""


class DataRefused(InvariantBroken):
    """A value of this transaction cannot be stored: a NUL, a number or a key that is too large."""


class DemandFailed(InvariantBroken):
    """The rows are not as the transaction demanded of them; nothing of it was written."""


class StatementTimeout(Unavailable):
    """A statement has run for longer than one may; with less to do it may pass."""


DEMAND_FAILED: Final = "PB001"
"""The SQLSTATE that the function `demand` raises."""


_TRY_AGAIN: Final[Mapping[type[psycopg.Error], type[Unavailable]]] = {
    psycopg.errors.SerializationFailure: Unavailable,
    psycopg.errors.DeadlockDetected: Unavailable,
    psycopg.errors.LockNotAvailable: LockTimeout,
    psycopg.errors.QueryCanceled: StatementTimeout,
}
"""Errors that another try may not meet, with ours."""


_OPEN_TRANSACTION: Final = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


class TransactionTrips:
    """The round trips of one transaction: each sends its statements at once and awaits all answers.

    BEGIN goes out with the first, COMMIT with the last. So a statement that must not be committed
    where its result is wrong has to fail by itself: the server then skips what is behind it.
    """

    def __init__(
        self, connection: AsyncConnection[Any], prepared: PreparedTransactions | None = None
    ) -> None:
        """Send nothing yet."""
        self.connection = connection
        self._prepared = prepared
        self._has_started = False
        self._commit: AsyncCursor[Any] | None = None

    @asynccontextmanager
    async def trip(self, *, is_last: bool = False) -> AsyncIterator[None]:
        """Send what the block executes in one round trip; the last one commits.

        Results can be fetched behind the block. Raises the error of the first statement that
        failed, within the block or at its end.
        """
        failure: psycopg.Error | None = None
        try:
            async with self.connection.pipeline():
                if not self._has_started:
                    self._has_started = True
                    await self.begin()
                try:
                    yield
                    if is_last:
                        await self.commit()
                except psycopg.Error as error:
                    # Kept back until the answers to the rest are there: psycopg logs a warning
                    # where a pipeline ends by an error and has more to say.
                    failure = error
        except psycopg.errors.PipelineAborted:
            if failure is None:
                raise
        if failure is not None:
            raise failure

    async def commit_all(self, statements: Sequence[tuple[LiteralString, TextParameters]]) -> None:
        """Execute the whole transaction, commit included, in one round trip without results.

        The parameters are text. Raises the error of the first statement that failed.
        """
        assert self._prepared is not None
        await self._prepared.commit(statements)

    async def begin(self) -> None:
        """Begin the transaction."""
        await self.connection.execute("BEGIN", prepare=False)

    async def commit(self) -> None:
        """Commit, if all before has succeeded."""
        self._commit = await self.connection.execute("COMMIT", prepare=False)

    def check_committed(self) -> None:
        """Raise OperationalError if the server has not acknowledged a COMMIT that was sent."""
        if self._commit is not None and self._commit.statusmessage != "COMMIT":
            message = "the connection was lost before COMMIT"
            raise psycopg.OperationalError(message)


class Database:
    """One connection that runs one transaction after the other, with the rights of one role.

    Callers wait until it is free. Every method raises Unavailable while the database is away, and
    RightsMissing where it does not permit what is asked.
    """

    owner: ClassVar[str]
    """Component that owns the tables, for messages: "the ledger's"."""
    remedy: ClassVar[str] = "run `pitboss provision`"
    """What to do where the tables are older than this code."""
    retriable_constraints: ClassVar[frozenset[str]] = frozenset()
    """Unique constraints that another worker may have filled just before: the next try sees it."""

    def __init__(
        self,
        url: str,
        application_name: str,
        *,
        role: Role = Role.WRITER,
        silence_max_s: float | None = SILENCE_MAX_S,
    ) -> None:
        """Prepare without connecting; with `silence_max_s` None a transaction has no time limit."""
        self._url = url
        self._application_name = application_name
        self._role = role
        self._silence_max_s = silence_max_s
        self._connection: AsyncConnection[Any] | None = None
        self._prepared: PreparedTransactions | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Open a transaction that is committed at the end of the block.

        A COMMIT whose reply is lost raises Unavailable like any other loss: the caller asks the
        database what is true. Raises UsageError where the tables are older than this code, and
        InvariantBroken for what would fail again and again: DataRefused for a value of its own.
        """
        async with self._use() as connection:
            async with connection.transaction():
                yield connection
            _check_open(connection)

    async def read(
        self, statement: LiteralString, parameters: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Return the rows of one SELECT: one round, without a transaction around it.

        Raises as `transaction` does.
        """
        async with self._use() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall()

    @asynccontextmanager
    async def trips(self) -> AsyncIterator[TransactionTrips]:
        """Open a transaction whose BEGIN and COMMIT cost no round trips of their own.

        The last of its trips commits it; without one it is rolled back. Raises as `transaction`,
        and DemandFailed where a statement has demanded what does not hold.
        """
        async with self._use() as connection:
            trips = TransactionTrips(connection, self._prepared)
            try:
                yield trips
                trips.check_committed()
            finally:
                if connection.info.transaction_status in _OPEN_TRANSACTION:
                    with suppress(psycopg.Error):  # closed below
                        await connection.rollback()

    @asynccontextmanager
    async def _use(self) -> AsyncIterator[AsyncConnection[Any]]:
        """Take the connection and raise our errors for psycopg's."""
        async with self._turn:
            connection = await self._open()
            silence = self._limit_silence(connection)
            try:
                yield connection
            except psycopg.errors.ReadOnlySqlTransaction as error:
                if is_read_only(self._role):
                    raise self._translate(error, connection) from error
                await self.close()  # a standby: another server may be the primary now
                message = f"{self.owner} database takes no writes: {error}"
                raise Unavailable(message) from error
            except psycopg.errors.InsufficientPrivilege as error:
                raise rights_missing(error) from error
            except psycopg.Error as error:
                raise self._translate(error, connection) from error
            finally:
                if silence is not None:
                    silence.cancel()
                if connection.info.transaction_status is not TransactionStatus.IDLE:
                    await self.close()

    async def query(
        self, statement: LiteralString, parameters: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Return the rows of one statement, committed by itself; [] for one without rows."""
        async with self._use() as connection:
            cursor = await connection.execute(statement, parameters)
            rows = await cursor.fetchall() if cursor.description else []
            _check_open(connection)
            return rows

    async def query_all(
        self, *queries: tuple[LiteralString, Mapping[str, Any]]
    ) -> list[Sequence[Any]]:
        """Return the rows of each of some queries, which cost one round trip.

        They are planned for these parameters: a plan of an earlier time may read a table whole.
        """
        async with self._use() as connection:
            async with connection.pipeline():
                cursors = [
                    await connection.execute(statement, parameters, prepare=False)
                    for statement, parameters in queries
                ]
            rows: list[Sequence[Any]] = [await cursor.fetchall() for cursor in cursors]
            _check_open(connection)
            return rows

    async def close(self) -> None:
        """Close the connection; the next transaction opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()

    async def _open(self) -> AsyncConnection[Any]:
        if self._connection is None or self._connection.closed:
            is_short = self._silence_max_s is not None
            try:
                connection = await AsyncConnection.connect(
                    self._url,
                    autocommit=True,
                    application_name=self._application_name,
                    connect_timeout=5,
                    options=_SESSION + (_SHORT if is_short else "") + session_options(self._role),
                )
                self._connection = await take_role(connection, self._role)
                self._prepared = PreparedTransactions(self._connection)
            except psycopg.OperationalError as error:
                what = f"{self.owner} database"
                raise await asyncio.to_thread(unreachable_database, what, error) from error
        return self._connection

    def _limit_silence(self, connection: AsyncConnection[Any]) -> asyncio.TimerHandle | None:
        if self._silence_max_s is None:
            return None
        loop = asyncio.get_running_loop()
        return loop.call_later(self._silence_max_s, shut_socket, connection)

    def _translate(self, error: psycopg.Error, connection: AsyncConnection[Any]) -> Exception:
        """Return our error for one of psycopg's, by what is to be done about it."""
        message = f"the transaction has to be tried again: {error}"
        if error.sqlstate == DEMAND_FAILED:
            return DemandFailed(error.diag.message_primary or str(error))
        if isinstance(error, psycopg.errors.UniqueViolation):
            if error.diag.constraint_name in self.retriable_constraints:
                return Unavailable(message)
        elif ours := next(
            (_TRY_AGAIN[kind] for kind in _TRY_AGAIN if isinstance(error, kind)), None
        ):
            return ours(message)
        is_limit = isinstance(error, psycopg.errors.ProgramLimitExceeded)
        is_operational = isinstance(error, psycopg.OperationalError) and not is_limit
        if connection.closed or is_operational:
            return Unavailable(f"{self.owner} database went away: {error}")
        if isinstance(error, _OLD_TABLES):
            return UsageError(
                f"{self.owner} tables are not those of this release: {error}; {self.remedy}"
            )
        broken = DataRefused if isinstance(error, _UNSTORABLE) else InvariantBroken
        return broken(f"{self.owner} database does not take this: {error}")


def _check_open(connection: AsyncConnection[Any]) -> None:
    # psycopg leaves a transaction block without an error if the connection is already known to be
    # lost.
    if connection.closed:
        message = "the connection was lost before COMMIT"
        raise psycopg.OperationalError(message)
