"""The record of what people did with dead letters, in PostgreSQL: who, what, when, why, and where
it was appended.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from runtime.dead_letters.database import DeadLetterDatabase, statements
from runtime.dead_letters.letters import Action, DeadLetterCase
from schemas.errors import Unavailable
from schemas.events import Position


class ActionStore(DeadLetterDatabase):
    """Actions, never changed once they are done.

    Every method raises Unavailable while the database is away.
    """

    async def by_source(self, prefix: str) -> dict[Position, list[Action]]:
        """Every action on records of topics whose names begin so, by source, oldest first."""
        escaped = prefix.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")
        async with self.transaction() as connection:
            cursor = await connection.execute(
                statements("actions")["all"], {"prefix": escaped + "%"}
            )
            rows = await cursor.fetchall()
        found: dict[Position, list[Action]] = {}
        for row in rows:
            action = _action(row)
            found.setdefault(action.source, []).append(action)
        return found

    async def begin(
        self,
        cases: Sequence[DeadLetterCase],
        action: str,
        actor: str,
        reason: str,
        *,
        is_forced: bool,
    ) -> list[int]:
        """Note what is going to be done, before it is; the ids in the order of the cases."""
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
        """Note that it is done, and where the append went."""
        parameters = {
            "ids": [number for number, _ in done],
            "to_parts": [place and place.partition for _, place in done],
            "to_offsets": [place and place.offset for _, place in done],
        }
        async with self.transaction() as connection:
            await connection.execute(statements("actions")["complete"], parameters)

    @asynccontextmanager
    async def exclusive_lock(self) -> AsyncIterator[None]:
        """Nobody else redrives or drops until the block is left.

        Raises Unavailable where somebody does.
        """
        lock = DeadLetterDatabase(self._url, "pitboss.dlt.lock", silence_max_s=None)
        try:
            async with lock.transaction() as connection:
                [(is_ours,)] = await (
                    await connection.execute(statements("actions")["lock"])
                ).fetchall()
                if not is_ours:
                    raise Unavailable(
                        "somebody else is redriving or dropping dead letters just now: try again"
                    )
                yield
        finally:
            await lock.close()


def _action(row: Sequence[Any]) -> Action:
    (
        number,
        topic,
        part,
        offset,
        action,
        code,
        actor,
        reason,
        is_forced,
        asked_at,
        is_done,
        to_part,
        to_offset,
    ) = row
    to = None if to_offset is None else Position(topic, to_part, to_offset)
    return Action(
        number,
        Position(topic, part, offset),
        action,
        code,
        actor,
        reason,
        is_forced,
        asked_at,
        is_done,
        to,
    )
