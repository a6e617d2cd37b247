"""Players as they are now, read for answers in real time: a small pool of read-only sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from mode import Service

from ledger_sink.rules.journal import BLOCKED
from ledger_sink.store.database import LedgerDatabase
from ledger_sink.store.statements import statements
from runtime.postgres.roles import Role
from schemas.current_player import CurrentPlayer, CurrentWallet
from schemas.errors import Unavailable

SESSIONS: Final = 4
"""A statement takes some 0.1 ms of the server's time: four sessions are more than one core of ours
can use.
"""
SILENCE_MAX_S: Final = 2.0
"""A server that does not answer for so long is away: a provider waits for no longer."""

_SQL: Final = statements("people")


class PlayerPool(Service):
    """Service that reads players, each by one statement of the session that was idle last.

    A copy of the database is read from the moment on when it has all that was committed before this
    process asked for the first player: what an earlier process answered is in it then.
    """

    def __init__(
        self,
        url: str,
        application_name: str,
        sessions: int = SESSIONS,
        primary_url: str | None = None,
    ) -> None:
        """Prepare without connecting; with `primary_url` the database of `url` is a copy of it."""
        super().__init__()
        self._sessions = [_session(url, application_name) for _ in range(sessions)]
        self._primary = None if primary_url is None else _session(primary_url, application_name)
        self._position: str | None = None
        self._is_reached = primary_url is None
        self._idle: asyncio.LifoQueue[LedgerDatabase] = asyncio.LifoQueue()
        for session in self._sessions:
            self._idle.put_nowait(session)

    async def read_player(self, player_id: str) -> CurrentPlayer:
        """Return a player's wallets and restrictions.

        Raises Unavailable without a database, and where a copy is behind this process's start.
        """
        session = await self._idle.get()
        try:
            if not self._is_reached:
                await self._check_reached(session)
            rows = await session.read(_SQL["current_player"], {"player": player_id})
        finally:
            self._idle.put_nowait(session)
        return player_of_rows(rows)

    async def _check_reached(self, session: LedgerDatabase) -> None:
        if self._position is None and self._primary is not None:
            [[self._position]] = await self._primary.read(_SQL["written_position"])
        [[is_reached]] = await session.read(_SQL["has_reached"], {"position": self._position})
        if not is_reached:
            raise Unavailable(f"the copy of the database has not reached {self._position} yet")
        self._is_reached = True

    async def on_stop(self) -> None:
        """Close every session."""
        for session in (*self._sessions, self._primary):
            if session is not None:
                await session.close()


def _session(url: str, application_name: str) -> LedgerDatabase:
    return LedgerDatabase(url, application_name, role=Role.READER, silence_max_s=SILENCE_MAX_S)


def player_of_rows(rows: Sequence[Any]) -> CurrentPlayer:
    """Return the player of the statement's rows: one a wallet, or one without a wallet."""
    standings, limits = (rows[0][5], rows[0][6]) if rows else (None, None)
    return CurrentPlayer(
        tuple(CurrentWallet(*row[:5]) for row in rows if row[0] is not None),
        any(level == BLOCKED for level, _ in (standings or {}).values()),
        {code: bet_max for code, (bet_max, _) in (limits or {}).items() if bet_max is not None},
    )
