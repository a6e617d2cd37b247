"""Reading dead letters: the index first, then what its topics hold behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiokafka import TopicPartition

from pitboss.ops.topic_admin import dead_letter_topics
from pitboss.settings import Runtime
from runtime.dead_letters.letter_index import IndexPosition, LetterIndex, NewLetters, without_bytes
from runtime.dead_letters.letters import Letter
from runtime.kafka.topic_reader import partition_bounds, read_offsets, read_topics
from runtime.postgres.roles import RightsMissing, Role
from runtime.security import BrokerAddress
from schemas import codec
from schemas.errors import Rejected, UsageError
from schemas.events import DeadLetter, Position

_APPLICATION: Final = "pitboss.dlt.index"
_STORED_AT_ONCE: Final = 5_000

Bounds = Mapping[TopicPartition, tuple[int, int]]


@dataclass
class FoundLetters:
    """Letters in the order of their topics; only those that were asked for have their bytes."""

    letters: list[Letter] = field(default_factory=list)
    foreign_records: int = 0


@dataclass
class _Tail:
    """What one partition holds behind the index, up to now."""

    from_offset: int
    next_offset: int
    letters: list[Letter] = field(default_factory=list)
    foreign_records: int = 0

    def take(self, tp: TopicPartition) -> NewLetters:
        """Return what was gathered, and gather anew behind it."""
        new = NewLetters(
            tp.topic,
            tp.partition,
            self.from_offset,
            self.next_offset,
            self.letters,
            self.foreign_records,
        )
        self.from_offset, self.letters, self.foreign_records = self.next_offset, [], 0
        return new


async def read_letters(runtime: Runtime, wants_bytes: Callable[[DeadLetter], bool]) -> FoundLetters:
    """Return every letter of a namespace; those that `wants_bytes` selects with their bytes.

    It is asked of letters without bytes. Raises Unavailable, and UsageError where the namespace was
    never provisioned.
    """
    servers = runtime.broker
    topics = await dead_letter_topics(servers, runtime.namespace)
    if not topics:
        return FoundLetters()
    bounds = await partition_bounds(servers, topics)
    found = await _indexed(runtime, bounds)
    wanted = [one.position for one in found.letters if wants_bytes(one.letter)]
    if wanted:
        whole = await _read_whole(servers, wanted)
        found.letters = [whole.get(one.position, one) for one in found.letters]
    return found


async def _indexed(runtime: Runtime, bounds: Bounds) -> FoundLetters:
    async with _open(runtime, Role.READER) as index:
        positions = await _positions(index, runtime)
        starts = {
            tp: _start(bounds[tp], None if positions is None else positions.get(tuple(tp)))
            for tp in bounds
        }
        new = await _read_on(runtime, bounds, starts, stores=positions is not None)
        stored = [] if positions is None else await index.letters(runtime.prefix)
    known = {tuple(tp): bounds[tp][0] for tp in bounds}
    # A letter may be both in the index by now and among the new ones.
    letters = {
        one.position: one
        for one in (*stored, *new.letters)
        if one.position.offset
        >= known.get((one.position.topic, one.position.partition), float("inf"))
    }
    ordered = [letters[key] for key in sorted(letters, key=_order)]
    foreign = sum(one.foreign_records for one in (positions or {}).values())
    return FoundLetters(ordered, foreign + new.foreign_records)


def _order(position: Position) -> tuple[str, int, int]:
    return position.topic, position.partition, position.offset


def _start(bounds: tuple[int, int], position: IndexPosition | None) -> int:
    """Return where to read on: from the first record, if the index is not of this topic."""
    first, end = bounds
    if position is None or position.next_offset > end:
        return first
    return max(first, position.next_offset)


async def _positions(
    index: LetterIndex, runtime: Runtime
) -> dict[tuple[str, int], IndexPosition] | None:
    """Return how far the index is; None without one, as before the tables are migrated."""
    try:
        return await index.positions(runtime.prefix)
    except RightsMissing:
        raise
    except UsageError:
        return None


async def _read_on(
    runtime: Runtime, bounds: Bounds, starts: Mapping[TopicPartition, int], *, stores: bool
) -> FoundLetters:
    """Read what is behind the index, and store it where this session may."""
    decode = codec.decoder(DeadLetter)
    found = FoundLetters()
    tails = {tp: _Tail(starts[tp], starts[tp]) for tp in bounds}
    topics = {tp.topic for tp in bounds if starts[tp] < bounds[tp][1]}
    async with _open(runtime, Role.WRITER) as index:
        writer = _IndexWriter(index) if stores else None
        if writer is not None:
            await writer.tidy(bounds)
        if not topics:
            return found
        async for record in read_topics(runtime.broker, topics, starts):
            tail = tails[TopicPartition(record.topic, record.partition)]
            tail.next_offset = record.offset + 1
            try:
                letter = without_bytes(decode(record.value))
            except Rejected:
                tail.foreign_records += 1
                found.foreign_records += 1
                continue
            place = Position(record.topic, record.partition, record.offset)
            tail.letters.append(Letter(place, letter))
            found.letters.append(tail.letters[-1])
            if writer is not None and len(tail.letters) >= _STORED_AT_ONCE:
                await writer.add(tail.take(TopicPartition(record.topic, record.partition)))
        if writer is not None:
            for tp, tail in tails.items():
                # What came meanwhile was read, too.
                tail.next_offset = max(tail.next_offset, bounds[tp][1])
                if tail.next_offset > tail.from_offset:
                    await writer.add(tail.take(tp))
    return found


class _IndexWriter:
    """Writes to the index as long as that is permitted: an operator may have the right to read."""

    def __init__(self, index: LetterIndex) -> None:
        self._index = index
        self._may_write = True

    async def tidy(self, bounds: Bounds) -> None:
        """Forget what the topics no longer hold."""
        try:
            positions = await self._index.positions("")
            for tp, (first, end) in bounds.items():
                position = positions.get(tuple(tp))
                if position is None:
                    continue
                if not first <= position.next_offset <= end:
                    await self._index.forget(tp.topic, tp.partition)
                elif first:
                    await self._index.cut(tp.topic, tp.partition, first)
        except RightsMissing:
            self._may_write = False

    async def add(self, new: NewLetters) -> None:
        """Store new letters."""
        if self._may_write:
            await self._index.add(new)


async def _read_whole(servers: BrokerAddress, wanted: Sequence[Position]) -> dict[Position, Letter]:
    decode = codec.decoder(DeadLetter)
    offsets: dict[TopicPartition, list[int]] = {}
    for place in wanted:
        offsets.setdefault(TopicPartition(place.topic, place.partition), []).append(place.offset)
    found = {}
    async for record in read_offsets(servers, offsets):
        place = Position(record.topic, record.partition, record.offset)
        found[place] = Letter(place, decode(record.value))
    return found


@asynccontextmanager
async def _open(runtime: Runtime, role: Role) -> AsyncIterator[LetterIndex]:
    index = LetterIndex(runtime.database_url, _APPLICATION, role=role)
    try:
        yield index
    finally:
        await index.close()
