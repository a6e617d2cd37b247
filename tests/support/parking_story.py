"""A raw partition and a normaliser that parks, with a store that survives its crashes.

For tests without servers.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterator, Sequence
from typing import Any

from runtime.dead_letters.headers import drop_headers, redrive_headers
from runtime.dead_letters.key_holds import KeyHold, ParkLimits
from runtime.dead_letters.park_store import ParkedRecord
from runtime.kafka.batches import RecordBatch
from runtime.kafka.records import RawRecord
from schemas.errors import RejectCode
from schemas.events import Position
from streams.normalise.mapping.normaliser import RejectedItem
from streams.normalise.parking import BatchSplit, Parking

TOPIC = "provider.hub88.raw.v1"
PARTITION = 3


class MemoryStore:
    """Hold store in memory that behaves as the tables and their statements do."""

    def __init__(self) -> None:
        self.holds: dict[int, KeyHold] = {}
        self.parked: dict[int, tuple[int, RawRecord]] = {}
        self.released: set[int] = set()

    async def load(self, topic: str, partition: int, from_offset: int) -> list[KeyHold]:
        found = []
        for hold in self.holds.values():
            if hold.until_offset is None or hold.until_offset >= from_offset:
                mine = [
                    record for owner, record in self.parked.values() if owner == hold.from_offset
                ]
                waiting = [record for record in mine if record.offset not in self.released]
                loaded = copy.copy(hold)
                loaded.waiting = len(waiting)
                loaded.waiting_bytes = sum(len(record.value or b"") for record in waiting)
                loaded.last_parked = max((record.offset for record in mine), default=-1)
                found.append(loaded)
        return found

    async def waiting(self, topic: str, partition: int, hold: KeyHold) -> list[ParkedRecord]:
        return [
            ParkedRecord(
                TOPIC,
                PARTITION,
                record.offset,
                record.timestamp,
                record.key,
                record.value,
                record.headers,
            )
            for offset, (owner, record) in sorted(self.parked.items())
            if owner == hold.from_offset and offset not in self.released
        ]

    async def save(
        self,
        topic: str,
        partition: int,
        holds: Sequence[KeyHold],
        parked: Sequence[tuple[KeyHold, RawRecord]],
        released: Sequence[int],
    ) -> None:
        for hold in holds:
            known = self.holds.get(hold.from_offset)
            if known is None:
                self.holds[hold.from_offset] = copy.copy(hold)
                continue
            if _last_move(hold) > _last_move(known):
                known.waits_for, known.code, known.moved_at = (
                    hold.waits_for,
                    hold.code,
                    hold.moved_at,
                )
            known.moves |= hold.moves
            if known.until_offset is None:
                known.until_offset, known.ended_by = hold.until_offset, hold.ended_by
            if known.full_from is None:
                known.full_from = hold.full_from
        for hold, record in parked:
            self.parked.setdefault(record.offset, (hold.from_offset, record))
        self.released |= {offset for offset in released if offset in self.parked}

    def still_waiting(self) -> list[int]:
        return sorted(self.parked.keys() - self.released)


def _last_move(hold: KeyHold) -> tuple[int, bool, int]:
    return hold.moved_at, hold.waits_for != hold.moved_at, hold.waits_for


class Story:
    """Story of one partition, whose log is a list of records.

    A value `bad-<n>` cannot be read until it is in `repaired`.
    """

    def __init__(
        self, limits: ParkLimits | None = None, providers: frozenset[str] = frozenset({"hub88"})
    ) -> None:
        self.limits = limits or ParkLimits()
        self.providers = providers
        self.log: list[ParkedRecord] = []
        self.store = MemoryStore()
        self.repaired: set[bytes] = set()
        self.emitted: list[tuple[int, bool]] = []
        """Offset of each event that was sent, in the order of sending, and whether it is delayed."""
        self.letters: dict[int, str] = {}
        self.next_offset = 0
        self.now_ms = 1_000_000
        self.assignment = 0
        self.parking = self._new_parking()

    def _new_parking(self) -> Parking:
        self.assignment += 1
        return Parking(self.store, self._read, self.providers, self.limits)

    def _read(self, record: RawRecord) -> list[Any]:
        value, headers = record.value or b"", dict(record.headers)
        if value.startswith(b"bad") and value not in self.repaired:
            return [RejectedItem(RejectCode.BAD_AMOUNT, "no", 0, (record.key or b"").decode())]
        if value.startswith(b"forged"):
            return [
                RejectedItem(RejectCode.BAD_SIGNATURE, "no", None, (record.key or b"").decode())
            ]
        return [(record.offset, "parked-behind" in headers or "redrive-of" in headers)]

    def append(
        self,
        key: str,
        value: str,
        headers: Sequence[tuple[str, bytes | None]] = (),
        after_ms: int = 1,
    ) -> int:
        self.now_ms += after_ms
        offset = len(self.log)
        self.log.append(
            ParkedRecord(
                TOPIC, PARTITION, offset, self.now_ms, key.encode(), value.encode(), headers
            )
        )
        return offset

    def redrive(self, offset: int) -> int:
        old = self.log[offset]
        headers = redrive_headers(old.headers, Position(TOPIC, PARTITION, offset), "ann", "why")
        return self.append((old.key or b"").decode(), (old.value or b"").decode(), headers)

    def drop(self, offset: int) -> int:
        return self.append(
            (self.log[offset].key or b"").decode(),
            "dropped",
            drop_headers(Position(TOPIC, PARTITION, offset), "ann", "why"),
        )

    def batch(self, count: int) -> RecordBatch:
        records = self.log[self.next_offset : self.next_offset + count]
        return RecordBatch(
            TOPIC,
            PARTITION,
            self.next_offset,
            self.next_offset + len(records),
            records,
            self.assignment,
        )

    def send(self, split: BatchSplit) -> None:
        for _, items in split.results:
            results: list[Any] = items  # of `_read`, which returns offsets instead of events
            self.emitted += [item for item in results if not isinstance(item, RejectedItem)]

    def publish_letters(self, split: BatchSplit) -> None:
        for record, items in split.results:
            for item in items:
                if isinstance(item, RejectedItem):
                    self.letters[record.offset] = item.code.value

    def crash(self, committed: int) -> None:
        """Start a successor at `committed`, which may be before the next offset."""
        self.parking = self._new_parking()
        self.next_offset = min(committed, self.next_offset)

    def steps(self, count: int) -> Iterator[None]:
        """Handle the next `count` records; the process may be killed between two steps."""
        batch = self.batch(count)
        split = asyncio.run(self.parking.split(batch))
        yield
        self.send(split)
        yield
        asyncio.run(self.parking.save_parked(split))
        yield
        self.publish_letters(split)
        yield
        asyncio.run(self.parking.save_released(split))
        yield
        self.next_offset = batch.next_offset

    def handle(self, count: int = 1_000) -> None:
        for _ in self.steps(count):
            pass

    def first_emissions(self, key: str) -> list[int]:
        """Return the offsets of a key's records in the order of their first emission."""
        seen: dict[int, None] = {}
        for offset, _ in self.emitted:
            if self.log[offset].key == key.encode():
                seen.setdefault(offset)
        return list(seen)
