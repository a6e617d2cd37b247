"""PostgreSQL in memory: tables with keys, atomic transactions, row locks on positions.

It has only what the ledger relies on: a transaction reads committed rows, holds the positions that
it has locked, and at its end every row is checked against keys and CHECKs before the first one is
written.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final

from ledger_sink.store.database import LockTimeout
from runtime.postgres.database import DataRefused
from schemas.errors import InvariantBroken, Unavailable

Row = dict[str, Any]

KEYS: Final[dict[str, tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]]] = {
    "installation": (("only_row",), ()),
    "stream_position": (("consumer", "topic", "part"), ()),
    "batch": (("sequence",), ()),
    "entry": (("event_id", "decision"), (("event_id",), ("part",))),
    "repeat": (("part", "source_offset", "attempt_index"), (("event_id",), ("part",))),
    "transfer": (("player_id", "currency", "version"), (("player_id", "currency"),)),
    "wallet": (("player_id", "currency"), (("player_id",),)),
    "closing": (("event_id", "player_id"), (("event_id",),)),
    "player_state": (("player_id",), ()),
    "proposal": (("event_id",), ()),
    "opened_deposit": (("event_id",), ()),
    "open_item": (("event_id",), ()),
    "operator_limit": (("currency",), ()),
    "parked": (("part", "source_offset"), (("event_id",),)),
    "barrier": (("id",), ()),
    "crossing": (("only_row",), ()),
}
"""By table: primary or unique key, and the column groups by which statements find rows."""

_SERIAL: Final = {"batch": "sequence", "barrier": "id"}
_LOCK_TIMEOUT_S: Final = 20.0
TEXT_MAX: Final = 2_000
"""Characters of a text: a longer one may not fit into PostgreSQL's index."""


class Table:
    """Table in memory: rows by key in the order of insertion, and by its indexed columns."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key, lookups = KEYS[name]
        self.rows: dict[tuple[Any, ...], Row] = {}
        self._by: dict[tuple[str, ...], defaultdict[tuple[Any, ...], list[Row]]] = {
            columns: defaultdict(list) for columns in lookups
        }
        self._serial = 0

    def key_of(self, row: Row) -> tuple[Any, ...]:
        """Return the values of a row's key columns."""
        return tuple(row.get(column) for column in self.key)

    def find(self, columns: tuple[str, ...], values: Iterable[Any]) -> list[Row]:
        """Return the rows with these values in indexed columns."""
        return self._by[columns].get(tuple(values), [])

    def insert(self, row: Row) -> None:
        """Add a row that `Server.commit` has checked."""
        if self.name in _SERIAL:
            self._serial += 1
            row[_SERIAL[self.name]] = self._serial
        key = self.key_of(row)
        # As in SQL, a key with a null in it equals no other.
        self.rows[key if None not in key else (*key, len(self.rows))] = row
        for columns, index in self._by.items():
            index[tuple(row.get(column) for column in columns)].append(row)

    def delete(self, key: tuple[Any, ...]) -> None:
        """Remove a row, if it is there; for tables without further indexes."""
        self.rows.pop(key, None)

    def constraint_violation(self, row: Row) -> str | None:
        """Return the constraint that a row violates, or None."""
        if self.name == "transfer" and (row["amount_minor"] <= 0 or row["debit"] == row["credit"]):
            return "expected an amount above 0 and two different accounts"
        return None


class SimulatedSession:
    """Transaction of one connection: its pending writes and its locks."""

    def __init__(self, owner: str, began_s: float) -> None:
        self.owner = owner
        self.began_s = began_s
        self.inserts: list[tuple[str, Row]] = []
        self.changes: list[Callable[[], None]] = []
        self.locks: set[tuple[Any, ...]] = set()
        self.lock_timeout_s = _LOCK_TIMEOUT_S
        self.is_ended = False


class Server:
    """Database server: tables, sessions, claims of positions, and violations of the claims."""

    def __init__(self, partitions: int = 0) -> None:
        """Make empty tables; `partitions` is the log's count, as the installation knows it."""
        self.partitions = partitions
        self.tables = {name: Table(name) for name in KEYS}
        self.tables["crossing"].insert({"only_row": True, "count": 0})
        self.sessions: list[SimulatedSession] = []
        self.claimed_by: dict[tuple[Any, ...], str] = {}
        """By position: the process that claimed it last; only this process may move it."""
        self.violations: list[str] = []
        self.is_away = False
        self._freed = asyncio.Event()

    def now_s(self) -> float:
        """Return the simulated time in seconds."""
        return asyncio.get_running_loop().time()

    def begin(self, owner: str) -> SimulatedSession:
        """Open a transaction. Raises Unavailable."""
        if self.is_away:
            message = "the simulated database is away"
            raise Unavailable(message)
        session = SimulatedSession(owner, self.now_s())
        self.sessions.append(session)
        return session

    def check(self, session: SimulatedSession) -> None:
        """Raise Unavailable if the session has ended, as its client finds out on its next call."""
        if session.is_ended or self.is_away:
            message = "the simulated connection was lost"
            raise Unavailable(message)

    async def lock(self, session: SimulatedSession, keys: Iterable[tuple[Any, ...]]) -> None:
        """Lock positions until the transaction ends. Raises LockTimeout."""
        for key in keys:
            until_s = self.now_s() + session.lock_timeout_s
            while any(key in other.locks for other in self.sessions if other is not session):
                if self.now_s() >= until_s:
                    message = "another simulated session holds the position"
                    raise LockTimeout(message)
                self._freed.clear()
                try:
                    async with asyncio.timeout(until_s - self.now_s() + 0.001):
                        await self._freed.wait()
                except TimeoutError:
                    continue
            self.check(session)
            session.locks.add(key)

    def end(self, session: SimulatedSession) -> None:
        """End a session and release its locks, committed or not."""
        if session in self.sessions:
            self.sessions.remove(session)
        session.is_ended = True
        session.locks.clear()
        self._freed.set()

    def end_all_of(self, owner: str) -> None:
        """End the sessions of a dead process, as the operating system closes its connections."""
        for session in [session for session in self.sessions if session.owner == owner]:
            self.end(session)

    def commit(self, session: SimulatedSession) -> None:
        """Write all rows and changes, or none.

        Raises Unavailable if another session has booked one of the events meanwhile, and
        InvariantBroken if a row violates a key or a constraint, DataRefused for a text that is too
        long.
        """
        self.check(session)
        seen: set[tuple[str, tuple[Any, ...]]] = set()
        for name, row in session.inserts:
            table = self.tables[name]
            key = table.key_of(row)
            if (
                name not in _SERIAL
                and None not in key
                and (key in table.rows or (name, key) in seen)
            ):
                if name == "entry":
                    message = f"the transaction has to be tried again: {key} is booked already"
                    raise Unavailable(message)
                message = f"{name}: {key} is there already"
                raise InvariantBroken(message)
            violation = table.constraint_violation(row)
            if violation is not None:
                raise InvariantBroken(f"{name}: {violation}: {row}")
            if any(isinstance(value, str) and len(value) > TEXT_MAX for value in row.values()):
                raise DataRefused(f"{name}: a text is too long")
            seen.add((name, key))
        for name, row in session.inserts:
            self.tables[name].insert(row)
        for change in session.changes:
            change()
        session.inserts, session.changes = [], []
