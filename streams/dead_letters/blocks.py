"""Which records wait behind a dead letter of their player: pure, and a function of the raw log alone.

Every record of a raw partition is judged as of its own offset, so whoever reads a stretch again judges it alike: after
a kill, after a rebalance, beside a worker that does not know yet that it was replaced. A block begins at the rejected
record and ends at a later record of the same partition: the redrive or the drop of what it waits for, or the first
record that the broker appended more than `age_max_ms` after the rejected one. It is never deleted, only ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

import msgspec

from streams.dead_letters.headers import DROP_OF, REDRIVE_OF, parse_place
from streams.providers.dialect import RawRecord

NEVER: Final = -1


class Limits(msgspec.Struct, frozen=True):
    """How much may wait behind one dead letter, and for how long of the log's own time."""

    records_max: int = 1_000
    bytes_max: int = 16_000_000
    age_max_ms: int = 3_600_000


class Fate(Enum):
    """What is to be done with a record."""

    READ = auto()
    """Nothing stands before it. If it is rejected, a block may begin with it."""
    READ_ONLY = auto()
    """It moved its block once and is read again: its items go out once more, and the block stays as it is."""
    RELEASE = auto()
    """What its block waits for: if it can be read now, the block ends."""
    DROP = auto()
    """What its block waits for was given up: the block ends."""
    PARK = auto()
    FULL = auto()
    """It would have to wait, and too much is waiting."""


class Block(msgspec.Struct):
    """A key whose records wait from `from_offset` on, until `until_offset` (not itself), or still.

    `waits_for` is the offset of the dead letter to redrive or drop: the first one, or one that was found among the
    waiting when they went on. `moved_at` is the offset of the record that made it so, and rises with every move.
    `waiting` and `waiting_bytes` count what is parked now; `last_parked` is the highest offset that ever was.
    """

    key: bytes
    from_offset: int
    waits_for: int
    moved_at: int
    since_ms: int
    code: str
    until_offset: int | None = None
    ended_by: str | None = None
    full_from: int | None = None
    waiting: int = 0
    waiting_bytes: int = 0
    last_parked: int = NEVER


class Lane:
    """The blocks of one raw partition, as one worker knows them."""

    def __init__(self, limits: Limits, blocks: Iterable[Block] = ()) -> None:
        """Begin with what was stored; open blocks, and those that ended where the reading begins or later."""
        self._limits = limits
        self._by_key: dict[bytes, list[Block]] = {}
        self._open: dict[int, Block] = {}
        self._oldest_ms: int | None = None
        for block in sorted(blocks, key=lambda block: block.from_offset):
            self._add(block)

    @property
    def is_clear(self) -> bool:
        """Whether no record can have to wait."""
        return not self._by_key

    def fate(self, record: RawRecord) -> tuple[Fate, Block | None]:
        """What is to be done with a record, and the block that says so."""
        block = self._block_of(record)
        if block is None or record.offset == block.until_offset:
            return Fate.READ, None
        if record.offset == block.waits_for:
            return Fate.RELEASE, block
        if record.offset == block.moved_at:
            return Fate.READ_ONLY, block
        headers = dict(record.headers)
        if _named_offset(headers.get(REDRIVE_OF), record) == block.waits_for:
            return Fate.RELEASE, block
        if _named_offset(headers.get(DROP_OF), record) == block.waits_for:
            return Fate.DROP, block
        return (Fate.FULL if self._is_full(block, record) else Fate.PARK), block

    def begin(self, record: RawRecord, code: str) -> Block:
        """Let the later records of a rejected record's key wait for it."""
        block = Block(record.key or b"", record.offset, record.offset, record.offset, record.timestamp, code)
        self._add(block)
        return block

    def park(self, block: Block, record: RawRecord) -> None:
        """Count a record that waits; one that is read again is counted already."""
        if record.offset > block.last_parked:
            block.last_parked = record.offset
            block.waiting += 1
            block.waiting_bytes += len(record.value or b"")

    def move(self, block: Block, waits_for: int, moved_at: int, code: str) -> None:
        """Let a block wait for another dead letter, which the record at `moved_at` brought to light."""
        block.waits_for, block.moved_at, block.code = waits_for, moved_at, code

    def end(self, block: Block, offset: int, ended_by: str) -> None:
        """End a block at a record; what waited has gone on."""
        block.until_offset, block.ended_by = offset, ended_by
        block.waiting = block.waiting_bytes = 0
        self._open.pop(block.from_offset, None)
        self._oldest_ms = min((block.since_ms for block in self._open.values()), default=None)

    def expired(self, record: RawRecord) -> list[Block]:
        """Blocks that have waited for too long by the time that a record was appended, oldest first."""
        last_ms = record.timestamp - self._limits.age_max_ms
        if self._oldest_ms is None or self._oldest_ms >= last_ms:
            return []
        old = [b for b in self._open.values() if b.since_ms < last_ms and b.from_offset < record.offset]
        return sorted(old, key=lambda block: block.from_offset)

    def forget_ended(self, next_offset: int) -> None:
        """Drop what can concern no record from `next_offset` on."""
        for key in list(self._by_key):
            blocks = self._by_key[key]
            kept = [block for block in blocks if block.until_offset is None or block.until_offset >= next_offset]
            if kept:
                self._by_key[key] = kept
            else:
                del self._by_key[key]

    def _add(self, block: Block) -> None:
        self._by_key.setdefault(block.key, []).append(block)
        if block.until_offset is None:
            self._open[block.from_offset] = block
            self._oldest_ms = block.since_ms if self._oldest_ms is None else min(self._oldest_ms, block.since_ms)

    def _block_of(self, record: RawRecord) -> Block | None:
        for block in reversed(self._by_key.get(record.key or b"", ())):
            if block.from_offset <= record.offset:
                is_over = block.until_offset is not None and record.offset > block.until_offset
                return None if is_over else block
        return None

    def _is_full(self, block: Block, record: RawRecord) -> bool:
        if block.full_from is None and record.offset > block.last_parked:
            bytes_then = block.waiting_bytes + len(record.value or b"")
            if block.waiting >= self._limits.records_max or bytes_then > self._limits.bytes_max:
                block.full_from = record.offset
        return block.full_from is not None and record.offset >= block.full_from


def _named_offset(raw: bytes | None, record: RawRecord) -> int | None:
    place = parse_place((raw or b"").decode("utf-8", "replace"))
    if place is None or (place.topic, place.partition) != (record.topic, record.partition):
        return None
    return place.offset
