"""Decides which records wait behind a dead letter of their key: pure, from the raw log alone.

Every record of a raw partition is evaluated as of its own offset, so every reading of a range gives
the same result: after a kill, after a rebalance, and at the same time as a worker that does not
know yet that it was replaced. A hold begins at the rejected record and ends at a later record of
the same partition: the redrive or the drop of what it waits for, or the first record that the
broker appended more than `age_max_ms` after the rejected one. A hold is never deleted, only ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

import msgspec

from runtime.dead_letters.headers import DROP_MARK, DROP_OF, REDRIVE_OF, parse_position
from runtime.kafka.records import RawRecord, has_readable_headers

NO_OFFSET: Final = -1


class ParkLimits(msgspec.Struct, frozen=True):
    """Limits for the records behind one dead letter: number, bytes, and wait in the log's time."""

    records_max: int = 1_000
    bytes_max: int = 16_000_000
    age_max_ms: int = 3_600_000


class Disposition(Enum):
    """Treatment of a record."""

    READ = auto()
    """It waits for nothing. If it is rejected, a hold may begin with it."""
    READ_ONLY = auto()
    """It began or moved its hold and is read again: its items go out once more, and the hold stays
    as it is."""
    RELEASE = auto()
    """What its hold waits for: if it can be read now, the hold ends."""
    DROP = auto()
    """The mark that what its hold waits for was given up: the hold ends."""
    PARK = auto()
    """It waits behind its hold."""
    FULL = auto()
    """It would have to wait, and too much is waiting."""


class KeyHold(msgspec.Struct):
    """A key whose records wait from `from_offset` on, and before `until_offset` once that is known.

    `waits_for` is the offset of the dead letter to redrive or drop: the first one, or one that was
    found among the waiting records when they were released. `moved_at` is the offset of the record
    that caused the change, and rises with every move. `moves` are the offsets of all such records:
    none of them waited, so none may wait when it is read again. `waiting` and `waiting_bytes` count
    what is parked now; `last_parked` is the highest offset that was ever parked. The field names
    are those of the SQL parameters in `sql/parking.sql`.
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
    last_parked: int = NO_OFFSET
    moves: frozenset[int] = frozenset()


class PartitionHolds:
    """The holds of one raw partition, as one worker knows them."""

    def __init__(self, limits: ParkLimits, holds: Iterable[KeyHold] = ()) -> None:
        """Begin with the stored holds that can concern the first record or a later one."""
        self._limits = limits
        self._by_key: dict[bytes, list[KeyHold]] = {}
        self._open: dict[int, KeyHold] = {}
        self._oldest_ms: int | None = None
        for hold in sorted(holds, key=lambda hold: hold.from_offset):
            self._add(hold)

    def disposition(self, record: RawRecord) -> tuple[Disposition, KeyHold | None]:
        """Return what to do with a record, and the hold that decides it."""
        hold = self._hold_of(record)
        # Without its headers, a record cannot be kept as it is: it is read, and rejected, at once.
        if hold is None or record.offset == hold.until_offset or not has_readable_headers(record):
            return Disposition.READ, None
        if record.offset == hold.waits_for:
            return Disposition.RELEASE, hold
        if record.offset == hold.from_offset or record.offset in hold.moves:
            return Disposition.READ_ONLY, hold
        headers = dict(record.headers)
        if _referenced_offset(headers.get(REDRIVE_OF), record) == hold.waits_for:
            return Disposition.RELEASE, hold
        is_mark = record.value == DROP_MARK
        if is_mark and _referenced_offset(headers.get(DROP_OF), record) == hold.waits_for:
            return Disposition.DROP, hold
        return (Disposition.FULL if self._is_full(hold, record) else Disposition.PARK), hold

    def begin(self, record: RawRecord, code: str) -> KeyHold:
        """Let the later records of a rejected record's key wait for it."""
        hold = KeyHold(
            record.key or b"", record.offset, record.offset, record.offset, record.timestamp, code
        )
        self._add(hold)
        return hold

    def park(self, hold: KeyHold, record: RawRecord) -> None:
        """Count a record that waits; one that is read again was counted before."""
        if record.offset > hold.last_parked:
            hold.last_parked = record.offset
            hold.waiting += 1
            hold.waiting_bytes += len(record.value or b"")

    def move(self, hold: KeyHold, waits_for: int, moved_at: int, code: str) -> None:
        """Let a hold wait for another dead letter, which the record at `moved_at` revealed."""
        hold.waits_for, hold.moved_at, hold.code = waits_for, moved_at, code
        hold.moves |= {moved_at}

    def end(self, hold: KeyHold, offset: int, ended_by: str) -> None:
        """End a hold at a record; what waited is released."""
        hold.until_offset, hold.ended_by = offset, ended_by
        hold.waiting = hold.waiting_bytes = 0
        self._open.pop(hold.from_offset, None)
        self._oldest_ms = min((hold.since_ms for hold in self._open.values()), default=None)

    def expired_holds(self, record: RawRecord) -> list[KeyHold]:
        """Return the holds that are too old when a record is appended, oldest first."""
        last_ms = record.timestamp - self._limits.age_max_ms
        if self._oldest_ms is None or self._oldest_ms >= last_ms:
            return []
        old = [
            hold
            for hold in self._open.values()
            if hold.since_ms < last_ms and hold.from_offset < record.offset
        ]
        return sorted(old, key=lambda hold: hold.from_offset)

    def forget_ended(self, next_offset: int) -> None:
        """Remove what can concern no record from `next_offset` on."""
        for key in list(self._by_key):
            holds = self._by_key[key]
            kept = [
                hold
                for hold in holds
                if hold.until_offset is None or hold.until_offset >= next_offset
            ]
            if kept:
                self._by_key[key] = kept
            else:
                del self._by_key[key]

    def _add(self, hold: KeyHold) -> None:
        self._by_key.setdefault(hold.key, []).append(hold)
        if hold.until_offset is None:
            self._open[hold.from_offset] = hold
            oldest_ms = self._oldest_ms
            self._oldest_ms = hold.since_ms if oldest_ms is None else min(oldest_ms, hold.since_ms)

    def _hold_of(self, record: RawRecord) -> KeyHold | None:
        for hold in reversed(self._by_key.get(record.key or b"", ())):
            if hold.from_offset <= record.offset:
                is_over = hold.until_offset is not None and record.offset > hold.until_offset
                return None if is_over else hold
        return None

    def _is_full(self, hold: KeyHold, record: RawRecord) -> bool:
        if hold.full_from is None and record.offset > hold.last_parked:
            bytes_then = hold.waiting_bytes + len(record.value or b"")
            if hold.waiting >= self._limits.records_max or bytes_then > self._limits.bytes_max:
                hold.full_from = record.offset
        return hold.full_from is not None and record.offset >= hold.full_from


def _referenced_offset(raw: bytes | None, record: RawRecord) -> int | None:
    """Return the offset that a header names, if it names the record's own partition."""
    position = parse_position((raw or b"").decode("utf-8", "replace"))
    if position is None or (position.topic, position.partition) != (record.topic, record.partition):
        return None
    return position.offset
