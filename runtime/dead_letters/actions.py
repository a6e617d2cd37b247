"""The record of redrives and drops in PostgreSQL: who, what, when, why, and appended where."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from runtime.dead_letters.before_rebind import BeforeRebind, topic_today
from runtime.dead_letters.database import DeadLetterDatabase, escape_like, statements
from runtime.dead_letters.letters import Action, DeadLetterCase
from schemas.errors import Unavailable
from schemas.events import Position


class ActionStore(DeadLetterDatabase):
    """Actions, never changed once they are done.

    Every method raises Unavailable while the database is away.
    """

    async def by_source(self, prefix: str) -> dict[Position, list[Action]]:
        """Return the actions on topics with this prefix, by source, oldest first."""
        async with self.transaction() as connection:
            cursor = await connection.execute(
                statements("actions")["all"], {"prefix": escape_like(prefix) + "%"}
            )
            rows = await cursor.fetchall()
        found: dict[Position, list[Action]] = {}
        for row in rows:
            action = _action(row)
            found.setdefault(action.source, []).append(action)
        return found

    async def before_rebind(self) -> BeforeRebind | None:
        """Return what the last rebind left of the raw topics before it; None without a rebind.

        Of a rebind by a release that noted nothing, too.
        """
        async with self.transaction() as connection:
            rows = await (
                await connection.execute(statements("actions")["before_rebind"])
            ).fetchall()
        for number, bound_ms, found in rows:
            if found is not None:
                fields = {"rebind": number, "bound_ms": bound_ms}
                return msgspec.convert(fields | found, BeforeRebind)
        return None

    async def begin(
        self,
        cases: Sequence[DeadLetterCase],
        action: str,
        actor: str,
        reason: str,
        *,
        is_forced: bool,
    ) -> list[int]:
        """Record actions before they are carried out. Return the ids in the order of the cases."""
        parameters = {
            "action": action,
            "actor": actor,
            "reason": reason,
            "is_forced": is_forced,
            "topics": [case.source.topic for case in cases],
            "parts": [case.source.partition for case in cases],
            "offsets": [case.source.offset for case in cases],
            "codes": [",".join(case.codes) for case in cases],
        }
        async with self.transaction() as connection:
            cursor = await connection.execute(statements("actions")["begin"], parameters)
            return [row[0] for row in await cursor.fetchall()]

    async def complete(self, done: Sequence[tuple[int, Position | None]]) -> None:
        """Record that actions are done, and the position of each append."""
        parameters = {
            "ids": [number for number, _ in done],
            "to_parts": [position and position.partition for _, position in done],
            "to_offsets": [position and position.offset for _, position in done],
        }
        async with self.transaction() as connection:
            await connection.execute(statements("actions")["complete"], parameters)

    @asynccontextmanager
    async def exclusive_lock(self) -> AsyncIterator[None]:
        """Keep every other process from redriving or dropping until the block is left.

        Raises Unavailable where another process does so already.
        """
        lock = DeadLetterDatabase(self._url, "pitboss.dlt.lock", silence_max_s=None)
        try:
            async with lock.transaction() as connection:
                cursor = await connection.execute(statements("actions")["lock"])
                [(is_ours,)] = await cursor.fetchall()
                if not is_ours:
                    raise Unavailable(
                        "another process is redriving or dropping dead letters just now: try again"
                    )
                yield
        finally:
            await lock.close()


def _action(row: Sequence[Any]) -> Action:
    """Return the action of a row, whose columns are in the order of Action's fields."""
    number, topic, partition, offset, *content, to_partition, to_offset = row
    today = topic_today(topic)
    appended_at = None if to_offset is None else Position(today, to_partition, to_offset)
    fields: list[Any] = [number, Position(topic, partition, offset), *content, appended_at]
    return Action(*fields)
