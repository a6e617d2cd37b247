"""The index of dead letters in PostgreSQL: every letter without its bytes, and how far it reaches.

A command that needs the letters first reads on from where the index ends, and stores what it found.
No worker writes it, so it holds no intake up; thrown away, it is made anew from the topics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from runtime.dead_letters.database import DeadLetterDatabase, escape_like, statements
from runtime.dead_letters.letters import Letter
from schemas import codec
from schemas.events import DeadLetter, Position


class IndexPosition(NamedTuple):
    """How far a partition of a dead letter topic is in the index."""

    next_offset: int
    foreign_records: int
    """Records before it that are not dead letters of ours."""


class NewLetters(NamedTuple):
    """What a partition held in `[from_offset, next_offset)`."""

    topic: str
    partition: int
    from_offset: int
    next_offset: int
    letters: Sequence[Letter]
    foreign_records: int


def without_bytes(letter: DeadLetter) -> DeadLetter:
    """Return a letter as the index has it."""
    return replace(letter, value=None, headers=[])


class LetterIndex(DeadLetterDatabase):
    """The tables of the index. Every method raises Unavailable, RightsMissing.

    UsageError where they are missing: they are of a later release.
    """

    async def positions(self, prefix: str) -> dict[tuple[str, int], IndexPosition]:
        """Return how far the partitions of topics with this prefix are."""
        async with self.transaction() as connection:
            cursor = await connection.execute(
                statements("letter_index")["positions"], {"prefix": escape_like(prefix) + "%"}
            )
            rows = await cursor.fetchall()
        return {(topic, part): IndexPosition(*rest) for topic, part, *rest in rows}

    async def letters(self, prefix: str) -> list[Letter]:
        """Return every letter of topics with this prefix, in the order of the topics."""
        decode = codec.decoder(DeadLetter)
        async with self.transaction() as connection:
            cursor = await connection.execute(
                statements("letter_index")["letters"], {"prefix": escape_like(prefix) + "%"}
            )
            return [
                Letter(Position(topic, part, offset), decode(bytes(body)))
                async for topic, part, offset, body in cursor
            ]

    async def add(self, new: NewLetters) -> None:
        """Store what follows the index's end; nothing where another process was faster."""
        encode, sql = codec.encoder(DeadLetter), statements("letter_index")
        columns = {
            "topic": new.topic,
            "part": new.partition,
            "offsets": [one.position.offset for one in new.letters],
            "letters": [encode(without_bytes(one.letter)) for one in new.letters],
            "next": new.next_offset,
            "foreign": new.foreign_records,
        }
        async with self.transaction() as connection:
            await connection.execute(sql["lock"])
            row = await (await connection.execute(sql["position"], columns)).fetchone()
            if row is not None and row[0] != new.from_offset:
                return
            await connection.execute(sql["add"], columns)
            await connection.execute(sql["move"], columns)

    async def cut(self, topic: str, partition: int, before_offset: int) -> None:
        """Forget letters that their topic no longer holds."""
        columns = {"topic": topic, "part": partition, "before": before_offset}
        async with self.transaction() as connection:
            await connection.execute(statements("letter_index")["cut"], columns)

    async def forget(self, topic: str, partition: int) -> None:
        """Forget a partition, as of a topic that was made anew."""
        columns = {"topic": topic, "part": partition}
        async with self.transaction() as connection:
            await connection.execute(statements("letter_index")["lock"])
            await connection.execute(statements("letter_index")["forget"], columns)
            await connection.execute(statements("letter_index")["forget_position"], columns)
