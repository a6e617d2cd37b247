"""PostgreSQL's part, in memory: tables with keys, transactions that are all or nothing, row locks
on positions.

Only what the ledger relies on: a transaction reads what is committed, holds the positions that it
has locked, and at its end every row is checked against keys and CHECKs before the first one is
written.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Final

from ledger_sink.store.database import LockTimeout
from schemas.errors import InvariantBroken, Unavailable

Row = dict[str, Any]

KEYS: Final[dict[str, tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]]] = {
    "installation": (("only_row",), ()),
    "stream_position": (("consumer", "topic", "part"), ()),
    "batch": (("sequence",), ()),
    "entry": (("event_id", "decision"), (("event_id",), ("part",))),
    "repeat": (("part", "source_offset"), (("event_id",), ("part",))),
    "transfer": (("player_id", "currency", "version"), (("player_id", "currency"),)),
    "wallet": (("player_id", "currency"), (("player_id",),)),
    "closing": (("event_id", "player_id"), (("event_id",),)),
    "player_state": (("player_id",), ()),
    "proposal": (("event_id",), ()),
    "parked": (("part", "source_offset"), (("event_id",),)),
    "barrier": (("id",), ()),
    "crossing": (("only_row",), ()),
}
"""By table: primary or unique key, and the columns that statements look rows up by."""

_SERIAL: Final = {"batch": "sequence", "barrier": "id"}
_LOCK_TIMEOUT_S: Final = 20.0


class Table:
    """Rows by key, in the order of their insertion, and by what they are looked up by."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.key, lookups = KEYS[name]
        self.rows: dict[tuple[Any, ...], Row] = {}
        self._by: dict[tuple[str, ...], defaultdict[tuple[Any, ...], list[Row]]] = {
            columns: defaultdict(list) for columns in lookups
        }
        self._serial = 0

    def key_of(self, row: Row) -> tuple[Any, ...]:
        return tuple(row.get(column) for column in self.key)

    def find(self, columns: tuple[str, ...], values: Iterable[Any]) -> list[Row]:
        """The rows with these values in columns that the table is indexed by."""
        return self._by[columns].get(tuple(values), [])

    def insert(self, row: Row) -> None:
        """Add a row that was checked before."""
        if self.name in _SERIAL:
            self._serial += 1
            row[_SERIAL[self.name]] = self._serial
        key = self.key_of(row)
        # As in SQL, a key with a null in it equals no other.
        self.rows[key if None not in key else (*key, len(self.rows))] = row
        for columns, index in self._by.items():
            index[tuple(row.get(column) for column in columns)].append(row)

    def constraint_violation(self, row: Row) -> str | None:
        """What a constraint has against a row."""
        if self.name == "transfer" and (row["amount_minor"] <= 0 or row["debit"] == row["credit"]):
            return "a transfer moves something from one account to another"
        return None


class SimulatedSession:
    """One connection's transaction: what it would write, and what it holds."""

    def __init__(self, owner: str, began_s: float) -> None:
        self.owner = owner
        self.began_s = began_s
        self.inserts: list[tuple[str, Row]] = []
        self.changes: list[Callable[[], None]] = []
        self.locks: set[tuple[Any, ...]] = set()
        self.lock_timeout_s = _LOCK_TIMEOUT_S
        self.is_ended = False


class Server:
    """The database: its tables, who holds which position, and what was done to it that must not be."""

    def __init__(self) -> None:
        self.tables = {name: Table(name) for name in KEYS}
        self.tables["crossing"].insert({"only_row": True, "count": 0})
        self.sessions: list[SimulatedSession] = []
        self.claimed_by: dict[tuple[Any, ...], str] = {}
        """By position: the process that has claimed it last; nobody else may move it."""
        self.violations: list[str] = []
        self.is_away = False
        self._freed = asyncio.Event()

    def now_s(self) -> float:
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
        """Raises Unavailable for a session that was ended, as its client finds out with its next
        word.
        """
        if session.is_ended or self.is_away:
            message = "the simulated connection was lost"
            raise Unavailable(message)

    async def lock(self, session: SimulatedSession, keys: Iterable[tuple[Any, ...]]) -> None:
        """Hold positions until the transaction ends. Raises Locked."""
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
        """Let go of everything, written or not."""
        if session in self.sessions:
            self.sessions.remove(session)
        session.is_ended = True
        session.locks.clear()
        self._freed.set()

    def end_all_of(self, owner: str) -> None:
        """As the operating system does with the connections of a process that is gone."""
        for session in [session for session in self.sessions if session.owner == owner]:
            self.end(session)

    def commit(self, session: SimulatedSession) -> None:
        """Write all, or nothing.

        Raises Unavailable for an event that another session has booked meanwhile.
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
            why = table.constraint_violation(row)
            if why is not None:
                raise InvariantBroken(f"{name}: {why}: {row}")
            seen.add((name, key))
        for name, row in session.inserts:
            self.tables[name].insert(row)
        for change in session.changes:
            change()
        session.inserts, session.changes = [], []
