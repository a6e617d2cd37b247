"""Which records wait behind a dead letter of their player: pure, and a function of the raw log
alone.

Every record of a raw partition is judged as of its own offset, so whoever reads a stretch again
judges it alike: after a kill, after a rebalance, beside a worker that does not know yet that it was
replaced. A jam begins at the rejected record and ends at a later record of the same partition: the
redrive or the drop of what it waits for, or the first record that the broker appended more than
`age_max_ms` after the rejected one. It is never deleted, only ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Final

import msgspec

from runtime.dead_letters.headers import DROP_MARK, DROP_OF, REDRIVE_OF, parse_position
from runtime.kafka.records import RawRecord

NO_OFFSET: Final = -1


class ParkLimits(msgspec.Struct, frozen=True):
    """How much may wait behind one dead letter, and for how long of the log's own time."""

    records_max: int = 1_000
    bytes_max: int = 16_000_000
    age_max_ms: int = 3_600_000


class Disposition(Enum):
    """What is to be done with a record."""

    READ = auto()
    """Nothing stands before it. If it is rejected, a jam may begin with it."""
    READ_ONLY = auto()
    """It began its jam or moved it once, and is read again: its items go out once more, and the jam
    stays as it is.
    """
    RELEASE = auto()
    """What its jam waits for: if it can be read now, the jam ends."""
    DROP = auto()
    """What its jam waits for was given up: the jam ends."""
    PARK = auto()
    FULL = auto()
    """It would have to wait, and too much is waiting."""


class KeyHold(msgspec.Struct):
    """A key whose records wait from `from_offset` on, until `until_offset` (not itself), or still.

    `waits_for` is the offset of the dead letter to redrive or drop: the first one, or one that was
    found among the waiting when they went on. `moved_at` is the offset of the record that made it
    so, and rises with every move. `waiting` and `waiting_bytes` count what is parked now;
    `last_parked` is the highest offset that ever was.
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


class PartitionHolds:
    """The jams of one raw partition, as one worker knows them."""

    def __init__(self, limits: ParkLimits, jams: Iterable[KeyHold] = ()) -> None:
        """Begin with what was stored; open jams, and those that ended where the reading begins or
        later.
        """
        self._limits = limits
        self._by_key: dict[bytes, list[KeyHold]] = {}
        self._open: dict[int, KeyHold] = {}
        self._oldest_ms: int | None = None
        for jam in sorted(jams, key=lambda jam: jam.from_offset):
            self._add(jam)

    def disposition(self, record: RawRecord) -> tuple[Disposition, KeyHold | None]:
        """What is to be done with a record, and the jam that says so."""
        jam = self._jam_of(record)
        if jam is None or record.offset == jam.until_offset:
            return Disposition.READ, None
        if record.offset == jam.waits_for:
            return Disposition.RELEASE, jam
        if record.offset in (jam.from_offset, jam.moved_at):
            return Disposition.READ_ONLY, jam
        headers = dict(record.headers)
        if _named_offset(headers.get(REDRIVE_OF), record) == jam.waits_for:
            return Disposition.RELEASE, jam
        if (
            record.value == DROP_MARK
            and _named_offset(headers.get(DROP_OF), record) == jam.waits_for
        ):
            return Disposition.DROP, jam
        return (Disposition.FULL if self._is_full(jam, record) else Disposition.PARK), jam

    def begin(self, record: RawRecord, code: str) -> KeyHold:
        """Let the later records of a rejected record's key wait for it."""
        jam = KeyHold(
            record.key or b"", record.offset, record.offset, record.offset, record.timestamp, code
        )
        self._add(jam)
        return jam

    def park(self, jam: KeyHold, record: RawRecord) -> None:
        """Count a record that waits; one that is read again is counted already."""
        if record.offset > jam.last_parked:
            jam.last_parked = record.offset
            jam.waiting += 1
            jam.waiting_bytes += len(record.value or b"")

    def move(self, jam: KeyHold, waits_for: int, moved_at: int, code: str) -> None:
        """Let a jam wait for another dead letter, which the record at `moved_at` brought to light."""
        jam.waits_for, jam.moved_at, jam.code = waits_for, moved_at, code

    def end(self, jam: KeyHold, offset: int, ended_by: str) -> None:
        """End a jam at a record; what waited has gone on."""
        jam.until_offset, jam.ended_by = offset, ended_by
        jam.waiting = jam.waiting_bytes = 0
        self._open.pop(jam.from_offset, None)
        self._oldest_ms = min((jam.since_ms for jam in self._open.values()), default=None)

    def expired_holds(self, record: RawRecord) -> list[KeyHold]:
        """Jams that have lasted for too long by the time that a record was appended, oldest first."""
        last_ms = record.timestamp - self._limits.age_max_ms
        if self._oldest_ms is None or self._oldest_ms >= last_ms:
            return []
        old = [
            b for b in self._open.values() if b.since_ms < last_ms and b.from_offset < record.offset
        ]
        return sorted(old, key=lambda jam: jam.from_offset)

    def forget_ended(self, next_offset: int) -> None:
        """Drop what can concern no record from `next_offset` on."""
        for key in list(self._by_key):
            jams = self._by_key[key]
            kept = [
                jam for jam in jams if jam.until_offset is None or jam.until_offset >= next_offset
            ]
            if kept:
                self._by_key[key] = kept
            else:
                del self._by_key[key]

    def _add(self, jam: KeyHold) -> None:
        self._by_key.setdefault(jam.key, []).append(jam)
        if jam.until_offset is None:
            self._open[jam.from_offset] = jam
            self._oldest_ms = (
                jam.since_ms if self._oldest_ms is None else min(self._oldest_ms, jam.since_ms)
            )

    def _jam_of(self, record: RawRecord) -> KeyHold | None:
        for jam in reversed(self._by_key.get(record.key or b"", ())):
            if jam.from_offset <= record.offset:
                is_over = jam.until_offset is not None and record.offset > jam.until_offset
                return None if is_over else jam
        return None

    def _is_full(self, jam: KeyHold, record: RawRecord) -> bool:
        if jam.full_from is None and record.offset > jam.last_parked:
            bytes_then = jam.waiting_bytes + len(record.value or b"")
            if jam.waiting >= self._limits.records_max or bytes_then > self._limits.bytes_max:
                jam.full_from = record.offset
        return jam.full_from is not None and record.offset >= jam.full_from


def _named_offset(raw: bytes | None, record: RawRecord) -> int | None:
    place = parse_position((raw or b"").decode("utf-8", "replace"))
    if place is None or (place.topic, place.partition) != (record.topic, record.partition):
        return None
    return place.offset
